/** A model whose answer is its input, doubled: anyone can tell whether an element is right. */

import { rowMajorBundle, stablehlo, writeBundle } from "./bundle_builder.ts";

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
  options: DoubleOptions,
): Promise<void> {
  const program = (type: string) =>
    stablehlo([type], [type], [`%0 = stablehlo.add %arg0, %arg0 : tensor<${type}>`], ["%0"]);
  await writeBundle(
    root,
    name,
    rowMajorBundle({ inputs: ["x"], outputs: ["y"], ...options, program }),
  );
}
