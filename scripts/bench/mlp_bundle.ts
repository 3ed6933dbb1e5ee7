/** The multilayer perceptron that benchmarks serve: 784 → 512 (or as told) → 10, FP32, random weights. */

import { fileURLToPath } from "node:url";
import { safetensors, stablehlo, writeBundle } from "../../tests/harness/bundle_builder.ts";

const INPUTS = 784;
const OUTPUTS = 10;

/** Bytes of `count` FP32 values in [-0.05, 0.05) from a fixed seed (a 32-bit linear congruence). */
export function randomFloats(count: number, seed: number): Uint8Array {
  const values = new Float32Array(count);
  let state = seed >>> 0;
  for (let index = 0; index < count; index++) {
    // Numerical Recipes' constants.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[index] = state / 2 ** 32 * 0.1 - 0.05;
  }
  return new Uint8Array(values.buffer);
}

function program(batch: number, hidden: number): string {
  const [x, w0, h, w1, y] = [
    `${batch}x${INPUTS}xf32`,
    `${INPUTS}x${hidden}xf32`,
    `${batch}x${hidden}xf32`,
    `${hidden}x${OUTPUTS}xf32`,
    `${batch}x${OUTPUTS}xf32`,
  ];
  const dot = (a: string, b: string, types: [string, string, string]) =>
    `stablehlo.dot_general ${a}, ${b}, contracting_dims = [1] x [0] : ` +
    `(tensor<${types[0]}>, tensor<${types[1]}>) -> tensor<${types[2]}>`;
  const bias = (b: string, from: number, to: string) =>
    `stablehlo.broadcast_in_dim ${b}, dims = [1] : (tensor<${from}xf32>) -> tensor<${to}>`;
  return stablehlo([x, w0, `${hidden}xf32`, w1, `${OUTPUTS}xf32`], [y], [
    `%0 = ${dot("%arg0", "%arg1", [x, w0, h])}`,
    `%1 = ${bias("%arg2", hidden, h)}`,
    `%2 = stablehlo.add %0, %1 : tensor<${h}>`,
    `%3 = stablehlo.constant dense<0.0> : tensor<${h}>`,
    `%4 = stablehlo.maximum %2, %3 : tensor<${h}>`,
    `%5 = ${dot("%4", "%arg3", [h, w1, y])}`,
    `%6 = ${bias("%arg4", OUTPUTS, y)}`,
    `%7 = stablehlo.add %5, %6 : tensor<${y}>`,
  ], ["%7"]);
}

/** Writes the bundle `mlp`, compiled for `sizes` with `hidden` units, into a folder; gives its directory. */
export function writeMlpBundle(
  root: string,
  sizes: readonly number[] = [1],
  hidden = 512,
): Promise<string> {
  const tensor = (name: string, shape: number[], seed: number) => ({
    name,
    dtype: "F32",
    shape,
    data: randomFloats(shape.reduce((a, b) => a * b, 1), seed),
  });
  return writeBundle(root, "mlp", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: INPUTS } }],
      executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: OUTPUTS } }],
      batching: { compiled_batch_sizes: sizes },
    }),
    ...Object.fromEntries(sizes.map((size) => [`model.b${size}.mlir`, program(size, hidden)])),
    "weights.safetensors": safetensors([
      tensor("w0", [INPUTS, hidden], 1),
      tensor("b0", [hidden], 2),
      tensor("w1", [hidden, OUTPUTS], 3),
      tensor("b1", [OUTPUTS], 4),
    ]),
  });
}

/** One request's input: `rows` random images. */
export function mlpInput(rows = 1) {
  return {
    name: "x",
    datatype: "FP32" as const,
    shape: [rows, INPUTS],
    data: randomFloats(rows * INPUTS, 5),
  };
}

/** The CPU plugin that `scripts/setup` fetched. */
export const CPU_PLUGIN = fileURLToPath(
  new URL("../../.cache/pjrt/xla_cpu_pjrt.so", import.meta.url),
);
