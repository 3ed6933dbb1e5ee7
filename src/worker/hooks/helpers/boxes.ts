/**
 * Boxes are rows of `x1, y1, x2, y2` in one flat array, in pixels; all arithmetic is in float64. Anchors of
 * a feature map are ordered by row, then column, then cell anchor (h, w, a).
 */

import { asFloat32, type ReadableTensor, valuesOf } from "./tensors.ts";

/** Wire elements as they are: float32 (half types widened to it) or float64. */
export type Floats = Float32Array | Float64Array;

/** One image's features, row-major `[channels, height, width]`. */
export interface FeatureMap {
  readonly data: Floats;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

/** Divisors of the four deltas: centre x, centre y, width, height. */
export type DeltaWeights = readonly [wx: number, wy: number, ww: number, wh: number];

/** Greatest log scale a delta may ask for; Detectron's bound, 1000 pixels over a stride of 16. */
const MAX_LOG_SCALE = Math.log(1000 / 16);

/**
 * Applies centre/size deltas to boxes. Log sizes are clamped above at `ln(1000 / 16)`.
 * @param deltas `[M, 4C]`, four per class
 * @param boxes `[M, 4]`
 * @returns `[M, 4C]`
 */
export function decodeBoxes(
  deltas: ArrayLike<number>,
  boxes: ArrayLike<number>,
  weights: DeltaWeights = [1, 1, 1, 1],
): Float64Array {
  const count = countRows(boxes, 4, "boxes");
  const columns = count === 0 ? 0 : deltas.length / count;
  if (columns % 4 !== 0 || (count === 0 && deltas.length > 0)) {
    throw new RangeError(`${deltas.length} deltas for ${count} boxes are not four per class each`);
  }
  const result = new Float64Array(deltas.length);
  for (let row = 0, at = 0; row < count; row++) {
    const end = at + columns;
    for (; at < end; at += 4) decodeInto(result, at, deltas, at, boxes, row * 4, weights);
  }
  return result;
}

/** Writes one decoded box to `into[at..at + 4]`; the indices are those of first elements. */
export function decodeInto(
  into: Float64Array,
  at: number,
  deltas: ArrayLike<number>,
  delta: number,
  boxes: ArrayLike<number>,
  box: number,
  weights: DeltaWeights,
): void {
  const x1 = boxes[box]!;
  const y1 = boxes[box + 1]!;
  const width = boxes[box + 2]! - x1;
  const height = boxes[box + 3]! - y1;
  const centreX = deltas[delta]! / weights[0] * width + (x1 + 0.5 * width);
  const centreY = deltas[delta + 1]! / weights[1] * height + (y1 + 0.5 * height);
  const halfWidth = 0.5 * Math.exp(Math.min(deltas[delta + 2]! / weights[2], MAX_LOG_SCALE)) *
    width;
  const halfHeight = 0.5 * Math.exp(Math.min(deltas[delta + 3]! / weights[3], MAX_LOG_SCALE)) *
    height;
  into[at] = centreX - halfWidth;
  into[at + 1] = centreY - halfHeight;
  into[at + 2] = centreX + halfWidth;
  into[at + 3] = centreY + halfHeight;
}

/** Clips the box at `boxes[at]` to an image, in place. */
export function clipBox(boxes: Float64Array, at: number, height: number, width: number): void {
  boxes[at] = Math.min(Math.max(boxes[at]!, 0), width);
  boxes[at + 1] = Math.min(Math.max(boxes[at + 1]!, 0), height);
  boxes[at + 2] = Math.min(Math.max(boxes[at + 2]!, 0), width);
  boxes[at + 3] = Math.min(Math.max(boxes[at + 3]!, 0), height);
}

/**
 * Cell anchors moved to every position of a feature map.
 * @param stride pixels of the image per position
 * @param cell `[A, 4]` around the origin
 * @returns `[height * width * A, 4]`
 */
export function generateAnchors(
  height: number,
  width: number,
  stride: number,
  cell: ArrayLike<number>,
): Float64Array {
  countRows(cell, 4, "cell anchors");
  const result = new Float64Array(height * width * cell.length);
  let at = 0;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      for (let anchor = 0; anchor < cell.length; anchor += 4) {
        result[at++] = cell[anchor]! + column * stride;
        result[at++] = cell[anchor + 1]! + row * stride;
        result[at++] = cell[anchor + 2]! + column * stride;
        result[at++] = cell[anchor + 3]! + row * stride;
      }
    }
  }
  return result;
}

/** Objectness `[1, A, H, W]` in anchor order: `[H * W * A]`. */
export function objectnessFlat(wire: ReadableTensor): Floats {
  return channelsLast(wire, 1);
}

/** Deltas `[1, 4A, H, W]` in anchor order: `[H * W * A, 4]`. */
export function deltasMatrix(wire: ReadableTensor): Floats {
  return channelsLast(wire, 4);
}

/** The feature map of a `[1, C, H, W]` tensor; FP32 and FP64 are not copied if they lie aligned. */
export function featureChw(wire: ReadableTensor): FeatureMap {
  const [channels, height, width] = singleImage(wire);
  return { data: floatsOf(wire), channels, height, width };
}

/** Number of rows of a flat matrix. @throws {RangeError} when the last one is not whole */
export function countRows(values: ArrayLike<number>, columns: number, what: string): number {
  if (values.length % columns !== 0) {
    throw new RangeError(`${what}: ${values.length} values are no rows of ${columns}`);
  }
  return values.length / columns;
}

function channelsLast(wire: ReadableTensor, divisor: number): Floats {
  const [channels, height, width] = singleImage(wire);
  if (channels % divisor !== 0) {
    throw new RangeError(
      `tensor ${JSON.stringify(wire.name)} has ${channels} channels, not ${divisor} per anchor`,
    );
  }
  const source = floatsOf(wire);
  const plane = height * width;
  const result = source instanceof Float32Array
    ? new Float32Array(source.length)
    : new Float64Array(source.length);
  for (let channel = 0, from = 0; channel < channels; channel++) {
    for (let position = 0; position < plane; position++) {
      result[position * channels + channel] = source[from++]!;
    }
  }
  return result;
}

function singleImage(wire: ReadableTensor): [channels: number, height: number, width: number] {
  const [batch, channels, height, width] = wire.shape;
  if (wire.shape.length !== 4 || batch !== 1) {
    throw new RangeError(
      `tensor ${
        JSON.stringify(wire.name)
      } must be [1, channels, height, width], got [${wire.shape}]`,
    );
  }
  return [channels!, height!, width!];
}

function floatsOf(wire: ReadableTensor): Floats {
  return wire.datatype === "FP64" ? valuesOf(wire) as Float64Array : asFloat32(wire);
}
