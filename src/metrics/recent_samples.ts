/** The latest observations of something, for quantiles without buckets. */
export class RecentSamples {
  readonly #values: Float64Array;
  #count = 0;

  /** Keeps the last `capacity` values, for as long as it takes new ones to replace them. */
  constructor(capacity = 1024) {
    this.#values = new Float64Array(capacity);
  }

  add(value: number): void {
    this.#values[this.#count++ % this.#values.length] = value;
  }

  /** The value at rank ⌈q·n⌉ of the sorted samples; 0 when there are none. */
  quantile(q: number): number {
    const length = Math.min(this.#count, this.#values.length);
    if (length === 0) return 0;
    const sorted = this.#values.slice(0, length).sort();
    return sorted[Math.min(length, Math.max(1, Math.ceil(q * length))) - 1]!;
  }
}
