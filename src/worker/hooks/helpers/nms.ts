/** Non-maximum suppression. Boxes are rows of `x1, y1, x2, y2`; all arithmetic is in float64. */

import { countRows } from "./boxes.ts";

/**
 * Greedy suppression: by descending score (equal scores in input order, NaN last), a box is dropped when
 * its IoU with one kept before exceeds the threshold. The IoU is 0 when the union is not positive.
 * @param boxes `[N, 4]`
 * @param scores `[N]`
 * @returns indices of the kept boxes, best first
 */
export function nms(
  boxes: ArrayLike<number>,
  scores: ArrayLike<number>,
  iouThreshold: number,
): Int32Array {
  const count = checkCounts(boxes, scores);
  // Any IoU exceeds a negative threshold: the best box is left alone.
  if (iouThreshold < 0) return orderByScore(scores, 1);
  const kept = new KeptBoxes(boxes, count, iouThreshold);
  const indices = new Int32Array(count);
  let found = 0;
  for (const index of orderByScore(scores, count)) {
    const at = index * 4;
    if (kept.add(boxes[at]!, boxes[at + 1]!, boxes[at + 2]!, boxes[at + 3]!)) {
      indices[found++] = index;
    }
  }
  return indices.slice(0, found);
}

/** They bound the number of cells; `batchedNms` needs the columns, one image the rows. */
const MAX_COLUMNS_PER_BOX = 4;
const MAX_ROWS = 32;

/** One axis cut into strips of equal width. */
interface Strips {
  readonly count: number;
  readonly low: number;
  readonly perPixel: number;
}

/** Cuts an axis, 0 for x or 1 for y, into strips about as wide as the average box, `most` at most. */
function layStrips(boxes: ArrayLike<number>, axis: 0 | 1, most: number): Strips {
  let low = Infinity;
  let high = -Infinity;
  let extents = 0;
  let proper = 0;
  for (let at = axis; at < boxes.length; at += 4) {
    const from = boxes[at]!;
    const to = boxes[at + 2]!;
    if (!(to > from)) continue;
    low = Math.min(low, from);
    high = Math.max(high, to);
    extents += to - from;
    proper++;
  }
  const count = Math.ceil(Math.min((high - low) * proper / extents, most));
  // Infinite boxes leave nothing to divide by, and then one strip has to do.
  return count > 1 && high - low < Infinity
    ? { count, low, perPixel: count / (high - low) }
    : { count: 1, low: 0, perPixel: 0 };
}

/**
 * The boxes kept so far, by the cells of a grid that they touch. Boxes that overlap share a cell, so a
 * candidate is compared with what its own cells hold.
 */
class KeptBoxes {
  readonly #threshold: number;
  readonly #across: Strips;
  readonly #down: Strips;
  /** Corners in the order of keeping. */
  readonly #corners: Float64Array;
  #count = 0;
  /** Linked lists of boxes, one per cell: pairs of (box, next pair), -1 at the end. */
  readonly #heads: Int32Array;
  #links: Int32Array;
  #linkEnd = 0;

  constructor(boxes: ArrayLike<number>, count: number, threshold: number) {
    this.#threshold = threshold;
    this.#across = layStrips(boxes, 0, count * MAX_COLUMNS_PER_BOX);
    this.#down = layStrips(boxes, 1, MAX_ROWS);
    this.#heads = new Int32Array(this.#across.count * this.#down.count).fill(-1);
    this.#links = new Int32Array(8 * count);
    this.#corners = new Float64Array(boxes.length);
  }

  /** Keeps a box unless its IoU with one kept before exceeds the threshold; says whether it did. */
  add(left: number, top: number, right: number, bottom: number): boolean {
    // A box without an inside overlaps nothing that comes, and nothing that came.
    if (!(right > left && bottom > top)) return true;
    const firstColumn = stripOf(this.#across, left);
    const lastColumn = stripOf(this.#across, right);
    const firstRow = stripOf(this.#down, top);
    const lastRow = stripOf(this.#down, bottom);
    const rows = this.#down.count;
    const area = (right - left) * (bottom - top);
    const heads = this.#heads;
    const links = this.#links;
    const corners = this.#corners;
    const threshold = this.#threshold;
    for (let column = firstColumn; column <= lastColumn; column++) {
      for (let row = firstRow; row <= lastRow; row++) {
        for (let link = heads[column * rows + row]!; link >= 0; link = links[link + 1]!) {
          const at = links[link]! * 4;
          const x1 = corners[at]!;
          const x2 = corners[at + 2]!;
          const width = (right < x2 ? right : x2) - (left > x1 ? left : x1);
          if (!(width > 0)) continue;
          const y1 = corners[at + 1]!;
          const y2 = corners[at + 3]!;
          const height = (bottom < y2 ? bottom : y2) - (top > y1 ? top : y1);
          if (!(height > 0)) continue;
          const shared = width * height;
          const union = (x2 - x1) * (y2 - y1) + area - shared;
          if (union > 0 && shared / union > threshold) return false;
        }
      }
    }
    const box = this.#count++;
    corners[box * 4] = left;
    corners[box * 4 + 1] = top;
    corners[box * 4 + 2] = right;
    corners[box * 4 + 3] = bottom;
    for (let column = firstColumn; column <= lastColumn; column++) {
      for (let row = firstRow; row <= lastRow; row++) this.#enter(column * rows + row, box);
    }
    return true;
  }

  #enter(cell: number, box: number): void {
    if (this.#linkEnd === this.#links.length) {
      const larger = new Int32Array(this.#links.length * 2);
      larger.set(this.#links);
      this.#links = larger;
    }
    this.#links[this.#linkEnd] = box;
    this.#links[this.#linkEnd + 1] = this.#heads[cell]!;
    this.#heads[cell] = this.#linkEnd;
    this.#linkEnd += 2;
  }
}

function stripOf({ count, low, perPixel }: Strips, position: number): number {
  return Math.min(count - 1, (position - low) * perPixel | 0);
}

/**
 * Suppression within groups only: every box is shifted by its group times the span of all coordinates
 * plus 1, which moves groups apart, and then `nms` decides.
 * @param groups `[N]` integers, for example classes or pyramid levels
 */
export function batchedNms(
  boxes: ArrayLike<number>,
  scores: ArrayLike<number>,
  groups: ArrayLike<number>,
  iouThreshold: number,
): Int32Array {
  const count = checkCounts(boxes, scores);
  if (groups.length !== count) {
    throw new RangeError(`${groups.length} groups for ${count} boxes`);
  }
  let low = Infinity;
  let high = -Infinity;
  for (let at = 0; at < boxes.length; at += 4) {
    low = Math.min(low, boxes[at]!, boxes[at + 1]!);
    high = Math.max(high, boxes[at + 2]!, boxes[at + 3]!);
  }
  const span = high - low + 1;
  const shifted = new Float64Array(boxes.length);
  for (let at = 0; at < boxes.length; at++) shifted[at] = boxes[at]! + groups[at >> 2]! * span;
  return nms(shifted, scores, iouThreshold);
}

/** Indices of the `limit` best scores, best first; equal scores in input order, NaN last. */
export function orderByScore(scores: ArrayLike<number>, limit: number): Int32Array {
  const count = scores.length;
  // Negated and with NaN settled: ascending order is what sorting without a comparator gives.
  const keys = new Float64Array(count);
  for (let at = 0; at < count; at++) keys[at] = Number.isNaN(scores[at]!) ? Infinity : -scores[at]!;
  const byKey = (a: number, b: number) =>
    keys[a]! < keys[b]! ? -1 : keys[a]! > keys[b]! ? 1 : a - b;
  if (limit >= count) return Int32Array.from(keys.keys()).sort(byKey);
  if (limit < 1) return new Int32Array(0);
  // A few of many: the limit's own key tells who is among them, and only those are ordered.
  const last = keys.slice().sort()[limit - 1]!;
  const best: number[] = [];
  const ties: number[] = [];
  for (let at = 0; at < count; at++) {
    if (keys[at]! < last) best.push(at);
    else if (keys[at]! === last && ties.length < limit) ties.push(at);
  }
  return Int32Array.from(best.concat(ties.slice(0, limit - best.length))).sort(byKey);
}

function checkCounts(boxes: ArrayLike<number>, scores: ArrayLike<number>): number {
  const count = countRows(boxes, 4, "boxes");
  if (scores.length !== count) throw new RangeError(`${scores.length} scores for ${count} boxes`);
  return count;
}
