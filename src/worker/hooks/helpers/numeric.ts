/** Small numeric steps around a program. Computed in float64; Float32Array in gives Float32Array out. */

type Floats = Float32Array | Float64Array;

/** `1 / (1 + exp(-x))` of one number, or of each element into a new array. */
export function sigmoid(x: number): number;
export function sigmoid(x: Float32Array): Float32Array;
export function sigmoid(x: ArrayLike<number>): Floats;
export function sigmoid(x: number | ArrayLike<number>): number | Floats {
  if (typeof x === "number") return 1 / (1 + Math.exp(-x));
  const result = floatsLike(x);
  for (let at = 0; at < result.length; at++) result[at] = 1 / (1 + Math.exp(-x[at]!));
  return result;
}

/**
 * Exponentials that sum to 1 along an axis, into a new array.
 * @param shape row-major extents of `values`; one axis by default
 * @param axis negative counts from the last
 */
export function softmax(
  values: Float32Array,
  shape?: readonly number[],
  axis?: number,
): Float32Array;
export function softmax(
  values: ArrayLike<number>,
  shape?: readonly number[],
  axis?: number,
): Floats;
export function softmax(
  values: ArrayLike<number>,
  shape: readonly number[] = [values.length],
  axis = -1,
): Floats {
  const { extent, stride, lines, startOf } = linesOf(values.length, shape, axis);
  const result = floatsLike(values);
  for (let line = 0; line < lines; line++) {
    const start = startOf(line);
    const end = start + extent * stride;
    // Subtracting the greatest keeps every exponential finite.
    let greatest = -Infinity;
    for (let at = start; at < end; at += stride) greatest = Math.max(greatest, values[at]!);
    let sum = 0;
    for (let at = start; at < end; at += stride) sum += Math.exp(values[at]! - greatest);
    for (let at = start; at < end; at += stride) {
      result[at] = Math.exp(values[at]! - greatest) / sum;
    }
  }
  return result;
}

/**
 * Index of the greatest element; the first of equal ones, and a NaN counts as greatest, as in NumPy.
 * With a shape and an axis, one index per line along that axis, row-major in the remaining axes.
 * @throws {RangeError} when there is nothing to choose from
 */
export function argmax(values: ArrayLike<number>): number;
export function argmax(
  values: ArrayLike<number>,
  shape: readonly number[],
  axis?: number,
): Int32Array;
export function argmax(
  values: ArrayLike<number>,
  shape?: readonly number[],
  axis = -1,
): number | Int32Array {
  const { extent, stride, lines, startOf } = linesOf(values.length, shape ?? [values.length], axis);
  if (extent === 0) throw new RangeError("argmax of no elements");
  const result = new Int32Array(lines);
  for (let line = 0; line < lines; line++) {
    const start = startOf(line);
    let best = 0;
    for (let index = 1; index < extent; index++) {
      const greatest = values[start + best * stride]!;
      const value = values[start + index * stride]!;
      if (value > greatest || (Number.isNaN(value) && !Number.isNaN(greatest))) best = index;
    }
    result[line] = best;
  }
  return shape === undefined ? result[0]! : result;
}

/** The lines of an array along one axis: where each starts and how its elements lie apart. */
function linesOf(
  count: number,
  shape: readonly number[],
  axis: number,
): { extent: number; stride: number; lines: number; startOf(line: number): number } {
  const position = axis < 0 ? axis + shape.length : axis;
  const extent = shape[position];
  if (extent === undefined) throw new RangeError(`[${shape}] has no axis ${axis}`);
  const product = (extents: readonly number[]) => extents.reduce((a, b) => a * b, 1);
  if (product(shape) !== count) {
    throw new RangeError(`${count} values where [${shape}] takes ${product(shape)}`);
  }
  const stride = product(shape.slice(position + 1));
  return {
    extent,
    stride,
    lines: product(shape.slice(0, position)) * stride,
    startOf: (line) => Math.floor(line / stride) * stride * extent + line % stride,
  };
}

function floatsLike(values: ArrayLike<number>): Floats {
  return values instanceof Float32Array
    ? new Float32Array(values.length)
    : new Float64Array(values.length);
}
