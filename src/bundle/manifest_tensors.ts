/**
 * Tensor sections of a manifest: letters and `dims` become wire-order shapes here, and nothing after
 * this file knows which way round the letters were written.
 */
import { type Datatype, datatypeFromToken, datatypeInfo, DATATYPES } from "../tensor/mod.ts";
import { MAX_EXTENT, MAX_NAME_LENGTH, MAX_SECTION_TENSORS } from "./limits.ts";
import {
  describe,
  join,
  type ManifestReader,
  quote,
  type YamlMapping,
  type YamlValue,
} from "./manifest_reader.ts";

/**
 * How the letters of a bundle's shapes, and the header shapes of its weights, are to be read:
 * `column_major` is the reverse of wire order (format 2.0 of the original), `row_major` is wire order.
 */
export type AxisOrder = "column_major" | "row_major";

/** An axis whose extent is one of those in `input_shapes`. */
export interface VariableAxis {
  readonly letter: string;
  /** Wire index. */
  readonly axis: number;
}

/** One declared tensor. Everything is in wire order, which is also the program's order. */
export interface ManifestTensor {
  readonly name: string;
  readonly datatype: Datatype;
  /** Extents; -1 for the batch axis and for variable axes. */
  readonly shape: readonly number[];
  /** One letter per axis, in wire order; `n` or `b` is the batch axis. */
  readonly letters: string;
  /** Wire index of the batch axis. */
  readonly batchAxis: number | undefined;
  /** By ascending wire index. */
  readonly variableAxes: readonly VariableAxis[];
}

/** Where a section may be used decides which datatypes it may declare. */
export type SectionRole = "executable" | "client" | "both";

/** The keys of a tensor in a manifest. */
export const TENSOR_KEYS = ["name", "dtype", "shape", "dims"];
const BATCH_LETTERS = "nb";

/** Reads one section. @throws {ManifestError} */
export function readTensorList(
  reader: ManifestReader,
  value: YamlValue | undefined,
  options: { path: string; axisOrder: AxisOrder; role: SectionRole },
): ManifestTensor[] {
  const { path } = options;
  const names = new Set<string>();
  return reader.list(value, path, MAX_SECTION_TENSORS).map((entry, index) => {
    const tensor = readTensor(reader, entry, { ...options, path: `${path}[${index}]` });
    if (names.has(tensor.name)) {
      throw reader.keyError(path, `has two tensors named ${quote(tensor.name)}`);
    }
    names.add(tensor.name);
    return tensor;
  });
}

function readTensor(
  reader: ManifestReader,
  value: YamlValue,
  { path, axisOrder, role }: { path: string; axisOrder: AxisOrder; role: SectionRole },
): ManifestTensor {
  const entry = reader.mapping(value, path);
  reader.warnUnknownKeys(entry, path, TENSOR_KEYS);
  const name = reader.text(entry.get("name"), join(path, "name"), MAX_NAME_LENGTH);
  const datatype = readDatatype(reader, entry.get("dtype"), join(path, "dtype"), role);
  const written = readLetters(reader, entry.get("shape"), join(path, "shape"));
  const extents = readExtents(reader, entry, path, written);
  const letters = axisOrder === "row_major" ? written : [...written].reverse().join("");
  const shape = [...letters].map((letter) => extents.get(letter) ?? -1);
  const bytes = shape.reduce((total, extent) => total * Math.max(extent, 1), 1) *
    datatypeInfo(datatype).byteSize;
  if (bytes > Number.MAX_SAFE_INTEGER) {
    throw reader.keyError(join(path, "dims"), `describe a tensor of ${bytes} bytes`);
  }
  const batchAxis = [...letters].findIndex((letter) => BATCH_LETTERS.includes(letter));
  return {
    name,
    datatype,
    shape,
    letters,
    batchAxis: batchAxis < 0 ? undefined : batchAxis,
    variableAxes: [...letters].flatMap((letter, axis) =>
      extents.get(letter) === -1 ? [{ letter, axis }] : []
    ),
  };
}

function readDatatype(
  reader: ManifestReader,
  value: YamlValue | undefined,
  path: string,
  role: SectionRole,
): Datatype {
  if (typeof value !== "string") {
    throw reader.keyError(
      path,
      value === undefined ? "is required" : `must be a datatype name, got ${describe(value)}`,
    );
  }
  const info = datatypeFromToken(value);
  if (info === undefined) {
    const known = DATATYPES.map(({ token }) => token).join(", ");
    throw reader.keyError(path, `must be one of ${known}, got ${quote(value)}`);
  }
  if (role !== "client" && info.pjrtType < 0) {
    throw reader.keyError(
      path,
      `is ${value}, which no program can take or give; declare it in client_inputs or ` +
        "client_outputs and convert it in the hook file",
    );
  }
  if (role !== "executable" && !info.onWire) {
    throw reader.keyError(
      path,
      `is ${value}, which clients cannot send or receive; declare another type in client_inputs or ` +
        "client_outputs and convert it in the hook file",
    );
  }
  return info.datatype;
}

function readLetters(reader: ManifestReader, value: YamlValue | undefined, path: string): string {
  if (typeof value !== "string") {
    throw reader.keyError(
      path,
      value === undefined
        ? "is required"
        : `must be a string with one letter per axis, got ${describe(value)}`,
    );
  }
  let batchLetter: string | undefined;
  const seen = new Set<string>();
  for (const letter of value) {
    if (!/^[A-Za-z]$/.test(letter)) {
      throw reader.keyError(path, `must have one letter per axis, got ${quote(value)}`);
    }
    if (seen.has(letter)) {
      throw reader.keyError(path, `uses the letter "${letter}" twice: ${quote(value)}`);
    }
    seen.add(letter);
    if (!BATCH_LETTERS.includes(letter)) continue;
    if (batchLetter !== undefined) {
      throw reader.keyError(
        path,
        `has two batch axes, "${batchLetter}" and "${letter}": ${quote(value)}`,
      );
    }
    batchLetter = letter;
  }
  return value;
}

/** Extent by letter; the batch letter has none. */
function readExtents(
  reader: ManifestReader,
  entry: YamlMapping,
  path: string,
  letters: string,
): Map<string, number> {
  const dimsPath = join(path, "dims");
  const dims: YamlMapping = entry.has("dims")
    ? reader.mapping(entry.get("dims"), dimsPath)
    : new Map();
  const extents = new Map<string, number>();
  for (const [letter, value] of dims) {
    if (typeof letter !== "string" || !/^[A-Za-z]$/.test(letter)) {
      throw reader.keyError(dimsPath, `must have single letters as keys, got ${describe(letter)}`);
    }
    const letterPath = join(dimsPath, letter);
    if (BATCH_LETTERS.includes(letter)) {
      throw reader.keyError(
        letterPath,
        "must not be given: it is the batch axis, whose size comes with each request",
      );
    }
    if (!letters.includes(letter)) {
      throw reader.keyError(letterPath, `names no axis of the shape ${quote(letters)}`);
    }
    if (value === -1n) extents.set(letter, -1);
    else {
      const range = { minimum: 1, maximum: MAX_EXTENT, orElse: ", or -1 for a variable axis" };
      extents.set(letter, reader.integer(value, letterPath, range));
    }
  }
  for (const letter of letters) {
    if (BATCH_LETTERS.includes(letter) || extents.has(letter)) continue;
    throw reader.keyError(
      join(dimsPath, letter),
      "is required: every axis but the batch has a size",
    );
  }
  return extents;
}
