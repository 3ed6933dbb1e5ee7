/**
 * The global `helpers` of hook files: ready-made steps around a program. Functions are plain and pure;
 * numbers go in as any array, typed ones being fastest. They throw `TypeError` and `RangeError` that name
 * what is wrong.
 *
 * This file goes with `../api.d.ts`, which declares `NamedTensor`.
 */

/** Float data as it came over the wire. */
type HookFloats = Float32Array | Float64Array;

type HookTensorValues =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float16Array
  | Float32Array
  | Float64Array;

/** Between tensors and typed arrays or strings. */
interface HookTensorHelpers {
  /** The tensor of a name; throws when there is none. */
  findTensor(tensors: readonly NamedTensor[], name: string): NamedTensor;
  /**
   * Makes a tensor. A typed array of the datatype's own kind is used without a copy (for BF16: a
   * Uint16Array of bits); other numbers are converted, integers with a check of their range. BYTES takes
   * strings and byte strings.
   */
  makeTensor(
    name: string,
    datatype: string,
    shape: readonly number[],
    values:
      | HookTensorValues
      | Uint8ClampedArray
      | readonly (number | bigint | boolean)[]
      | readonly (string | Uint8Array)[],
  ): NamedTensor;
  /** Elements in the typed array of the datatype; a view of `data` where its alignment allows one. */
  valuesOf(tensor: NamedTensor): HookTensorValues;
  /** Elements of any numeric tensor; FP32 is not copied if it lies aligned. */
  asFloat32(tensor: NamedTensor): Float32Array;
  /** Elements of any numeric tensor; FP64 is not copied if it lies aligned. */
  asFloat64(tensor: NamedTensor): Float64Array;
  /** Elements of an integer or BOOL tensor; throws for a value that does not fit. */
  asInt32(tensor: NamedTensor): Int32Array;
  /** Elements of an integer or BOOL tensor; throws for a value that does not fit. */
  asInt64(tensor: NamedTensor): BigInt64Array;
  /** Elements of a BYTES tensor as text. */
  stringsOf(tensor: NamedTensor): string[];
  /** Elements of a BYTES tensor as views of its bytes. */
  bytesOf(tensor: NamedTensor): Uint8Array[];
}

/** A loaded BERT vocabulary. */
interface HookTokenizer {
  /** Number of lines of the vocabulary. */
  readonly size: number;
  readonly special: {
    readonly unk: number;
    readonly cls: number;
    readonly sep: number;
    readonly pad: number;
    readonly mask?: number;
  };
  idOf(token: string): number | undefined;
  /** Ids of a text, nothing added and nothing cut. */
  tokenize(text: string): number[];
}

/** One framed text or pair; only pairs have type ids. */
interface HookEncoded {
  readonly ids: Int32Array;
  readonly typeIds?: Int32Array;
}

/** Rows of equal length, `[batch, seq]`, ready for `makeTensor(…, "INT64", batch.shape, batch.ids)`. */
interface HookEncodedBatch {
  readonly shape: [batch: number, seq: number];
  /** 0 where padded. */
  readonly ids: BigInt64Array;
  /** 1 for tokens, 0 for padding. */
  readonly mask: BigInt64Array;
  readonly typeIds?: BigInt64Array;
}

/** Uncased BERT tokenization. */
interface HookTextHelpers {
  /**
   * Reads a vocabulary, one token per line: `loadTokenizer(bundle.readText("vocab.txt"))`, once, at the
   * top level of the hook file. Words of more code points than the limit (100) are unknown.
   */
  loadTokenizer(vocabulary: string | Uint8Array, maxInputCharsPerWord?: number): HookTokenizer;
  /** All bytes of a UINT8 tensor as one string. */
  wireText(tensor: NamedTensor | Uint8Array): string;
  /** Strings from zero-padded rows: UINT8 `[batch, maxBytes]` and one length in bytes per row. */
  wireTexts(texts: NamedTensor, lens: NamedTensor): string[];
  /** `[CLS]` text `[SEP]`, cut to `maxLen` (512) ids in all. */
  encodeSingle(tokenizer: HookTokenizer, text: string, maxLen?: number): HookEncoded;
  /**
   * `[CLS]` a `[SEP]` b `[SEP]`, the longer side cut first, to `maxLen` (512) ids in all. An empty `b` gives
   * the encoding of `a` alone.
   */
  encodePair(tokenizer: HookTokenizer, a: string, b: string, maxLen?: number): HookEncoded;
  /** The smallest bucket that is at least `n`, else the largest. */
  seqBucket(n: number, buckets: readonly number[]): number;
  /** Pads rows to the bucket that fits the longest; throws when none does. */
  padBatch(encoded: readonly HookEncoded[], buckets: readonly number[]): HookEncodedBatch;
  /** Encodes and pads; `maxLen` defaults to what the buckets hold, 512 at most. */
  encodeTextBatch(
    tokenizer: HookTokenizer,
    texts: readonly string[],
    buckets: readonly number[],
    maxLen?: number,
  ): HookEncodedBatch;
  /** Pairs one query with every key, a row each, and pads; `maxLen` as for texts. */
  encodePairBatch(
    tokenizer: HookTokenizer,
    query: string,
    keys: readonly string[],
    buckets: readonly number[],
    maxLen?: number,
  ): HookEncodedBatch;
}

/** Computed in float64; Float32Array in gives Float32Array out. */
interface HookNumericHelpers {
  sigmoid: {
    (x: number): number;
    (x: Float32Array): Float32Array;
    (x: ArrayLike<number>): HookFloats;
  };
  /** Along one axis (the last) of row-major `values`, into a new array. */
  softmax: {
    (values: Float32Array, shape?: readonly number[], axis?: number): Float32Array;
    (values: ArrayLike<number>, shape?: readonly number[], axis?: number): HookFloats;
  };
  /** Index of the greatest, the first of equals; with a shape, one per line along the axis (the last). */
  argmax: {
    (values: ArrayLike<number>): number;
    (values: ArrayLike<number>, shape: readonly number[], axis?: number): Int32Array;
  };
}

/** One image's features, row-major `[channels, height, width]`. */
interface HookFeatureMap {
  readonly data: HookFloats;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
}

interface HookRoiAlignOptions {
  /** Bins per side: 7. */
  readonly pooled?: number;
  /** Samples per bin and axis; 0, the default, takes as many as a bin has feature cells, rounded up. */
  readonly ratio?: number;
  /** True by default: pixel centres lie at half coordinates. False makes boxes at least a cell large. */
  readonly aligned?: boolean;
}

interface HookLevelOptions {
  /** 4 */
  readonly canonLevel?: number;
  /** 224 */
  readonly canonSize?: number;
  /** 2 */
  readonly min?: number;
  /** 5 */
  readonly max?: number;
}

/**
 * Steps of object detectors. Boxes are rows of `x1, y1, x2, y2` in one flat array; all arithmetic is in
 * float64; anchors are in (h, w, a) order. Empty inputs give empty results.
 */
interface HookDetectionHelpers {
  /** Kept indices, best first; a box goes when its IoU with a better one exceeds the threshold. */
  nms(boxes: ArrayLike<number>, scores: ArrayLike<number>, iouThreshold: number): Int32Array;
  /** The same within groups, for example classes. */
  batchedNms(
    boxes: ArrayLike<number>,
    scores: ArrayLike<number>,
    groups: ArrayLike<number>,
    iouThreshold: number,
  ): Int32Array;
  /** Applies deltas `[M, 4C]` to boxes `[M, 4]`: `[M, 4C]`. Log sizes are clamped at ln(1000 / 16). */
  decodeBoxes(
    deltas: ArrayLike<number>,
    boxes: ArrayLike<number>,
    weights?: readonly [wx: number, wy: number, ww: number, wh: number],
  ): Float64Array;
  /** Cell anchors `[A, 4]` at every position: `[height * width * A, 4]`. */
  generateAnchors(
    height: number,
    width: number,
    stride: number,
    cell: ArrayLike<number>,
  ): Float64Array;
  /** `[1, A, H, W]` in anchor order: `[H * W * A]`. */
  objectnessFlat(wire: NamedTensor): HookFloats;
  /** `[1, 4A, H, W]` in anchor order: `[H * W * A, 4]`. */
  deltasMatrix(wire: NamedTensor): HookFloats;
  /** The feature map of a `[1, C, H, W]` tensor, without a copy where possible. */
  featureChw(wire: NamedTensor): HookFeatureMap;
  /** Boxes `[K, 4]` in pixels, `scale` feature cells per pixel: `[K, C, pooled, pooled]`. */
  roiAlign(
    feature: HookFeatureMap,
    boxes: ArrayLike<number>,
    scale: number,
    options?: HookRoiAlignOptions,
  ): Float64Array;
  /**
   * The same into a buffer `[rows, C, pooled, pooled]`. `rows` names the row that each box fills, so that
   * pyramid levels can share one; by default they are filled from 0 on.
   */
  roiAlignInto(
    out: HookFloats,
    feature: HookFeatureMap,
    boxes: ArrayLike<number>,
    scale: number,
    options?: HookRoiAlignOptions & { readonly rows?: ArrayLike<number> },
  ): void;
  /** 0-based pyramid level of a box. */
  assignLevel(box: ArrayLike<number>, options?: HookLevelOptions): number;
  /** 0-based pyramid level of each box. */
  assignLevels(boxes: ArrayLike<number>, options?: HookLevelOptions): Int32Array;
  /** The best decoded boxes of all levels: `preTopk` (1000), `nmsThreshold` (0.7), `postTopk` (1000). */
  selectRpnProposals(
    levels: readonly ArrayLike<number>[],
    scores: readonly ArrayLike<number>[],
    imageHeight: number,
    imageWidth: number,
    options?: {
      readonly preTopk?: number;
      readonly postTopk?: number;
      readonly nmsThreshold?: number;
    },
  ): { readonly boxes: Float64Array; readonly scores: Float64Array };
  /**
   * Detections from class logits `[K, C]`, deltas `[K, 4G]` and proposals `[K, 4]`. A class is its column
   * of the logits, counted from 0; `rows` tells the proposal of each detection.
   */
  fastRcnnInference(
    logits: ArrayLike<number>,
    deltas: ArrayLike<number>,
    proposals: ArrayLike<number>,
    imageHeight: number,
    imageWidth: number,
    options: {
      /** Probabilities must exceed it. */
      readonly scoreThreshold: number;
      readonly nmsThreshold: number;
      /** Negative keeps all. */
      readonly topk: number;
      /** `[10, 10, 5, 5]` */
      readonly weights?: readonly [wx: number, wy: number, ww: number, wh: number];
      /** Whether column 0 is the background; else the last one is. */
      readonly backgroundFirst?: boolean;
      /** Least width and height in pixels: 0. */
      readonly minSize?: number;
    },
  ): {
    readonly boxes: Float64Array;
    readonly scores: Float64Array;
    readonly classes: Int32Array;
    readonly rows: Int32Array;
  };
}

interface HookHelpers {
  readonly tensor: Readonly<HookTensorHelpers>;
  readonly text: Readonly<HookTextHelpers>;
  readonly numeric: Readonly<HookNumericHelpers>;
  readonly detection: Readonly<HookDetectionHelpers>;
}

declare const helpers: HookHelpers;
