/**
 * Bytes of a batch: several requests' tensors into one along the batch axis, padded with zeros, and the
 * results apart again. One copy per request on the way in, none for a request that fills its batch alone,
 * and none on the way out when the batch axis comes first.
 */

import {
  datatypeInfo,
  elementCount,
  type MemoryPool,
  type NamedTensor,
  type TensorSpec,
} from "../tensor/mod.ts";

/** How a tensor divides around its batch axis: `outer` blocks of `rows × rowBytes`. */
function geometry(spec: TensorSpec, axis: number): { outer: number; rowBytes: number } {
  return {
    outer: elementCount(spec.shape.slice(0, axis)),
    rowBytes: elementCount(spec.shape.slice(axis + 1)) * datatypeInfo(spec.datatype).byteSize,
  };
}

function withExtent(shape: readonly number[], axis: number, extent: number): number[] {
  const copy = shape.slice();
  copy[axis] = extent;
  return copy;
}

/**
 * Concatenates tensors of equal type and shape (batch axis aside) along `axis` and pads to `size` rows.
 * A lone tensor of exactly `size` rows is returned as it is, not copied.
 */
export function concatRows(
  parts: readonly NamedTensor[],
  axis: number,
  size: number,
  memory: MemoryPool,
): NamedTensor {
  const first = parts[0]!;
  if (parts.length === 1 && first.shape[axis] === size) return first;
  const { outer, rowBytes } = geometry(first, axis);
  const blockBytes = size * rowBytes;
  const data = memory.take(outer * blockBytes);
  let offset = 0;
  for (const part of parts) {
    const partBytes = part.shape[axis]! * rowBytes;
    if (outer === 1) {
      data.set(part.data, offset);
    } else {
      for (let block = 0; block < outer; block++) {
        data.set(
          part.data.subarray(block * partBytes, (block + 1) * partBytes),
          block * blockBytes + offset,
        );
      }
    }
    offset += partBytes;
  }
  for (let end = blockBytes; offset < blockBytes && end <= data.length; end += blockBytes) {
    data.fill(0, end - blockBytes + offset, end);
  }
  return {
    name: first.name,
    datatype: first.datatype,
    shape: withExtent(first.shape, axis, size),
    data,
  };
}

/** Cuts a tensor along `axis`, from its first row on: views when nothing lies before the axis. */
export class RowCutter {
  readonly #tensor: NamedTensor;
  readonly #axis: number;
  readonly #size: number;
  readonly #outer: number;
  readonly #rowBytes: number;
  /** The next row to be given. */
  #from = 0;
  /** Of the piece given last: pieces mostly have as many rows. */
  #shape: readonly number[] = [];
  #rows = -1;

  constructor(tensor: NamedTensor, axis: number) {
    const { outer, rowBytes } = geometry(tensor, axis);
    this.#tensor = tensor;
    this.#axis = axis;
    this.#size = tensor.shape[axis]!;
    this.#outer = outer;
    this.#rowBytes = rowBytes;
  }

  /** The next `rows` rows. */
  next(rows: number): NamedTensor {
    const from = this.#from;
    this.#from += rows;
    const { name, datatype, shape, data } = this.#tensor;
    if (from === 0 && rows === this.#size) return this.#tensor;
    if (rows !== this.#rows) {
      this.#rows = rows;
      this.#shape = withExtent(shape, this.#axis, rows);
    }
    return { name, datatype, shape: this.#shape, data: this.#bytes(data, from, rows) };
  }

  #bytes(data: Uint8Array, from: number, rows: number): Uint8Array {
    const rowBytes = this.#rowBytes;
    if (this.#outer === 1) return data.subarray(from * rowBytes, (from + rows) * rowBytes);
    const bytes = new Uint8Array(this.#outer * rows * rowBytes);
    for (let block = 0; block < this.#outer; block++) {
      const start = (block * this.#size + from) * rowBytes;
      bytes.set(data.subarray(start, start + rows * rowBytes), block * rows * rowBytes);
    }
    return bytes;
  }
}
