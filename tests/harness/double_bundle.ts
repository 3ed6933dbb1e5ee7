/** A model whose answer is its input, doubled: anyone can tell whether an element is right. */

import { safetensors, stablehlo, writeBundle } from "./bundle_builder.ts";

export interface DoubleOptions {
  /** As a manifest and StableHLO both call it. */
  readonly dtype: "i32" | "f32";
  /** Elements of a row. */
  readonly width: number;
  /** Compiled batch sizes. */
  readonly sizes: readonly number[];
}

/** Writes a model from `x` [n, width] to `y` of the same shape. */
export async function writeDouble(
  root: string,
  name: string,
  { dtype, width, sizes }: DoubleOptions,
): Promise<void> {
  const tensor = (tensorName: string) => ({
    name: tensorName,
    dtype,
    shape: "nd",
    dims: { d: width },
  });
  const program = (size: number) => {
    const type = `${size}x${width}x${dtype}`;
    return stablehlo([type], [type], [
      `%0 = stablehlo.add %arg0, %arg0 : tensor<${type}>`,
    ], ["%0"]);
  };
  await writeBundle(root, name, {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
      batching: { compiled_batch_sizes: sizes },
    }),
    ...Object.fromEntries(sizes.map((size) => [`model.b${size}.mlir`, program(size)])),
    "weights.safetensors": safetensors([]),
  });
}
