/** The plugin and programs that the native tests share. */

import { findPlugin } from "../../src/config/mod.ts";
import { type Backend, openPjrtBackend } from "../../src/runtime/mod.ts";

/** The CPU plugin: `REACTANT_PJRT_PLUGIN`, else the one that setup fetched. */
export function cpuPlugin(): string {
  return findPlugin("cpu", Deno.env.get("REACTANT_PJRT_PLUGIN") ?? "");
}

/** A backend on the CPU plugin. */
export function openCpu(): Promise<Backend> {
  return openPjrtBackend({ pluginPath: cpuPlugin(), platform: "cpu" });
}

const encoder = new TextEncoder();

/** A module whose `main` is `signature { body }`, in StableHLO text. */
export function mlir(signature: string, body: string): Uint8Array {
  return encoder.encode(
    `module @test { func.func public @main${signature} {\n${body}\n} }`,
  );
}

/** The program of `testBackendContract`. */
export const ADD_ROW = mlir(
  "(%x: tensor<2x3xf32>, %w: tensor<3xf32>) -> (tensor<2x3xf32>, tensor<2x3xf32>)",
  `  %b = stablehlo.broadcast_in_dim %w, dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
  %sum = stablehlo.add %x, %b : tensor<2x3xf32>
  %double = stablehlo.add %x, %x : tensor<2x3xf32>
  return %sum, %double : tensor<2x3xf32>, tensor<2x3xf32>`,
);

/**
 * Matrix products one after the other: `(x: FP32[n,n]) -> FP32[n,n]`, `x` times itself `count` times.
 * Long enough to be found running.
 */
export function powers(n: number, count: number): Uint8Array {
  const type = `tensor<${n}x${n}xf32>`;
  const steps = Array.from(
    { length: count },
    (_, step) =>
      `  %s${step + 1} = stablehlo.dot_general %s${step}, %x, contracting_dims = [1] x [0] ` +
      `: (${type}, ${type}) -> ${type}`,
  );
  return mlir(
    `(%x: ${type}) -> ${type}`,
    [`  %s0 = stablehlo.add %x, %x : ${type}`, ...steps, `  return %s${count} : ${type}`].join(
      "\n",
    ),
  );
}
