/** The steps between the stages of a Faster R-CNN, after Detectron2 and torchvision. */

import { clipBox, countRows, decodeInto, type DeltaWeights } from "./boxes.ts";
import { batchedNms, orderByScore } from "./nms.ts";
import { softmax } from "./numeric.ts";

/** Which pyramid level a box is pooled from; defaults are the FPN paper's (Lin et al., 2017). */
export interface LevelOptions {
  /** Level of a box of canonical size: 4. */
  readonly canonLevel?: number;
  /** Side of that box in pixels: 224. */
  readonly canonSize?: number;
  /** First level: 2. */
  readonly min?: number;
  /** Last level: 5. */
  readonly max?: number;
}

/** 0-based level of one box, counted from `min`; boxes without area go to the first. */
export function assignLevel(box: ArrayLike<number>, options: LevelOptions = {}): number {
  return assignLevels(box, options)[0]!;
}

/** 0-based level of each box `[N, 4]`. */
export function assignLevels(
  boxes: ArrayLike<number>,
  { canonLevel = 4, canonSize = 224, min = 2, max = 5 }: LevelOptions = {},
): Int32Array {
  const levels = new Int32Array(countRows(boxes, 4, "boxes"));
  for (let index = 0, at = 0; index < levels.length; index++, at += 4) {
    const area = (boxes[at + 2]! - boxes[at]!) * (boxes[at + 3]! - boxes[at + 1]!);
    // The addend of both libraries: it keeps exact powers of two on their level.
    const level = Math.floor(
      canonLevel + Math.log2(Math.sqrt(Math.max(area, 0)) / canonSize + 1e-8),
    );
    levels[index] = Math.min(Math.max(level, min), max) - min;
  }
  return levels;
}

/** Limits of `selectRpnProposals`. */
export interface ProposalOptions {
  /** Best boxes taken per level: 1000. */
  readonly preTopk?: number;
  /** Boxes kept in all: 1000. */
  readonly postTopk?: number;
  /** 0.7 */
  readonly nmsThreshold?: number;
}

/** Proposals of one image, best first. */
export interface Proposals {
  /** `[N, 4]` */
  readonly boxes: Float64Array;
  /** `[N]`, as given. */
  readonly scores: Float64Array;
}

/**
 * The best boxes of all pyramid levels: per level the `preTopk` best, clipped to the image, those without
 * positive width and height dropped, suppressed level by level, the first `postTopk`.
 * @param levels decoded boxes of each level, `[N, 4]`
 * @param scores objectness of each level, `[N]`; logits will do, only their order counts
 */
export function selectRpnProposals(
  levels: readonly ArrayLike<number>[],
  scores: readonly ArrayLike<number>[],
  imageHeight: number,
  imageWidth: number,
  { preTopk = 1000, postTopk = 1000, nmsThreshold = 0.7 }: ProposalOptions = {},
): Proposals {
  if (levels.length !== scores.length) {
    throw new RangeError(`${scores.length} levels of scores for ${levels.length} levels of boxes`);
  }
  const best = levels.map((boxes, level) => {
    const levelScores = scores[level]!;
    const count = countRows(boxes, 4, `boxes of level ${level}`);
    if (count !== levelScores.length) {
      throw new RangeError(`${levelScores.length} scores for ${count} boxes of level ${level}`);
    }
    return orderByScore(levelScores, preTopk);
  });
  const found = new Candidates(best.reduce((total, { length }) => total + length, 0));
  for (const [level, indices] of best.entries()) {
    const boxes = levels[level]!;
    for (const index of indices) {
      const at = found.next();
      for (let side = 0; side < 4; side++) found.boxes[at + side] = boxes[index * 4 + side]!;
      clipBox(found.boxes, at, imageHeight, imageWidth);
      const hasArea = found.boxes[at + 2]! > found.boxes[at]! &&
        found.boxes[at + 3]! > found.boxes[at + 1]!;
      if (hasArea) found.add(scores[level]![index]!, level, index);
    }
  }
  const { boxes, scores: kept } = found.suppress(nmsThreshold, postTopk);
  return { boxes, scores: kept };
}

/** How `fastRcnnInference` decodes and filters. */
export interface DetectionOptions {
  /** Probabilities must exceed it. */
  readonly scoreThreshold: number;
  readonly nmsThreshold: number;
  /** Detections kept; negative keeps all. */
  readonly topk: number;
  /** `[10, 10, 5, 5]` */
  readonly weights?: DeltaWeights;
  /** Whether the first column is the background, as in torchvision; else the last, as in Detectron2. */
  readonly backgroundFirst?: boolean;
  /** Least width and height in pixels: 0. */
  readonly minSize?: number;
}

/** Detections of one image, best first. */
export interface Detections {
  /** `[N, 4]` */
  readonly boxes: Float64Array;
  /** `[N]` probabilities. */
  readonly scores: Float64Array;
  /** `[N]` columns of the class logits, from 0. */
  readonly classes: Int32Array;
  /** `[N]` rows of the proposals they came from. */
  readonly rows: Int32Array;
}

/**
 * Detections from the outputs of a box head: softmax per proposal; for every class but the background
 * whose probability exceeds the threshold its decoded box, clipped to the image, unless it is too small;
 * suppressed class by class; the first `topk`.
 * @param logits `[K, C]`, the background among the columns
 * @param deltas `[K, 4G]`: class column c reads group c, or group 0 when there is but one
 * @param proposals `[K, 4]`
 */
export function fastRcnnInference(
  logits: ArrayLike<number>,
  deltas: ArrayLike<number>,
  proposals: ArrayLike<number>,
  imageHeight: number,
  imageWidth: number,
  options: DetectionOptions,
): Detections {
  const { scoreThreshold, nmsThreshold, topk } = options;
  const { weights = [10, 10, 5, 5], backgroundFirst = false, minSize = 0 } = options;
  const count = countRows(proposals, 4, "proposals");
  if (count === 0) return new Candidates(0).suppress(nmsThreshold, topk);
  const columns = logits.length / count;
  const groups = deltas.length / (count * 4);
  const firstClass = backgroundFirst ? 1 : 0;
  const endClass = backgroundFirst ? columns : columns - 1;
  if (
    !Number.isInteger(columns) || !Number.isInteger(groups) || groups !== 1 && groups < endClass
  ) {
    throw new RangeError(
      `${logits.length} class logits and ${deltas.length} deltas do not fit ${count} proposals`,
    );
  }
  const probabilities = softmax(Float64Array.from(logits), [count, columns]);
  const found = new Candidates(passing(probabilities, scoreThreshold));
  for (let row = 0; row < count; row++) {
    for (let column = firstClass; column < endClass; column++) {
      const probability = probabilities[row * columns + column]!;
      if (!(probability > scoreThreshold)) continue;
      const group = groups === 1 ? 0 : column;
      const at = found.next();
      decodeInto(found.boxes, at, deltas, (row * groups + group) * 4, proposals, row * 4, weights);
      clipBox(found.boxes, at, imageHeight, imageWidth);
      const isLarge = found.boxes[at + 2]! - found.boxes[at]! >= minSize &&
        found.boxes[at + 3]! - found.boxes[at + 1]! >= minSize;
      if (isLarge) found.add(probability, column, row);
    }
  }
  return found.suppress(nmsThreshold, topk);
}

/** How many candidates there can be; background columns count too, they are few. */
function passing(probabilities: ArrayLike<number>, threshold: number): number {
  let count = 0;
  for (let at = 0; at < probabilities.length; at++) if (probabilities[at]! > threshold) count++;
  return count;
}

/** Boxes being collected for suppression. The next one is written in place and added only if it counts. */
class Candidates {
  readonly boxes: Float64Array;
  readonly #scores: Float64Array;
  readonly #groups: Int32Array;
  readonly #rows: Int32Array;
  #count = 0;

  constructor(capacity: number) {
    this.boxes = new Float64Array(capacity * 4);
    this.#scores = new Float64Array(capacity);
    this.#groups = new Int32Array(capacity);
    this.#rows = new Int32Array(capacity);
  }

  /** Where the next box belongs in `boxes`. */
  next(): number {
    return this.#count * 4;
  }

  add(score: number, group: number, row: number): void {
    this.#scores[this.#count] = score;
    this.#groups[this.#count] = group;
    this.#rows[this.#count++] = row;
  }

  /** What remains of each group, best first; a negative limit is none. */
  suppress(iouThreshold: number, limit: number): Detections {
    const count = this.#count;
    const scores = this.#scores.subarray(0, count);
    const groups = this.#groups.subarray(0, count);
    const all = batchedNms(this.boxes.subarray(0, count * 4), scores, groups, iouThreshold);
    const kept = limit < 0 ? all : all.subarray(0, limit);
    const boxes = new Float64Array(kept.length * 4);
    for (const [rank, index] of kept.entries()) {
      boxes.set(this.boxes.subarray(index * 4, index * 4 + 4), rank * 4);
    }
    return {
      boxes,
      scores: Float64Array.from(kept, (index) => scores[index]!),
      classes: Int32Array.from(kept, (index) => groups[index]!),
      rows: Int32Array.from(kept, (index) => this.#rows[index]!),
    };
  }
}
