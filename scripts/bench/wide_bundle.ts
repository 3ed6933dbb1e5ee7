/** A model that moves bytes and does next to nothing with them. */

import { safetensors, stablehlo, writeBundle } from "../../tests/harness/bundle_builder.ts";

/** Elements of a row: 1 MiB of FP32. */
export const WIDE = 1 << 18;

/** `x` FP32 [1, 262144] to `y`, negated: 1 MiB in, 1 MiB out, and next to no work between. */
export function writeWideBundle(root: string): Promise<string> {
  const tensor = (name: string) => ({ name, dtype: "f32", shape: "na", dims: { a: WIDE } });
  const type = `1x${WIDE}xf32`;
  return writeBundle(root, "wide", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
      batching: { compiled_batch_sizes: [1] },
    }),
    "model.b1.mlir": stablehlo([type], [type], [
      `%0 = stablehlo.negate %arg0 : tensor<${type}>`,
    ], ["%0"]),
    "weights.safetensors": safetensors([]),
  });
}
