/**
 * Latencies in fixed memory: a histogram with logarithmic buckets, each split linearly, as HdrHistogram
 * has them. A quantile is off by 0.2 % at most whatever the range, and an hour of requests takes no
 * more room than a second of them.
 */

/** Linear buckets of each power of two; also the number of microseconds that are counted exactly. */
const STEPS = 512;
const STEP_BITS = 9;
/** Values at and above 2^32 µs (71 minutes) share the last bucket. */
const LARGEST = 2 ** 32 - 1;
const BUCKETS = bucketOf(LARGEST) + 1;

/** A histogram of durations in milliseconds. About 50 KiB, whatever is recorded. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = 0;

  /** Recordings so far. */
  get count(): number {
    return this.#count;
  }

  /** Milliseconds; 0 when nothing was recorded. */
  get min(): number {
    return this.#count === 0 ? 0 : this.#min;
  }

  /** Milliseconds; 0 when nothing was recorded. */
  get max(): number {
    return this.#max;
  }

  /** Milliseconds; 0 when nothing was recorded. */
  get mean(): number {
    return this.#count === 0 ? 0 : this.#sum / this.#count;
  }

  /** Records one duration; less than nothing, or what is no number, counts as nothing. */
  record(milliseconds: number): void {
    const value = milliseconds > 0 ? milliseconds : 0;
    this.#counts[bucketOf(Math.min(LARGEST, Math.floor(value * 1000)))]!++;
    this.#count++;
    this.#sum += value;
    if (value < this.#min) this.#min = value;
    if (value > this.#max) this.#max = value;
  }

  /**
   * The duration below which a share of the recordings lies, in milliseconds: between the two recordings
   * nearest to it, as NumPy's `quantile` and Julia's have it; 0 when nothing was recorded.
   * @param share from 0 to 1
   */
  quantile(share: number): number {
    if (this.#count === 0) return 0;
    const rank = Math.min(1, Math.max(0, share)) * (this.#count - 1);
    const lower = Math.floor(rank);
    const low = this.#recording(lower);
    return rank === lower ? low : low + (rank - lower) * (this.#recording(lower + 1) - low);
  }

  /** The recording with so many below it; within a bucket they are taken to lie evenly. */
  #recording(rank: number): number {
    if (rank === 0) return this.#min;
    if (rank === this.#count - 1) return this.#max;
    let below = 0;
    let bucket = 0;
    for (; below + this.#counts[bucket]! <= rank; bucket++) below += this.#counts[bucket]!;
    const low = lowestOf(bucket);
    const width = lowestOf(bucket + 1) - low;
    const value = (low + width * (rank - below + 0.5) / this.#counts[bucket]!) / 1000;
    return Math.min(this.#max, Math.max(this.#min, value));
  }

  /** Forgets everything. */
  reset(): void {
    this.#counts.fill(0);
    this.#count = 0;
    this.#sum = 0;
    this.#min = Infinity;
    this.#max = 0;
  }
}

/** The bucket of a whole number of microseconds. */
function bucketOf(micros: number): number {
  if (micros < STEPS) return micros;
  const shift = 31 - Math.clz32(micros) - (STEP_BITS - 1);
  // The upper half of the steps is used: the lower half belongs to smaller powers of two.
  return shift * (STEPS / 2) + (micros >>> shift);
}

/** The least number of microseconds in a bucket. */
function lowestOf(bucket: number): number {
  if (bucket < STEPS) return bucket;
  const shift = Math.floor(bucket / (STEPS / 2)) - 1;
  return (bucket - shift * (STEPS / 2)) * 2 ** shift;
}
