/** Parameter maps of requests, responses and tensors, and the keys this server understands. */

import { InvalidArgumentError } from "../errors.ts";
import { WireError, type WireReader, WireType } from "./wire_reader.ts";
import type { WireWriter } from "./wire_writer.ts";

/**
 * One value. 64-bit integers are numbers where that is exact, else bigints. Triton's clients also send
 * `double` and `uint64`, which the KServe protocol itself does not have.
 */
export type InferParameter =
  | { readonly kind: "bool"; readonly value: boolean }
  | { readonly kind: "int64"; readonly value: number | bigint }
  | { readonly kind: "string"; readonly value: string }
  | { readonly kind: "double"; readonly value: number }
  | { readonly kind: "uint64"; readonly value: number | bigint };

/** Parameters by key; the last of several with one key counts. */
export type InferParameters = ReadonlyMap<string, InferParameter>;

/** What most messages have. */
export const NO_PARAMETERS: InferParameters = new Map();

/** Entries one map may have: no client needs more, and a hostile one gets no further. */
const MAX_PARAMETERS = 1024;

const NANOSECONDS_PER_MILLISECOND = 1e6;
const MICROSECONDS_PER_MILLISECOND = 1e3;

function parameterOf(reader: WireReader, before: InferParameter | undefined) {
  let parameter = before;
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    switch (tag) {
      case 1 << 3 | WireType.varint:
        parameter = { kind: "bool", value: reader.bool() };
        break;
      case 2 << 3 | WireType.varint:
        reader.varint();
        parameter = { kind: "int64", value: exact(reader.hi, reader.lo) };
        break;
      case 3 << 3 | WireType.bytes:
        parameter = { kind: "string", value: reader.string() };
        break;
      case 4 << 3 | WireType.fixed64:
        parameter = { kind: "double", value: reader.double() };
        break;
      case 5 << 3 | WireType.varint:
        reader.varint();
        parameter = { kind: "uint64", value: exact(reader.hi >>> 0, reader.lo) };
        break;
      default:
        if (tag >>> 3 <= 5) throw new WireError("a parameter value has the wrong wire type");
        reader.skip(tag);
    }
  }
  return parameter;
}

/** Two halves as a number where it is exact. */
function exact(hi: number, lo: number): number | bigint {
  const value = hi * 0x1_0000_0000 + (lo >>> 0);
  return Number.isSafeInteger(value) ? value : BigInt(hi) << 32n | BigInt(lo >>> 0);
}

/** Adds one map entry, which `reader` is about to read the length of, to a map made on first use. */
export function readParameter(reader: WireReader, into: InferParameters): InferParameters {
  const entry = reader.message();
  let key = "";
  let parameter: InferParameter | undefined;
  while (!entry.isAtEnd) {
    const tag = entry.tag();
    if (tag === (1 << 3 | WireType.bytes)) key = entry.name();
    else if (tag === (2 << 3 | WireType.bytes)) parameter = parameterOf(entry.message(), parameter);
    else if (tag >>> 3 <= 2) throw new WireError("a parameter has the wrong wire type");
    else entry.skip(tag);
  }
  const map = into === NO_PARAMETERS ? new Map() : into as Map<string, InferParameter>;
  // A value without a choice is legal protobuf and means nothing: it hides an earlier one.
  if (parameter === undefined) map.delete(key);
  else map.set(key, parameter);
  if (map.size > MAX_PARAMETERS) {
    throw new WireError(`a parameter map has more than ${MAX_PARAMETERS} entries`);
  }
  return map.size === 0 ? NO_PARAMETERS : map;
}

/** Writes a map as entries of `field`. */
export function writeParameters(writer: WireWriter, field: number, map: InferParameters): void {
  for (const [key, parameter] of map) {
    const entry = writer.begin(field);
    writer.string(1, key);
    const choice = writer.begin(2);
    switch (parameter.kind) {
      case "bool":
        writer.tag(1, WireType.varint);
        writer.uint32(parameter.value ? 1 : 0);
        break;
      case "int64":
        writer.tag(2, WireType.varint);
        writer.int64(parameter.value);
        break;
      case "string":
        writer.string(3, parameter.value);
        break;
      case "double":
        writer.tag(4, WireType.fixed64);
        writer.double(parameter.value);
        break;
      case "uint64":
        writer.tag(5, WireType.varint);
        writer.int64(parameter.value);
        break;
    }
    writer.end(choice);
    writer.end(entry);
  }
}

/**
 * What is left of the caller's time when the request was sent, in milliseconds: `reactant_timeout_ns`,
 * or Triton's `timeout` in microseconds, whichever is less. `undefined`: no limit; so are zero, negative
 * values and values of another kind.
 */
export function remainingBudgetMs(parameters: InferParameters): number | undefined {
  if (parameters.size === 0) return undefined;
  const budget = Math.min(
    positive(parameters, "reactant_timeout_ns") / NANOSECONDS_PER_MILLISECOND,
    positive(parameters, "timeout") / MICROSECONDS_PER_MILLISECOND,
  );
  return budget === Infinity ? undefined : budget;
}

/** A positive integer parameter; Infinity when there is none. */
function positive(parameters: InferParameters, key: string): number {
  const parameter = parameters.get(key);
  if (parameter?.kind !== "int64" && parameter?.kind !== "uint64") return Infinity;
  return parameter.value > 0 ? Number(parameter.value) : Infinity;
}

/** A range of a registered shared-memory region. */
export interface SharedMemoryReference {
  readonly region: string;
  /** From the start of the region. */
  readonly offset: number;
  /** Of an input: its exact length. Of an output: the room there is. */
  readonly byteSize: number;
}

/**
 * Where a tensor lies in shared memory, or `undefined` when its parameters do not say so. `what` names
 * the tensor in errors, as in `input "x"`.
 * @throws {InvalidArgumentError} when a size is missing, negative, beyond 2^53 or not an integer
 */
export function sharedMemoryReference(
  parameters: InferParameters,
  what: string,
): SharedMemoryReference | undefined {
  if (parameters.size === 0) return undefined;
  const region = parameters.get("shared_memory_region");
  if (region?.kind !== "string") return undefined;
  const byteSize = byteCount(parameters, "shared_memory_byte_size", what);
  if (byteSize === undefined) {
    throw new InvalidArgumentError(
      `${what} is in shared-memory region ${JSON.stringify(region.value)} ` +
        `but has no parameter shared_memory_byte_size`,
    );
  }
  const offset = byteCount(parameters, "shared_memory_offset", what) ?? 0;
  return { region: region.value, offset, byteSize };
}

function byteCount(parameters: InferParameters, key: string, what: string): number | undefined {
  const parameter = parameters.get(key);
  if (parameter === undefined) return undefined;
  if (parameter.kind !== "int64" && parameter.kind !== "uint64") {
    throw new InvalidArgumentError(
      `${what}: parameter ${key} must be an int64, got a ${parameter.kind}`,
    );
  }
  if (typeof parameter.value === "bigint" || parameter.value < 0) {
    throw new InvalidArgumentError(`${what}: parameter ${key} is out of range: ${parameter.value}`);
  }
  return parameter.value;
}

/** The parameters that say an output was written to shared memory. */
export function sharedMemoryParameters(reference: SharedMemoryReference): InferParameters {
  return new Map<string, InferParameter>([
    ["shared_memory_region", { kind: "string", value: reference.region }],
    ["shared_memory_offset", { kind: "int64", value: reference.offset }],
    ["shared_memory_byte_size", { kind: "int64", value: reference.byteSize }],
  ]);
}
