/**
 * Bundles whose answers tell what made them: which program, which weights, which hook and which manifest.
 * An answer whose parts never were in one bundle together is an answer of a mixed model.
 */

import { join } from "node:path";
import type { InferAnswer } from "../../src/client/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { type BundleFiles, float32Bytes, safetensors, stablehlo } from "./bundle_builder.ts";

/** What an answer was made with. `hook` 0: none. */
export interface Stamp {
  readonly program: number;
  readonly weights: number;
  readonly hook: number;
  readonly manifest: number;
}

const SIZES = [1, 4];

/** Files of a bundle with a stamp; those of two stamps differ where the stamps do. */
export function stampedBundle(stamp: Stamp): BundleFiles {
  return {
    "manifest.yaml": manifestOf(stamp.manifest),
    ...Object.fromEntries(
      SIZES.map((size) => [`model.b${size}.mlir`, programOf(stamp.program, size)]),
    ),
    "weights.safetensors": safetensors([
      { name: "w", dtype: "F32", shape: [1], data: float32Bytes([stamp.weights]) },
    ]),
    ...(stamp.hook === 0 ? {} : { "model.ts": hookOf(stamp.hook) }),
  };
}

/** A meta that calls one stamped model twice and gives both answers, with its own number. */
export function stampedMeta(callee: string, hook: number): BundleFiles {
  return {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      kind: "meta",
      meta: { calls: [callee] },
      client_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: 2 } }],
      client_outputs: [{ name: "z", dtype: "f32", shape: "na", dims: { a: 13 } }],
    }),
    "model.ts": `register_meta("any", async (inputs, call) => {
  const [rows] = inputs[0].shape;
  const parts = [];
  for (let i = 0; i < 2; i++) {
    const [part] = await call(${JSON.stringify(callee)}, inputs);
    parts.push([new Float32Array(part.data.slice().buffer), Number(part.name.slice(1))]);
  }
  const z = new Float32Array(rows * 13);
  for (let row = 0; row < rows; row++) {
    parts.forEach(([values, manifest], i) => {
      z.set(values.subarray(row * 5, row * 5 + 5), row * 13 + i * 6);
      z[row * 13 + i * 6 + 5] = manifest;
    });
    z[row * 13 + 12] = ${hook};
  }
  return [{ name: "z", datatype: "FP32", shape: [rows, 13], data: new Uint8Array(z.buffer) }];
});`,
  };
}

/** What a client sends: `[rows, 2]`, the second column zero. */
export function stampedInput(rows: number, value: number): NamedTensor {
  const data = float32Bytes(
    Array.from({ length: rows * 2 }, (_, i) => i % 2 === 0 ? value + i : 0),
  );
  return { name: "x", datatype: "FP32", shape: [rows, 2], data };
}

/**
 * The stamp of an answer to `stampedInput(rows, value)`.
 * @throws {Error} when rows disagree, or are not those that were sent
 */
export function stampOf({ outputs }: InferAnswer, rows: number, value: number): Stamp {
  const { name, data } = outputs[0]!;
  const values = new Float32Array(data.slice().buffer);
  const [stamp, ...more] = Array.from({ length: rows }, (_, row) => {
    const [x, before, weights, program, after] = values.subarray(row * 5, row * 5 + 5);
    if (x !== Math.fround(value + 2 * row)) throw new Error(`row ${row} of another request: ${x}`);
    if (before !== after) throw new Error(`preprocess of hook ${before}, postprocess of ${after}`);
    return { program: program!, weights: weights!, hook: before!, manifest: Number(name.slice(1)) };
  });
  const differing = more.find((one) => textOf(one) !== textOf(stamp!));
  if (differing) throw new Error(`rows of ${textOf(stamp!)} and of ${textOf(differing)}`);
  return stamp!;
}

/** The same of a meta's answer: of the model it called, twice, and the meta's own number. */
export function metaStampOf(
  { outputs }: InferAnswer,
  value: number,
): { stamp: Stamp; hook: number } {
  const z = new Float32Array(outputs[0]!.data.slice().buffer);
  const [first, second] = [0, 6].map((at): Stamp => {
    if (z[at] !== Math.fround(value)) throw new Error(`the row of another request: ${z[at]}`);
    return { program: z[at + 3]!, weights: z[at + 2]!, hook: z[at + 1]!, manifest: z[at + 5]! };
  });
  if (textOf(first!) !== textOf(second!)) {
    throw new Error(`stages of ${textOf(first!)} and of ${textOf(second!)}`);
  }
  return { stamp: first!, hook: z[12]! };
}

/** A stamp as text, to compare and to print. */
export function textOf({ program, weights, hook, manifest }: Stamp): string {
  return `p${program} w${weights} h${hook} m${manifest}`;
}

/** Replaces files of a bundle the way a careful publisher does: each by a rename. */
export function publish(directory: string, files: BundleFiles): void {
  for (const [name, content] of Object.entries(files)) {
    const temporary = join(directory, `.${name}.new`);
    if (typeof content === "string") Deno.writeTextFileSync(temporary, content);
    else Deno.writeFileSync(temporary, content);
    Deno.renameSync(temporary, join(directory, name));
  }
}

function manifestOf(version: number): string {
  const output = { name: `y${version}`, dtype: "f32", shape: "na", dims: { a: 5 } };
  return JSON.stringify({
    format_version: "2.0",
    axis_order: "row_major",
    executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: 2 } }],
    executable_outputs: [output],
    batching: { compiled_batch_sizes: SIZES },
  });
}

/** y = x, the weight, the program's number, and a column that is the hook's to fill. */
function programOf(version: number, batch: number): string {
  const [x, one, y] = [`${batch}x2xf32`, `${batch}x1xf32`, `${batch}x5xf32`];
  return stablehlo([x, "1xf32"], [y], [
    `%0 = stablehlo.broadcast_in_dim %arg1, dims = [1] : (tensor<1xf32>) -> tensor<${one}>`,
    `%1 = stablehlo.constant dense<${version}.0> : tensor<${one}>`,
    `%2 = stablehlo.constant dense<0.0> : tensor<${one}>`,
    `%3 = stablehlo.concatenate %arg0, %0, %1, %2, dim = 1 : (tensor<${x}>, tensor<${one}>, ` +
    `tensor<${one}>, tensor<${one}>) -> tensor<${y}>`,
  ], ["%3"]);
}

/** Both hooks leave their number: one in what the program gets, one in what it gave. */
function hookOf(version: number): string {
  return `const stamp = (tensors, width, column) => {
  const values = new Float32Array(tensors[0].data.slice().buffer);
  for (let at = column; at < values.length; at += width) values[at] = ${version};
  return [{ ...tensors[0], data: new Uint8Array(values.buffer) }];
};
register_model("any", {
  preprocess: (inputs) => stamp(inputs, 2, 1),
  postprocess: (outputs) => stamp(outputs, 5, 4),
});`;
}
