/**
 * Writes bundles for tests: a small valid one, and anything that is to be wrong with it. Built from the
 * format descriptions alone; nothing here calls the loader.
 */
import { join } from "node:path";

/** File name in the bundle to content. */
export type BundleFiles = Record<string, string | Uint8Array>;

/** A tensor for a safetensors file; `data` is row-major for `shape`. */
export interface TensorData {
  name: string;
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

/** Little-endian bytes of FP32 values. */
export function float32Bytes(values: readonly number[]): Uint8Array {
  return new Uint8Array(new Float32Array(values).buffer);
}

/** A safetensors file of these tensors, in this order. `argument_order` lists them all by default. */
export function safetensors(
  tensors: readonly TensorData[],
  metadata: Record<string, string> | undefined = {
    argument_order: JSON.stringify(tensors.map(({ name }) => name)),
  },
): Uint8Array {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  return rawSafetensors(JSON.stringify(header), concat(tensors.map(({ data }) => data)));
}

/** A safetensors file of any header and data; `claimed` overrides the header length it states. */
export function rawSafetensors(
  header: string | Uint8Array,
  data: Uint8Array = new Uint8Array(),
  claimed?: bigint,
): Uint8Array {
  const headerBytes = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, claimed ?? BigInt(headerBytes.length), true);
  return concat([length, headerBytes, data]);
}

/** StableHLO text of a program with one line per operation. */
export function stablehlo(
  parameters: readonly string[],
  results: readonly string[],
  body: readonly string[],
  returned: readonly string[],
): string {
  const list = parameters.map((type, index) => `%arg${index}: tensor<${type}>`).join(", ");
  const types = results.map((type) => `tensor<${type}>`).join(", ");
  return [
    "module @test {",
    `  func.func public @main(${list}) -> (${types}) {`,
    ...body.map((line) => `    ${line}`),
    `    return ${returned.join(", ")} : ${types}`,
    "  }",
    "}",
    "",
  ].join("\n");
}

/** What a dense layer's program is compiled for. */
export interface DenseOptions {
  batch?: number;
  inputs?: number;
  outputs?: number;
  /** MLIR element type. */
  type?: string;
}

/** `y = x · kernel + bias`: x [batch, inputs], kernel [inputs, outputs], bias [outputs]. */
export function denseProgram(
  { batch = 2, inputs = 3, outputs = 4, type = "f32" }: DenseOptions = {},
): string {
  const x = `${batch}x${inputs}x${type}`;
  const kernel = `${inputs}x${outputs}x${type}`;
  const y = `${batch}x${outputs}x${type}`;
  return stablehlo([x, kernel, `${outputs}x${type}`], [y], [
    "%0 = stablehlo.dot_general %arg0, %arg1, contracting_dims = [1] x [0] : " +
    `(tensor<${x}>, tensor<${kernel}>) -> tensor<${y}>`,
    `%1 = stablehlo.broadcast_in_dim %arg2, dims = [1] : (tensor<${outputs}x${type}>) -> tensor<${y}>`,
    `%2 = stablehlo.add %0, %1 : tensor<${y}>`,
  ], ["%2"]);
}

/** A manifest as a value to change before it is written; JSON is YAML. */
// deno-lint-ignore no-explicit-any
export type ManifestValue = Record<string, any>;

/** The manifest of `denseBundle`, in column-major letters. */
export function denseManifest(): ManifestValue {
  return {
    format_version: "2.0",
    executable_inputs: [{ name: "x", dtype: "f32", shape: "dn", dims: { d: 3 } }],
    executable_outputs: [{ name: "y", dtype: "f32", shape: "cn", dims: { c: 4 } }],
    batching: { compiled_batch_sizes: [1, 2] },
  };
}

/** Kernel [inputs, outputs] of `denseBundle`, row-major: row i is 10·i + j. */
export const DENSE_KERNEL = [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23];
export const DENSE_BIAS = [0.5, 0.25, 0.125, 0];

/** `DENSE_KERNEL` as a column-major bundle stores it: [outputs, inputs]. */
export const DENSE_KERNEL_STORED = [0, 10, 20, 1, 11, 21, 2, 12, 22, 3, 13, 23];

/** The weights of `denseBundle`. */
export function denseWeights(): TensorData[] {
  return [
    { name: "kernel", dtype: "F32", shape: [4, 3], data: float32Bytes(DENSE_KERNEL_STORED) },
    { name: "bias", dtype: "F32", shape: [4], data: float32Bytes(DENSE_BIAS) },
  ];
}

/** A valid bundle: a dense layer of 3 inputs and 4 outputs, FP32, for batch sizes 1 and 2. */
export function denseBundle(): BundleFiles {
  return {
    "manifest.yaml": JSON.stringify(denseManifest()),
    "model.b1.mlir": denseProgram({ batch: 1 }),
    "model.b2.mlir": denseProgram({ batch: 2 }),
    "weights.safetensors": safetensors(denseWeights()),
  };
}

/** `denseBundle` with its manifest changed in place by `change`. */
export function denseBundleWith(change: (manifest: ManifestValue) => void): BundleFiles {
  const manifest = denseManifest();
  change(manifest);
  return { ...denseBundle(), "manifest.yaml": JSON.stringify(manifest) };
}

/** What `rowMajorBundle` makes a bundle of. */
export interface RowMajorOptions {
  /** Names; all tensors are alike. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** As a manifest and StableHLO both call it. */
  readonly dtype: string;
  /** Elements of a row. */
  readonly width: number;
  /** Compiled batch sizes. */
  readonly sizes: readonly number[];
  /** The program of one of them, whose tensors have this type. */
  readonly program: (type: string) => string;
  readonly weights?: readonly TensorData[];
}

/** A bundle from tensors [n, width] to such tensors, in row-major letters, with a program for each batch size. */
export function rowMajorBundle(options: RowMajorOptions): BundleFiles {
  const { inputs, outputs, dtype, width, sizes, program, weights = [] } = options;
  const tensors = (names: readonly string[]) =>
    names.map((name) => ({ name, dtype, shape: "nd", dims: { d: width } }));
  return {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: tensors(inputs),
      executable_outputs: tensors(outputs),
      batching: { compiled_batch_sizes: sizes },
    }),
    ...Object.fromEntries(
      sizes.map((size) => [`model.b${size}.mlir`, program(`${size}x${width}x${dtype}`)]),
    ),
    "weights.safetensors": safetensors(weights),
  };
}

/** The manifest of a meta over these models, from `x` FP32[n, 3] to `z` FP32[n, 4], in row-major letters. */
export function metaManifest(calls: readonly string[]): ManifestValue {
  return {
    format_version: "2.0",
    axis_order: "row_major",
    kind: "meta",
    meta: { calls },
    client_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: 3 } }],
    client_outputs: [{ name: "z", dtype: "f32", shape: "na", dims: { a: 4 } }],
  };
}

/** Writes a bundle as `root/name` and returns its directory. */
export async function writeBundle(root: string, name: string, files: BundleFiles): Promise<string> {
  const directory = join(root, name);
  await Deno.mkdir(directory, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    await Deno.writeFile(join(directory, file), bytes);
  }
  return directory;
}

/** A temporary directory that is removed when disposed. */
export async function temporaryDirectory(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "bundles-" });
  return {
    path,
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
