/** The models of `bench weights`: two dense layers, nearly all of whose bytes are the first one's kernel. */

import type { NamedTensor } from "../../src/tensor/mod.ts";
import { type BundleFiles, safetensors, stablehlo } from "../../tests/harness/bundle_builder.ts";
import { randomFloats } from "./mlp_bundle.ts";

const INPUTS = 512;
const HIDDEN = 4096;
const OUTPUTS = 8;

export interface LayerBundle {
  readonly name: string;
  readonly files: BundleFiles;
  readonly weightBytes: number;
}

/** Number `index`, for batches of `rows` and of four times as many. All have the same programs. */
export function layerBundle(index: number, rows: number): LayerBundle {
  const sizes = [rows, 4 * rows];
  const kernel = randomFloats(INPUTS * HIDDEN, index + 1);
  const head = randomFloats(HIDDEN * OUTPUTS, index + 1001);
  return {
    name: `layer${String(index).padStart(2, "0")}`,
    weightBytes: kernel.length + head.length,
    files: {
      "manifest.yaml": JSON.stringify({
        format_version: "2.0",
        axis_order: "row_major",
        executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: INPUTS } }],
        executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: OUTPUTS } }],
        batching: { compiled_batch_sizes: sizes },
      }),
      ...Object.fromEntries(sizes.map((size) => [`model.b${size}.mlir`, program(size)])),
      "weights.safetensors": safetensors([
        { name: "kernel", dtype: "F32", shape: [INPUTS, HIDDEN], data: kernel },
        { name: "head", dtype: "F32", shape: [HIDDEN, OUTPUTS], data: head },
      ]),
    },
  };
}

/** One request's input. */
export function layerInput(rows: number): NamedTensor {
  const shape = [rows, INPUTS];
  return { name: "x", datatype: "FP32", shape, data: randomFloats(rows * INPUTS, 7) };
}

function program(batch: number): string {
  const [x, kernel, h, head, y] = [
    `${batch}x${INPUTS}xf32`,
    `${INPUTS}x${HIDDEN}xf32`,
    `${batch}x${HIDDEN}xf32`,
    `${HIDDEN}x${OUTPUTS}xf32`,
    `${batch}x${OUTPUTS}xf32`,
  ];
  const dot = (a: string, b: string, types: [string, string, string]) =>
    `stablehlo.dot_general ${a}, ${b}, contracting_dims = [1] x [0] : ` +
    `(tensor<${types[0]}>, tensor<${types[1]}>) -> tensor<${types[2]}>`;
  return stablehlo([x, kernel, head], [y], [
    `%0 = ${dot("%arg0", "%arg1", [x, kernel, h])}`,
    `%1 = stablehlo.tanh %0 : tensor<${h}>`,
    `%2 = ${dot("%1", "%arg2", [h, head, y])}`,
  ], ["%2"]);
}
