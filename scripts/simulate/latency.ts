/** Buckets that are 5 % wide, from a microsecond up: quantiles in fixed memory. */
const LOWEST_SECONDS = 1e-6;
const GROWTH = Math.log(1.05);

/** Latencies, counted. */
export class LatencyHistogram {
  readonly #counts = new Float64Array(500);
  #total = 0;

  add(seconds: number): void {
    const bucket = Math.max(0, Math.round(Math.log(seconds / LOWEST_SECONDS) / GROWTH));
    this.#counts[Math.min(bucket, this.#counts.length - 1)]!++;
    this.#total++;
  }

  /** Seconds, within the width of a bucket; 0 when nothing was added. */
  quantile(part: number): number {
    let left = part * this.#total;
    for (let bucket = 0; bucket < this.#counts.length; bucket++) {
      left -= this.#counts[bucket]!;
      if (left <= 0 && this.#counts[bucket]! > 0) return LOWEST_SECONDS * Math.exp(bucket * GROWTH);
    }
    return 0;
  }
}
