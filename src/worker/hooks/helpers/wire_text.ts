/** Text that clients sent as bytes. */

import { asInt32, type ReadableTensor, valuesOf } from "./tensors.ts";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** All bytes of a UINT8 tensor of any shape, as one string; what is no UTF-8 becomes U+FFFD. */
export function wireText(tensor: ReadableTensor | Uint8Array): string {
  return decoder.decode(tensor instanceof Uint8Array ? tensor : octetsOf(tensor));
}

/**
 * Strings from zero-padded rows.
 * @param texts UINT8 `[batch, maxBytes]`
 * @param lens integers, one per row: its length in bytes
 * @throws {RangeError} naming `lens` when it has another count, or a length outside 0..maxBytes
 */
export function wireTexts(texts: ReadableTensor, lens: ReadableTensor): string[] {
  const octets = octetsOf(texts);
  const [batch, maxBytes] = texts.shape;
  if (texts.shape.length !== 2) {
    throw new RangeError(
      `tensor ${JSON.stringify(texts.name)} must be [batch, bytes], got [${texts.shape}]`,
    );
  }
  const lengths = asInt32(lens);
  if (lengths.length !== batch) {
    throw new RangeError(
      `tensor ${JSON.stringify(lens.name)} has ${lengths.length} lengths for ${batch} texts`,
    );
  }
  return Array.from(lengths, (length, row) => {
    if (length < 0 || length > maxBytes!) {
      throw new RangeError(
        `tensor ${
          JSON.stringify(lens.name)
        }: length ${length} of row ${row} is outside 0..${maxBytes}`,
      );
    }
    const start = row * maxBytes!;
    return decoder.decode(octets.subarray(start, start + length));
  });
}

function octetsOf(tensor: ReadableTensor): Uint8Array {
  if (tensor.datatype !== "UINT8") {
    throw new TypeError(`tensor ${JSON.stringify(tensor.name)} is ${tensor.datatype}, not UINT8`);
  }
  return valuesOf(tensor) as Uint8Array;
}
