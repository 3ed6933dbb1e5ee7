/** From texts to what a BERT program takes: framed, cut, padded rows of ids. */

import type { Tokenizer } from "./tokenizer.ts";

/** One framed text or pair. */
export interface Encoded {
  readonly ids: Int32Array;
  /** 0 up to and including the first closing `[SEP]`, 1 after; only pairs have them. */
  readonly typeIds?: Int32Array;
}

/** Rows of equal length, row-major. */
export interface EncodedBatch {
  /** `[batch, seq]` */
  readonly shape: [batch: number, seq: number];
  /** Token ids, 0 where padded. */
  readonly ids: BigInt64Array;
  /** 1 for tokens, 0 for padding. */
  readonly mask: BigInt64Array;
  /** Present when any row is a pair; rows of single texts are 0. */
  readonly typeIds?: BigInt64Array;
}

/** BERT's position embeddings end there. */
const MAX_LENGTH = 512;

/** `[CLS]` text `[SEP]`, the text cut at its end to `maxLen` ids in all. */
export function encodeSingle(tokenizer: Tokenizer, text: string, maxLen = MAX_LENGTH): Encoded {
  return { ids: frameSingle(tokenizer, tokenizer.tokenize(text), maxLen) };
}

/**
 * `[CLS]` a `[SEP]` b `[SEP]`, both cut at their ends, the longer first, to `maxLen` ids in all. An empty
 * `b` gives the encoding of `a` alone, type ids all 0.
 */
export function encodePair(
  tokenizer: Tokenizer,
  a: string,
  b: string,
  maxLen = MAX_LENGTH,
): Encoded {
  return framePair(tokenizer, tokenizer.tokenize(a), b, maxLen);
}

/** The smallest bucket that is at least `n`, else the largest. */
export function seqBucket(n: number, buckets: readonly number[]): number {
  let best = Infinity;
  let largest = -Infinity;
  for (const bucket of buckets) {
    if (!Number.isInteger(bucket) || bucket < 1) {
      throw new RangeError(`sequence buckets must be positive integers, got ${bucket}`);
    }
    if (bucket >= n && bucket < best) best = bucket;
    if (bucket > largest) largest = bucket;
  }
  if (largest === -Infinity) throw new RangeError("there are no sequence buckets");
  return best === Infinity ? largest : best;
}

/**
 * Pads rows to the bucket that fits the longest.
 * @throws {RangeError} when a row is longer than the largest bucket
 */
export function padBatch(encoded: readonly Encoded[], buckets: readonly number[]): EncodedBatch {
  const longest = encoded.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  const seq = seqBucket(longest, buckets);
  if (longest > seq) {
    throw new RangeError(`${longest} tokens do not fit the largest sequence bucket, ${seq}`);
  }
  const rows = () => new BigInt64Array(encoded.length * seq);
  const ids = rows();
  const mask = rows();
  const typeIds = encoded.some((row) => row.typeIds !== undefined) ? rows() : undefined;
  // Ids are never negative, so the low words are all there is to write.
  const [idWords, maskWords, typeWords] = [ids, mask, typeIds].map(wordsOf);
  for (const [index, row] of encoded.entries()) {
    const at = index * seq * 2;
    for (let token = 0; token < row.ids.length; token++) {
      idWords![at + token * 2] = row.ids[token]!;
      maskWords![at + token * 2] = 1;
    }
    if (row.typeIds === undefined) continue;
    for (let token = 0; token < row.typeIds.length; token++) {
      typeWords![at + token * 2] = row.typeIds[token]!;
    }
  }
  return { shape: [encoded.length, seq], ids, mask, ...(typeIds && { typeIds }) };
}

/**
 * Encodes each text and pads the rows.
 * @param maxLen defaults to what the buckets hold, 512 at most
 */
export function encodeTextBatch(
  tokenizer: Tokenizer,
  texts: readonly string[],
  buckets: readonly number[],
  maxLen = longestRow(buckets),
): EncodedBatch {
  return padBatch(texts.map((text) => encodeSingle(tokenizer, text, maxLen)), buckets);
}

/** Pairs one query with every key, a row each, and pads the rows; `maxLen` as for texts. */
export function encodePairBatch(
  tokenizer: Tokenizer,
  query: string,
  keys: readonly string[],
  buckets: readonly number[],
  maxLen = longestRow(buckets),
): EncodedBatch {
  const first = tokenizer.tokenize(query);
  return padBatch(keys.map((key) => framePair(tokenizer, first, key, maxLen)), buckets);
}

function frameSingle(
  { special }: Tokenizer,
  content: readonly number[],
  maxLen: number,
): Int32Array {
  const kept = Math.min(content.length, room(maxLen, 2));
  const ids = new Int32Array(kept + 2);
  ids[0] = special.cls;
  for (let at = 0; at < kept; at++) ids[at + 1] = content[at]!;
  ids[kept + 1] = special.sep;
  return ids;
}

function framePair(
  tokenizer: Tokenizer,
  first: readonly number[],
  b: string,
  maxLen: number,
): Encoded {
  if (b === "") {
    const ids = frameSingle(tokenizer, first, maxLen);
    return { ids, typeIds: new Int32Array(ids.length) };
  }
  const second = tokenizer.tokenize(b);
  const [la, lb] = truncatePair(first.length, second.length, room(maxLen, 3));
  const ids = new Int32Array(la + lb + 3);
  ids[0] = tokenizer.special.cls;
  for (let at = 0; at < la; at++) ids[1 + at] = first[at]!;
  ids[la + 1] = tokenizer.special.sep;
  for (let at = 0; at < lb; at++) ids[la + 2 + at] = second[at]!;
  ids[la + lb + 2] = tokenizer.special.sep;
  return { ids, typeIds: new Int32Array(ids.length).fill(1, la + 2) };
}

/** Cuts the longer side down to the other, then both alike; the second counts as longer on ties. */
function truncatePair(la: number, lb: number, space: number): [la: number, lb: number] {
  let excess = Math.max(0, la + lb - space);
  let [longer, shorter] = la > lb ? [la, lb] : [lb, la];
  const difference = Math.min(excess, longer - shorter);
  longer -= difference;
  excess -= difference;
  longer -= Math.floor(excess / 2);
  shorter -= Math.ceil(excess / 2);
  return la > lb ? [longer, shorter] : [shorter, longer];
}

/** Ids that remain beside the special tokens. */
function room(maxLen: number, specials: number): number {
  if (!Number.isInteger(maxLen) || maxLen < specials) {
    throw new RangeError(`maxLen must be an integer of at least ${specials}, got ${maxLen}`);
  }
  return maxLen - specials;
}

function longestRow(buckets: readonly number[]): number {
  return Math.min(MAX_LENGTH, seqBucket(Infinity, buckets));
}

function wordsOf(array: BigInt64Array | undefined): Int32Array | undefined {
  return array && new Int32Array(array.buffer);
}
