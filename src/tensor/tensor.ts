/** Tensors on the host: little-endian, row-major, unpadded bytes beside a datatype and a shape. */

import { type Datatype, datatypeInfo } from "./datatype.ts";
import { elementCount, formatShape } from "./shape.ts";

/** What a tensor is, without its contents. */
export interface TensorSpec {
  readonly datatype: Datatype;
  /** Extents in wire order (row-major). */
  readonly shape: readonly number[];
}

/**
 * A named tensor in host memory. `data` may be a view of a larger buffer (a received message, a mapped
 * region): whoever keeps it beyond the call copies it. BYTES is the KServe form: each element is a
 * 4-byte little-endian length and that many bytes.
 */
export interface NamedTensor extends TensorSpec {
  readonly name: string;
  readonly data: Uint8Array;
}

/** Byte length of a fixed-size tensor. BYTES has none: throws `TypeError`. */
export function byteLengthOf(spec: TensorSpec): number {
  const { byteSize } = datatypeInfo(spec.datatype);
  if (byteSize === 0) throw new TypeError(`${spec.datatype} elements have no fixed size`);
  return elementCount(spec.shape) * byteSize;
}

/** `FP32[?,784]`. */
export function formatSpec(spec: TensorSpec): string {
  return `${spec.datatype}${formatShape(spec.shape)}`;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Encodes strings or byte strings as the contents of a BYTES tensor. */
export function encodeBytesElements(elements: readonly (string | Uint8Array)[]): Uint8Array {
  const parts = elements.map((element) =>
    typeof element === "string" ? encoder.encode(element) : element
  );
  const data = new Uint8Array(parts.reduce((total, part) => total + 4 + part.length, 0));
  const view = new DataView(data.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    data.set(part, at + 4);
    at += 4 + part.length;
  }
  return data;
}

/**
 * Splits the contents of a BYTES tensor into views, one per element.
 * @throws {RangeError} when a length runs past the end
 */
export function decodeBytesElements(data: Uint8Array): Uint8Array[] {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const elements: Uint8Array[] = [];
  for (let at = 0; at < data.length;) {
    if (at + 4 > data.length) {
      throw new RangeError(`element ${elements.length} has ${data.length - at} of 4 length bytes`);
    }
    const length = view.getUint32(at, true);
    if (at + 4 + length > data.length) {
      throw new RangeError(
        `element ${elements.length} claims ${length} bytes where ${data.length - at - 4} remain`,
      );
    }
    elements.push(data.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return elements;
}

/** The elements of a BYTES tensor as UTF-8 text; invalid sequences become U+FFFD. */
export function decodeStrings(data: Uint8Array): string[] {
  return decodeBytesElements(data).map((element) => decoder.decode(element));
}
