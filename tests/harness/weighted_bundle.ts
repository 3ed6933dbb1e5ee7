/** Bundles that are mostly weights, and whose answers tell which weights they were made with. */

import assert from "node:assert/strict";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { type BundleFiles, float32Bytes, safetensors, stablehlo } from "./bundle_builder.ts";
import type { TestClient } from "./client.ts";
import type { TestServer } from "./server.ts";

const SIZES = [1, 4];

/** Bytes of the weights of one of these bundles. */
export function weightBytesOf(elements: number): number {
  return elements * 4;
}

/** y = x + the first and the last weight, which are `value` and `value + 0.5`; FP32 [n, 2]. */
export function weightedBundle(value: number, elements: number): BundleFiles {
  return {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: 2 } }],
      executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: 2 } }],
      batching: { compiled_batch_sizes: SIZES },
    }),
    ...Object.fromEntries(SIZES.map((size) => [`model.b${size}.mlir`, program(size, elements)])),
    "weights.safetensors": weightedFile(value, elements),
  };
}

/** The weights of `weightedBundle`. */
export function weightedFile(value: number, elements: number): Uint8Array {
  const values = new Float32Array(elements).fill(value / 2);
  values[0] = value;
  values[elements - 1] = value + 0.5;
  const data = new Uint8Array(values.buffer);
  return safetensors([{ name: "w", dtype: "F32", shape: [elements], data }]);
}

/** A meta that sends its input through several models, one after the other. */
export function chainBundle(calls: readonly string[]): BundleFiles {
  const tensor = (name: string) => ({ name, dtype: "f32", shape: "na", dims: { a: 2 } });
  return {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      kind: "meta",
      meta: { calls },
      client_inputs: [tensor("x")],
      client_outputs: [tensor("y")],
    }),
    "model.ts": `register_meta("chain", async (inputs, call) => {
  for (const name of ${JSON.stringify(calls)}) {
    const [y] = await call(name, [{ ...inputs[0], name: "x" }]);
    inputs = [y];
  }
  return [{ ...inputs[0], name: "y" }];
});`,
  };
}

/**
 * Asks one row of a model, or of a chain of so many models.
 * @returns the value of its weights, or the sum of all
 */
export async function askValue(
  { inference }: TestClient,
  modelName: string,
  x: number,
  models = 1,
): Promise<number> {
  const { outputs } = await inference.infer({ modelName, inputs: [input(x)] });
  const [first, last] = new Float32Array(outputs[0]!.data.slice().buffer);
  assert.equal(last! - first!, models / 2, `${modelName} ran on weights of two models`);
  return first! - x;
}

/** The value of a series without labels of its own. */
export async function metric(server: TestServer, name: string): Promise<number> {
  const { body } = await server.http("/metrics");
  const line = body.split("\n").find((line) => line.startsWith(`${name}{`));
  assert.ok(line, `${name} is not among the metrics`);
  return Number(line.split(" ").at(-1));
}

function input(x: number): NamedTensor {
  return { name: "x", datatype: "FP32", shape: [1, 2], data: float32Bytes([x, x]) };
}

function program(batch: number, elements: number): string {
  const [x, w, pair] = [`${batch}x2xf32`, `${elements}xf32`, "2xf32"];
  const slice = (from: number) =>
    `stablehlo.slice %arg1 [${from}:${from + 1}] : (tensor<${w}>) -> tensor<1xf32>`;
  return stablehlo([x, w], [x], [
    `%0 = ${slice(0)}`,
    `%1 = ${slice(elements - 1)}`,
    `%2 = stablehlo.concatenate %0, %1, dim = 0 : (tensor<1xf32>, tensor<1xf32>) -> tensor<${pair}>`,
    `%3 = stablehlo.broadcast_in_dim %2, dims = [1] : (tensor<${pair}>) -> tensor<${x}>`,
    `%4 = stablehlo.add %arg0, %3 : tensor<${x}>`,
  ], ["%4"]);
}
