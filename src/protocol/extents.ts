/** The `shape` field of a tensor, which comes packed, unpacked or both. */

import { WireError, type WireReader, WireType } from "./wire_reader.ts";

/** Axes one tensor may have. */
const MAX_RANK = 64;

/** Tags of field 3 in its two forms. */
export const PACKED_SHAPE = 3 << 3 | WireType.bytes;
export const UNPACKED_EXTENT = 3 << 3 | WireType.varint;

/** Appends what comes after one of the tags above. */
export function readExtents(reader: WireReader, tag: number, shape: number[]): void {
  if (tag === UNPACKED_EXTENT) return addExtent(shape, reader.int64());
  const packed = reader.message();
  while (!packed.isAtEnd) addExtent(shape, packed.int64());
}

function addExtent(shape: number[], extent: number): void {
  if (shape.length === MAX_RANK) throw new WireError(`a tensor has more than ${MAX_RANK} axes`);
  shape.push(extent);
}
