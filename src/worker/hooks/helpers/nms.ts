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
  const order = orderByScore(scores, count);
  // Boxes that overlap share a cell, so a candidate is compared with what its own cells hold.
  const across = layStrips(boxes, 0, count * MAX_COLUMNS_PER_BOX);
  const down = layStrips(boxes, 1, MAX_ROWS);
  const heads = new Int32Array(across.count * down.count).fill(-1);
  // Linked lists of kept boxes, one per cell: pairs of (place in `kept`, next pair).
  let links = new Int32Array(8 * count);
  let linkEnd = 0;
  const corners = new Float64Array(boxes.length);
  const kept = new Int32Array(count);
  let found = 0;
  candidates: for (let rank = 0; rank < count; rank++) {
    const index = order[rank]!;
    const left = boxes[index * 4]!;
    const top = boxes[index * 4 + 1]!;
    const right = boxes[index * 4 + 2]!;
    const bottom = boxes[index * 4 + 3]!;
    // A box without an inside overlaps nothing that comes, and nothing that came.
    if (right > left && bottom > top) {
      const area = (right - left) * (bottom - top);
      const firstColumn = stripOf(across, left);
      const lastColumn = stripOf(across, right);
      const firstRow = stripOf(down, top);
      const lastRow = stripOf(down, bottom);
      for (let column = firstColumn; column <= lastColumn; column++) {
        for (let row = firstRow; row <= lastRow; row++) {
          for (let link = heads[column * down.count + row]!; link >= 0; link = links[link + 1]!) {
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
            if (union > 0 && shared / union > iouThreshold) continue candidates;
          }
        }
      }
      corners[found * 4] = left;
      corners[found * 4 + 1] = top;
      corners[found * 4 + 2] = right;
      corners[found * 4 + 3] = bottom;
      const cells = (lastColumn - firstColumn + 1) * (lastRow - firstRow + 1);
      if (linkEnd + 2 * cells > links.length) links = grown(links, linkEnd + 2 * cells);
      for (let column = firstColumn; column <= lastColumn; column++) {
        for (let row = firstRow; row <= lastRow; row++) {
          const cell = column * down.count + row;
          links[linkEnd] = found;
          links[linkEnd + 1] = heads[cell]!;
          heads[cell] = linkEnd;
          linkEnd += 2;
        }
      }
    }
    kept[found++] = index;
  }
  return kept.slice(0, found);
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

function stripOf({ count, low, perPixel }: Strips, position: number): number {
  return Math.min(count - 1, (position - low) * perPixel | 0);
}

function grown(links: Int32Array<ArrayBuffer>, least: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(Math.max(least, links.length * 2));
  larger.set(links);
  return larger;
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
