/**
 * Bytes of a batch: several requests' tensors into one along the batch axis, padded with zeros, and the
 * results apart again. One copy per request on the way in, none for a request that fills its batch alone,
 * and none on the way out when the batch axis comes first.
 */

import {
  alignedBytes,
  datatypeInfo,
  elementCount,
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
): NamedTensor {
  const first = parts[0]!;
  if (parts.length === 1 && first.shape[axis] === size) return first;
  const { outer, rowBytes } = geometry(first, axis);
  const blockBytes = size * rowBytes;
  const data = alignedBytes(outer * blockBytes);
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
  return { ...first, shape: withExtent(first.shape, axis, size), data };
}

/** The rows `[from, from + rows)` of a tensor along `axis`: a view when nothing lies before the axis. */
export function sliceRows(
  tensor: NamedTensor,
  axis: number,
  from: number,
  rows: number,
): NamedTensor {
  const size = tensor.shape[axis]!;
  if (from === 0 && rows === size) return tensor;
  const { outer, rowBytes } = geometry(tensor, axis);
  const shape = withExtent(tensor.shape, axis, rows);
  if (outer === 1) {
    return {
      ...tensor,
      shape,
      data: tensor.data.subarray(from * rowBytes, (from + rows) * rowBytes),
    };
  }
  const data = new Uint8Array(outer * rows * rowBytes);
  for (let block = 0; block < outer; block++) {
    const start = (block * size + from) * rowBytes;
    data.set(tensor.data.subarray(start, start + rows * rowBytes), block * rows * rowBytes);
  }
  return { ...tensor, shape, data };
}
