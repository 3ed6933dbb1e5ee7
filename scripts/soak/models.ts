/** What a soak serves: models whose weights matter, and one of every other way of being served. */

import { writeLoadBundles } from "../../tests/harness/load/models.ts";
import { denseProgram, safetensors, writeBundle } from "../../tests/harness/bundle_builder.ts";
import { randomFloats } from "../bench/mlp_bundle.ts";

const INPUTS = 512;
const OUTPUTS = 1024;
const SIZES = [1, 4];

/** Weights of each heavy model: a kernel and a bias, FP32. */
export const HEAVY_BYTES = (INPUTS * OUTPUTS + OUTPUTS) * 4;

/** Writes `count` dense layers of `HEAVY_BYTES` each, and the small models of the mixed load. */
export async function writeSoakModels(folder: string, count: number): Promise<void> {
  await writeLoadBundles(folder);
  for (let index = 0; index < count; index++) {
    const tensor = (name: string, shape: number[], seed: number) => ({
      name,
      dtype: "F32",
      shape,
      data: randomFloats(shape.reduce((a, b) => a * b, 1), seed),
    });
    await writeBundle(folder, `heavy${index}`, {
      "manifest.yaml": JSON.stringify({
        format_version: "2.0",
        axis_order: "row_major",
        executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: INPUTS } }],
        executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: OUTPUTS } }],
        batching: { compiled_batch_sizes: SIZES },
      }),
      ...Object.fromEntries(SIZES.map((batch) => [
        `model.b${batch}.mlir`,
        denseProgram({ batch, inputs: INPUTS, outputs: OUTPUTS }),
      ])),
      "weights.safetensors": safetensors([
        tensor("kernel", [INPUTS, OUTPUTS], 2 * index + 1),
        tensor("bias", [OUTPUTS], 2 * index + 2),
      ]),
    });
  }
}
