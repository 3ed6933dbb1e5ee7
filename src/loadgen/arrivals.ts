/** When the requests of an open loop are due. */

import type { Random } from "./random.ts";

export interface ArrivalOptions {
  /** Milliseconds, on whatever clock. */
  readonly startMs: number;
  /** Per second. */
  readonly rate: number;
  /** `poisson`: as independent callers come; `constant`: evenly spaced. */
  readonly spacing: "poisson" | "constant";
  readonly random: Random;
}

/**
 * Due times, one after the other. They depend on nothing that happens to the requests: a server that
 * stands still for a second gets everything of that second late, and is measured so.
 */
export class Arrivals {
  readonly #options: ArrivalOptions;
  #count = 0;
  #lastMs: number;

  constructor(options: ArrivalOptions) {
    this.#options = options;
    this.#lastMs = options.startMs;
  }

  /** When the next request is due, in milliseconds. */
  next(): number {
    const { startMs, rate, spacing, random } = this.#options;
    const gapMs = 1000 / rate;
    // Multiplying keeps even spacing exact over any time.
    this.#lastMs = spacing === "constant"
      ? startMs + this.#count * gapMs
      : this.#lastMs + random.exponential(gapMs);
    this.#count++;
    return this.#lastMs;
  }
}
