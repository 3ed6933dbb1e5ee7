/** Typed tensor contents, `InferTensorContents`, as the bytes of a tensor and back. */

import { InvalidArgumentError } from "../errors.ts";
import type { ContentsField, Datatype, DatatypeInfo } from "../tensor/mod.ts";
import { WireError, WireReader, WireType } from "./wire_reader.ts";

/** Field numbers, wire types of one element, and protobuf names of the fields. */
const FIELDS = {
  boolContents: { field: 1, type: WireType.varint, name: "bool_contents" },
  intContents: { field: 2, type: WireType.varint, name: "int_contents" },
  int64Contents: { field: 3, type: WireType.varint, name: "int64_contents" },
  uintContents: { field: 4, type: WireType.varint, name: "uint_contents" },
  uint64Contents: { field: 5, type: WireType.varint, name: "uint64_contents" },
  fp32Contents: { field: 6, type: WireType.fixed32, name: "fp32_contents" },
  fp64Contents: { field: 7, type: WireType.fixed64, name: "fp64_contents" },
  bytesContents: { field: 8, type: WireType.bytes, name: "bytes_contents" },
} as const satisfies Record<ContentsField, { field: number; type: number; name: string }>;

const FIELD_NAMES: ReadonlyMap<number, string> = new Map(
  Object.values(FIELDS).map(({ field, name }) => [field, name]),
);

/**
 * Bytes typed values may expand to. One wire byte can stand for eight of a tensor, so the message cap
 * alone would not bound them. Raw contents have no such limit.
 */
const MAX_EXPANDED_BYTES = 1 << 29;

/** Elements of one field, encoded back to back without tags. */
type Run = (buf: Uint8Array, start: number, end: number) => void;

/** Gives every run of one field; returns the number of another field that has values, if one does. */
function eachRun(contents: Uint8Array, field: number, type: number, run: Run): number | undefined {
  const reader = WireReader.within(contents, 0, contents.length);
  let other: number | undefined;
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    if (tag >>> 3 !== field) {
      if (FIELD_NAMES.has(tag >>> 3)) other ??= tag >>> 3;
      reader.skip(tag);
    } else if ((tag & 7) === WireType.bytes) {
      // Packed numbers, or one element of bytes_contents.
      const { buf, pos, end } = reader.message();
      run(buf, pos, end);
    } else if ((tag & 7) === type) {
      const start = reader.pos;
      reader.skip(tag);
      run(reader.buf, start, reader.pos);
    } else throw new WireError(`field ${field} has wire type ${tag & 7}`);
  }
  return other;
}

function countElements(type: number, buf: Uint8Array, start: number, end: number): number {
  if (type === WireType.bytes) return 1;
  if (type === WireType.varint) {
    let count = 0;
    for (let index = start; index < end; index++) if (buf[index]! < 0x80) count++;
    if (end > start && buf[end - 1]! >= 0x80) throw new WireError("a packed value is cut short");
    return count;
  }
  const size = type === WireType.fixed32 ? 4 : 8;
  if ((end - start) % size !== 0) throw new WireError("a packed value is cut short");
  return (end - start) / size;
}

/** Puts one varint at an element's place; false: the value does not fit the datatype. */
type Store = (view: DataView, index: number, lo: number, hi: number) => boolean;

function storeSmall(min: number, max: number, set: (v: DataView, i: number, x: number) => void) {
  return (view: DataView, index: number, lo: number) => {
    set(view, index, lo);
    return lo >= min && lo <= max;
  };
}

const store64: Store = (view, index, lo, hi) => {
  view.setInt32(index * 8, lo, true);
  view.setInt32(index * 8 + 4, hi, true);
  return true;
};

const store32: Store = (view, index, lo) => {
  view.setInt32(index * 4, lo, true);
  return true;
};

/** As protobuf does, 32-bit fields keep the low 32 bits of a longer varint. */
const STORES: Partial<Record<Datatype, Store>> = {
  BOOL: (view, index, lo, hi) => {
    view.setUint8(index, (lo | hi) === 0 ? 0 : 1);
    return true;
  },
  INT8: storeSmall(-0x80, 0x7f, (view, index, value) => view.setInt8(index, value)),
  INT16: storeSmall(-0x8000, 0x7fff, (view, index, value) => view.setInt16(index * 2, value, true)),
  INT32: store32,
  INT64: store64,
  UINT8: storeSmall(0, 0xff, (view, index, value) => view.setUint8(index, value)),
  UINT16: storeSmall(0, 0xffff, (view, index, value) => view.setUint16(index * 2, value, true)),
  UINT32: store32,
  UINT64: store64,
};

/** What a tensor is, for messages about it. */
export interface ContentsTarget {
  readonly info: DatatypeInfo;
  /** Elements its shape asks for. */
  readonly count: number;
  /** Names the tensor, as in `input "x" of model "m"`; only called for an error. */
  readonly what: () => string;
}

/**
 * Decodes typed values into tensor bytes: little-endian, row-major, BYTES in their raw form.
 * @throws {InvalidArgumentError} when the datatype has no typed form, the number of values is not that
 * of the shape, a value is out of range, or the bytes are not `InferTensorContents`
 */
export function decodeContents(contents: Uint8Array, target: ContentsTarget): Uint8Array {
  const { info, what } = target;
  if (info.contents === null) {
    throw new InvalidArgumentError(
      `${what()} is ${info.datatype}, which has no typed contents: send raw_input_contents`,
    );
  }
  try {
    const { field, type, name } = FIELDS[info.contents];
    let count = 0;
    let byteLength = 0;
    const other = eachRun(contents, field, type, (buf, start, end) => {
      const added = countElements(type, buf, start, end);
      count += added;
      byteLength += type === WireType.bytes ? 4 + end - start : added * info.byteSize;
    });
    if (count !== target.count) {
      const hint = count === 0 && other !== undefined
        ? ` (there are values in ${FIELD_NAMES.get(other)})`
        : "";
      throw new InvalidArgumentError(
        `${what()} has ${count} values in ${name} where its shape takes ${target.count}${hint}`,
      );
    }
    if (byteLength > MAX_EXPANDED_BYTES) {
      throw new InvalidArgumentError(
        `${what()} would take ${byteLength} bytes; typed contents are limited to ` +
          `${MAX_EXPANDED_BYTES}: send raw_input_contents`,
      );
    }
    const data = new Uint8Array(byteLength);
    if (type === WireType.varint) fillVarints(contents, field, target, data);
    else fillBytes(contents, field, type, data);
    return data;
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new InvalidArgumentError(`${what()} has malformed contents: ${error.message}`, {
      cause: error,
    });
  }
}

function fillVarints(
  contents: Uint8Array,
  field: number,
  { info, what }: ContentsTarget,
  data: Uint8Array,
): void {
  const view = new DataView(data.buffer);
  const store = STORES[info.datatype]!;
  let index = 0;
  eachRun(contents, field, WireType.varint, (buf, start, end) => {
    const reader = WireReader.within(buf, start, end);
    for (; !reader.isAtEnd; index++) {
      reader.varint();
      if (store(view, index, reader.lo, reader.hi)) continue;
      const value = info.contents === "uintContents" ? reader.lo >>> 0 : reader.lo;
      throw new InvalidArgumentError(
        `${what()} has ${value} at element ${index}, which is no ${info.datatype}`,
      );
    }
  });
}

/** Fixed-size values lie as a tensor has them; elements of BYTES get their length in front. */
function fillBytes(contents: Uint8Array, field: number, type: number, data: Uint8Array): void {
  const view = new DataView(data.buffer);
  let at = 0;
  eachRun(contents, field, type, (buf, start, end) => {
    if (type === WireType.bytes) {
      view.setUint32(at, end - start, true);
      at += 4;
    }
    data.set(buf.subarray(start, end), at);
    at += end - start;
  });
}
