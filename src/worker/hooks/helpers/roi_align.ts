/**
 * RoIAlign (He et al., Mask R-CNN, 2017): each box becomes a grid of bins, each bin the mean of bilinear
 * samples of the features inside it.
 *
 * Bilinear weights are a product of one factor per axis, so the samples of a bin are gathered once per box
 * into a list of positions and weights, which serves every channel.
 */

import { countRows, type FeatureMap, type Floats } from "./boxes.ts";

/** How boxes are laid over features; every field has the default of Detectron2's box head. */
export interface RoiAlignOptions {
  /** Bins per side: 7. */
  readonly pooled?: number;
  /** Samples per bin and axis; 0, the default, takes as many as a bin has feature cells, rounded up. */
  readonly ratio?: number;
  /** Whether pixel centres lie at half coordinates (true), or boxes are at least one cell large. */
  readonly aligned?: boolean;
  /**
   * For `roiAlignInto`: the row of `out` that each box fills; by default boxes fill rows from 0 on. With
   * it, boxes of several pyramid levels share one buffer.
   */
  readonly rows?: ArrayLike<number>;
}

/** Beyond it a box is no box, and its samples could not be counted. */
const MAX_COORDINATE = 2 ** 31;

/**
 * Pools boxes out of a feature map.
 * @param boxes `[K, 4]` in pixels
 * @param scale feature cells per pixel
 * @returns `[K, C, pooled, pooled]`
 * @throws {RangeError} for a box that is not finite
 */
export function roiAlign(
  feature: FeatureMap,
  boxes: ArrayLike<number>,
  scale: number,
  options: Omit<RoiAlignOptions, "rows"> = {},
): Float64Array {
  const { pooled = 7 } = options;
  const count = countRows(boxes, 4, "boxes");
  const out = new Float64Array(count * feature.channels * pooled * pooled);
  roiAlignInto(out, feature, boxes, scale, { ...options, rows: undefined });
  return out;
}

/**
 * The same into a given buffer, for example the float32 input of the next program. Rows of `out` that no
 * box fills keep what they hold.
 * @param out `[rows, C, pooled, pooled]`
 * @throws {RangeError} for a box that is not finite, or a row that `out` does not have
 */
export function roiAlignInto(
  out: Floats,
  feature: FeatureMap,
  boxes: ArrayLike<number>,
  scale: number,
  { pooled = 7, ratio = 0, aligned = true, rows }: RoiAlignOptions = {},
): void {
  const { data, channels, height, width } = feature;
  const count = countRows(boxes, 4, "boxes");
  if (data.length !== channels * height * width) {
    throw new RangeError(`${data.length} features where [${channels},${height},${width}] is said`);
  }
  if (rows !== undefined && rows.length !== count) {
    throw new RangeError(`${rows.length} rows for ${count} boxes`);
  }
  const rowLength = channels * pooled * pooled;
  const offset = aligned ? 0.5 : 0;
  const least = aligned ? -Infinity : 1;
  const vertical = new AxisTaps(pooled);
  const horizontal = new AxisTaps(pooled);
  const taps = new BinTaps(pooled);
  for (let box = 0; box < count; box++) {
    const row = rows === undefined ? box : rows[box]!;
    if (!(row >= 0 && (row + 1) * rowLength <= out.length)) {
      throw new RangeError(`box ${box} belongs into row ${row}, which the buffer does not have`);
    }
    const left = boxes[box * 4]! * scale - offset;
    const top = boxes[box * 4 + 1]! * scale - offset;
    const roiWidth = Math.max(boxes[box * 4 + 2]! * scale - offset - left, least);
    const roiHeight = Math.max(boxes[box * 4 + 3]! * scale - offset - top, least);
    if (
      !(Math.abs(left) + Math.abs(top) + Math.abs(roiWidth) + Math.abs(roiHeight) < MAX_COORDINATE)
    ) {
      throw new RangeError(`box ${box} has no usable coordinates`);
    }
    vertical.place(top, roiHeight / pooled, ratio, height);
    horizontal.place(left, roiWidth / pooled, ratio, width);
    taps.combine(vertical, horizontal, width);
    pool(out, row * rowLength, data, channels, height * width, taps);
  }
}

/** Along one axis: which cells each bin touches, and with what weight. */
class AxisTaps {
  readonly bins: number;
  /** Taps of bin `b` are at `ends[b]` up to `ends[b + 1]`. */
  readonly ends: Int32Array;
  cells = new Int32Array(64);
  weights = new Float64Array(64);

  constructor(bins: number) {
    this.bins = bins;
    this.ends = new Int32Array(bins + 1);
  }

  /** Lays bins of a size from `start` on over `extent` cells. */
  place(start: number, binSize: number, ratio: number, extent: number): void {
    const samples = ratio > 0 ? ratio : Math.max(1, Math.ceil(binSize));
    const share = 1 / samples;
    for (let bin = 0; bin < this.bins; bin++) {
      this.ends[bin + 1] = this.ends[bin]!;
      const first = start + bin * binSize;
      const [from, to] = samplesWithin(first, binSize / samples, samples, extent);
      for (let sample = from; sample < to; sample++) {
        // In this order of operations as elsewhere: the map's edge is a sharp one.
        this.#addSample(bin, first + (sample + 0.5) * binSize / samples, share, extent);
      }
    }
  }

  #addSample(bin: number, position: number, share: number, extent: number): void {
    if (position < -1 || position > extent) return;
    const inside = Math.max(position, 0);
    const low = Math.trunc(inside);
    if (low >= extent - 1) {
      this.#addTap(bin, extent - 1, share);
      return;
    }
    const part = inside - low;
    this.#addTap(bin, low, share * (1 - part));
    this.#addTap(bin, low + 1, share * part);
  }

  /** Samples come in order, so a cell met before is one of the last two. */
  #addTap(bin: number, cell: number, weight: number): void {
    const end = this.ends[bin + 1]!;
    const start = Math.max(this.ends[bin]!, end - 2);
    for (let at = end - 1; at >= start; at--) {
      if (this.cells[at] === cell) {
        this.weights[at]! += weight;
        return;
      }
    }
    if (end === this.cells.length) {
      this.cells = grown(this.cells, new Int32Array(end * 2));
      this.weights = grown(this.weights, new Float64Array(end * 2));
    }
    this.cells[end] = cell;
    this.weights[end] = weight;
    this.ends[bin + 1] = end + 1;
  }
}

/**
 * The samples of a bin that may lie on the map: all that do, and a few more. Boxes far larger than the map
 * have mostly others.
 */
function samplesWithin(
  first: number,
  step: number,
  samples: number,
  extent: number,
): [from: number, to: number] {
  if (step === 0) return [0, samples];
  const a = (-1 - first) / step;
  const b = (extent - first) / step;
  return [
    Math.max(0, Math.floor(Math.min(a, b)) - 1),
    Math.min(samples, Math.ceil(Math.max(a, b)) + 1),
  ];
}

/** Over both axes: offsets into a plane and weights, for each bin of a box. */
class BinTaps {
  readonly bins: number;
  /** Taps of bin `b`, row-major, are at `ends[b]` up to `ends[b + 1]`. */
  readonly ends: Int32Array;
  offsets = new Int32Array(1024);
  weights = new Float64Array(1024);

  constructor(pooled: number) {
    this.bins = pooled * pooled;
    this.ends = new Int32Array(this.bins + 1);
  }

  combine(vertical: AxisTaps, horizontal: AxisTaps, width: number): void {
    const total = vertical.ends.at(-1)! * horizontal.ends.at(-1)!;
    if (total > this.offsets.length) {
      this.offsets = new Int32Array(total * 2);
      this.weights = new Float64Array(total * 2);
    }
    const { offsets, weights } = this;
    let end = 0;
    let bin = 0;
    for (let y = 0; y < vertical.bins; y++) {
      for (let x = 0; x < horizontal.bins; x++) {
        for (let v = vertical.ends[y]!; v < vertical.ends[y + 1]!; v++) {
          const rowOffset = vertical.cells[v]! * width;
          const rowWeight = vertical.weights[v]!;
          for (let h = horizontal.ends[x]!; h < horizontal.ends[x + 1]!; h++) {
            offsets[end] = rowOffset + horizontal.cells[h]!;
            weights[end++] = rowWeight * horizontal.weights[h]!;
          }
        }
        this.ends[++bin] = end;
      }
    }
  }
}

/**
 * Writes the bins of every channel of one box to `out[at...]`. Eight channels at a time share each reading
 * of the tap list, which takes a third of the time that one at a time does.
 */
function pool(
  out: Floats,
  at: number,
  data: Floats,
  channels: number,
  plane: number,
  { bins, ends, offsets, weights }: BinTaps,
): void {
  let channel = 0;
  for (; channel + 8 <= channels; channel += 8) {
    const first = channel * plane;
    for (let bin = 0; bin < bins; bin++) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
      const end = ends[bin + 1]!;
      for (let tap = ends[bin]!; tap < end; tap++) {
        const weight = weights[tap]!;
        let from = first + offsets[tap]!;
        s0 += weight * data[from]!;
        s1 += weight * data[from += plane]!;
        s2 += weight * data[from += plane]!;
        s3 += weight * data[from += plane]!;
        s4 += weight * data[from += plane]!;
        s5 += weight * data[from += plane]!;
        s6 += weight * data[from += plane]!;
        s7 += weight * data[from += plane]!;
      }
      let to = at + channel * bins + bin;
      out[to] = s0;
      out[to += bins] = s1;
      out[to += bins] = s2;
      out[to += bins] = s3;
      out[to += bins] = s4;
      out[to += bins] = s5;
      out[to += bins] = s6;
      out[to += bins] = s7;
    }
  }
  for (; channel < channels; channel++) {
    for (let bin = 0; bin < bins; bin++) {
      let sum = 0;
      for (let tap = ends[bin]!; tap < ends[bin + 1]!; tap++) {
        sum += weights[tap]! * data[channel * plane + offsets[tap]!]!;
      }
      out[at + channel * bins + bin] = sum;
    }
  }
}

function grown<T extends Int32Array | Float64Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
