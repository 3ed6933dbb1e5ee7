/**
 * Golden tensors: inputs and outputs that whoever wrote a bundle recorded beside it, and how far a
 * program's outputs are from them.
 *
 * `golden.safetensors` holds `{program}/input/{name}` and `{program}/output/{name}`, where the program
 * is `b{N}` or, with shape variants, `v{i}.b{N}`, N being 0 for a file without a batch size. A meta model has
 * no program: under `b0` it has one whole request of a client and the answer to it. Shapes are
 * in wire order whatever the bundle's axis order. Its metadata may give `atol` and `rtol`.
 */
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { BundleError, messageOf } from "../errors.ts";
import type { Datatype, NamedTensor } from "../tensor/mod.ts";
import type { Bundle } from "./bundle.ts";
import { quote } from "./manifest_reader.ts";
import type { ManifestTensor } from "./manifest_tensors.ts";
import type { ProgramFile } from "./programs.ts";
import { readSafetensors, type SafetensorsIndex } from "./safetensors.ts";
import { WeightFile } from "./weight_file.ts";

/** Name of the golden file in a bundle. It is for checking only and affects nothing that is served. */
export const GOLDEN_FILE = "golden.safetensors";

/** How far an element may be off: `atol + rtol · |golden|`. */
export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** What one program, or a meta model as a whole, was given and gave. */
export interface GoldenCase {
  /** Executable inputs, of a meta model client inputs, in order. */
  readonly inputs: readonly NamedTensor[];
  /** Executable outputs, of a meta model client outputs, in order. */
  readonly outputs: readonly NamedTensor[];
}

/** What the one request of a meta model is recorded under. */
const REQUEST_KEY = "b0";

const DEFAULT_TOLERANCE: Tolerance = { atol: 1e-6, rtol: 1e-6 };

/** An open golden file. Tensors it gives are views that end with it. */
export class GoldenFile implements Disposable {
  readonly tolerance: Tolerance;
  readonly #bundle: Bundle;
  readonly #file: WeightFile;
  readonly #index: SafetensorsIndex;

  private constructor(bundle: Bundle, file: WeightFile) {
    this.#bundle = bundle;
    this.#file = file;
    this.#index = readSafetensors(file);
    this.tolerance = {
      atol: readNumber(this.#index.metadata, "atol", DEFAULT_TOLERANCE.atol),
      rtol: readNumber(this.#index.metadata, "rtol", DEFAULT_TOLERANCE.rtol),
    };
    const { inputs, outputs } = recordedTensors(bundle);
    const known = new Set(
      keysOf(bundle).flatMap((key) => [
        ...inputs.map(({ name }) => `${key}/input/${name}`),
        ...outputs.map(({ name }) => `${key}/output/${name}`),
      ]),
    );
    const stray = [...this.#index.tensors.keys()].find((name) => !known.has(name));
    if (stray !== undefined) {
      throw new Error(`${quote(stray)} belongs to no ${NOUN[bundle.kind]} of the bundle`);
    }
  }

  /**
   * Opens the golden file of a bundle; `undefined` when there is none.
   * @throws {BundleError} when it is damaged or holds tensors that the bundle does not have
   */
  static open(bundle: Bundle): GoldenFile | undefined {
    let file: WeightFile | undefined;
    try {
      file = WeightFile.open(join(bundle.directory, GOLDEN_FILE));
      return new GoldenFile(bundle, file);
    } catch (error) {
      file?.[Symbol.dispose]();
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw new BundleError(bundle.name, `${GOLDEN_FILE}: ${messageOf(error)}`, { cause: error });
    }
  }

  /**
   * What is recorded for a program; `undefined` when nothing is.
   * @throws {BundleError} when only a part is
   */
  caseOf(program: ProgramFile): GoldenCase | undefined {
    return this.#caseUnder(goldenKey(program));
  }

  /**
   * What is recorded for a meta model as a whole; `undefined` when nothing is, and for other models.
   * @throws {BundleError} when only a part is
   */
  request(): GoldenCase | undefined {
    return this.#bundle.kind === "meta" ? this.#caseUnder(REQUEST_KEY) : undefined;
  }

  #caseUnder(key: string): GoldenCase | undefined {
    if (![...this.#index.tensors.keys()].some((name) => name.startsWith(`${key}/`))) {
      return undefined;
    }
    const { inputs, outputs } = recordedTensors(this.#bundle);
    return {
      inputs: inputs.map((tensor) => this.#tensor(`${key}/input/${tensor.name}`, tensor)),
      outputs: outputs.map((tensor) => this.#tensor(`${key}/output/${tensor.name}`, tensor)),
    };
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #tensor(name: string, declared: ManifestTensor): NamedTensor {
    const stored = this.#index.tensors.get(name);
    if (stored === undefined || stored.datatype !== declared.datatype) {
      const problem = stored === undefined
        ? `${quote(name)} is missing`
        : `${quote(name)} is ${stored.datatype}, the manifest says ${declared.datatype}`;
      throw new BundleError(this.#bundle.name, `${GOLDEN_FILE}: ${problem}`);
    }
    return {
      name: declared.name,
      datatype: stored.datatype,
      shape: stored.shape,
      data: this.#file.view(stored.offset, stored.byteLength),
    };
  }
}

/** What errors call what tensors belong to. */
const NOUN: Readonly<Record<Bundle["kind"], string>> = { model: "program", meta: "request" };

/** What tensors of the file may begin with. */
function keysOf(bundle: Bundle): string[] {
  return bundle.kind === "meta"
    ? [REQUEST_KEY]
    : bundle.programs.flatMap(({ files }) => files).map(goldenKey);
}

/** What is recorded: a program's own tensors, or those of a meta model's clients. */
function recordedTensors({ kind, manifest }: Bundle): {
  readonly inputs: readonly ManifestTensor[];
  readonly outputs: readonly ManifestTensor[];
} {
  return kind === "meta"
    ? { inputs: manifest.clientInputs, outputs: manifest.clientOutputs }
    : { inputs: manifest.executableInputs, outputs: manifest.executableOutputs };
}

/** `b8`, or `v0.b8` for a bundle with shape variants. */
function goldenKey({ variant, batchKey }: ProgramFile): string {
  return variant.key.length === 0 ? `b${batchKey}` : `v${variant.index}.b${batchKey}`;
}

function readNumber(metadata: ReadonlyMap<string, string>, key: string, otherwise: number): number {
  const text = metadata.get(key);
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0)) {
    throw new Error(`its metadata gives ${quote(text)} as ${key}, which is not a tolerance`);
  }
  return value;
}

/** How one tensor differs from its golden twin. */
export interface TensorDifference {
  /** Largest `|found - golden|`. NaN against a number, or unequal infinities, count as infinite. */
  readonly largestAbsolute: number;
  /** Largest `|found - golden| / |golden|` over elements whose golden value is not 0. */
  readonly largestRelative: number;
  readonly isIdentical: boolean;
  /** Whether every element is within the tolerance. */
  readonly isWithin: boolean;
}

/**
 * One unit in the last place, relative, for types that cannot be more exact than that: programs round
 * differently from one processor to the next, and the recorded tolerance is about real numbers.
 */
const UNIT: Partial<Record<Datatype, number>> = {
  FP16: 2 ** -10,
  BF16: 2 ** -7,
  FP8_E4M3FN: 2 ** -3,
  FP8_E5M2: 2 ** -2,
};

/**
 * Compares a program's output with the golden one, which must have the same datatype and shape. `rtol`
 * is one unit in the last place at least, for 16- and 8-bit floating point.
 * @throws {RangeError} when the tensors have different sizes
 */
export function compareTensors(
  golden: NamedTensor,
  found: Uint8Array,
  { atol, rtol }: Tolerance,
): TensorDifference {
  if (found.length !== golden.data.length) {
    throw new RangeError(
      `output ${quote(golden.name)} has ${found.length} bytes, golden ${golden.data.length}`,
    );
  }
  if (Buffer.compare(golden.data, found) === 0) {
    return { largestAbsolute: 0, largestRelative: 0, isIdentical: true, isWithin: true };
  }
  const allowed = Math.max(rtol, UNIT[golden.datatype] ?? 0);
  const expectedValues = valuesOf(golden.datatype, golden.data);
  const foundValues = valuesOf(golden.datatype, found);
  let largestAbsolute = 0;
  let largestRelative = 0;
  let isWithin = true;
  for (let at = 0; at < expectedValues.length; at++) {
    const expected = expectedValues[at]!;
    const difference = distance(expected, foundValues[at]!);
    largestAbsolute = Math.max(largestAbsolute, difference);
    const magnitude = Math.abs(Number(expected));
    if (magnitude > 0) largestRelative = Math.max(largestRelative, difference / magnitude);
    if (difference === Infinity || difference > atol + allowed * magnitude) isWithin = false;
  }
  return { largestAbsolute, largestRelative, isIdentical: false, isWithin };
}

function distance(a: number | bigint, b: number | bigint): number {
  if (typeof a === "bigint" && typeof b === "bigint") return Math.abs(Number(a - b));
  if (Object.is(a, b) || a === b) return 0;
  const difference = Math.abs(Number(a) - Number(b));
  return Number.isNaN(difference) ? Infinity : difference;
}

type Values = ArrayLike<number> | ArrayLike<bigint>;

/** Element values; 64-bit integers as bigint. */
function valuesOf(datatype: Datatype, data: Uint8Array): Values {
  const { buffer } = data.slice();
  switch (datatype) {
    case "BOOL":
    case "UINT8":
      return data;
    case "INT8":
      return new Int8Array(buffer);
    case "UINT16":
      return new Uint16Array(buffer);
    case "INT16":
      return new Int16Array(buffer);
    case "UINT32":
      return new Uint32Array(buffer);
    case "INT32":
      return new Int32Array(buffer);
    case "UINT64":
      return new BigUint64Array(buffer);
    case "INT64":
      return new BigInt64Array(buffer);
    case "FP16":
      return new Float16Array(buffer);
    case "FP32":
      return new Float32Array(buffer);
    case "FP64":
      return new Float64Array(buffer);
    case "BF16": {
      // BF16 is the upper half of an FP32.
      const words = Uint32Array.from(new Uint16Array(buffer), (half) => half << 16);
      return new Float32Array(words.buffer);
    }
    case "FP8_E5M2":
      // E5M2 is the upper half of an FP16.
      return new Float16Array(Uint16Array.from(data, (byte) => byte << 8).buffer);
    case "FP8_E4M3FN":
      return Float32Array.from(data, e4m3Value);
    case "BYTES":
      throw new TypeError("BYTES tensors have no numbers to compare");
  }
}

/** OCP 8-bit floating point, E4M3: bias 7, no infinities, NaN where all other bits are set. */
function e4m3Value(byte: number): number {
  const sign = byte & 0x80 ? -1 : 1;
  const exponent = (byte >> 3) & 0xf;
  const mantissa = byte & 0x7;
  if (exponent === 0xf && mantissa === 0x7) return NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
}
