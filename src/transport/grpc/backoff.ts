/** How long to wait before the next connection attempt. */

export interface BackoffOptions {
  /** After the first failure. Default 100 ms: peers are mostly on this host and restart quickly. */
  readonly initialMs?: number;
  /** Cap. Default 10 s. */
  readonly maxMs?: number;
  /** In [0, 1), as `Math.random`, which is the default. */
  readonly random?: () => number;
}

/** Growth and jitter of gRPC core's `doc/connection-backoff.md`. */
const FACTOR = 1.6;
const JITTER = 0.2;

/** Exponential, capped, with jitter on both sides; `reset` after a success. */
export class Backoff {
  readonly #initialMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #nextMs: number;

  constructor(options: BackoffOptions = {}) {
    this.#initialMs = options.initialMs ?? 100;
    this.#maxMs = options.maxMs ?? 10_000;
    this.#random = options.random ?? Math.random;
    this.#nextMs = this.#initialMs;
  }

  /** Milliseconds to wait now; the following wait will be longer. */
  next(): number {
    const base = this.#nextMs;
    this.#nextMs = Math.min(this.#maxMs, base * FACTOR);
    return base * (1 + JITTER * (2 * this.#random() - 1));
  }

  reset(): void {
    this.#nextMs = this.#initialMs;
  }
}
