/**
 * Sums that halve every so often, kept so that reading many of them takes one exponential: what is booked
 * grows with time instead of everything else shrinking, and all sums of one clock are divided by the same
 * scale when they are read.
 */

/** Halvings after which sums are brought back to small numbers; a double stands about a thousand. */
const MAX_HALVINGS = 64;

export class DecayClock {
  readonly #halfLifeMs: number;
  #originMs: number | undefined;

  constructor(halfLifeSeconds: number) {
    this.#halfLifeMs = halfLifeSeconds * 1000;
  }

  /** What one second booked at `nowMs` is worth in the sums, and what sums are divided by then. */
  scaleAt(nowMs: number): number {
    if (this.#originMs === undefined) return 1;
    return 2 ** ((nowMs - this.#originMs) / this.#halfLifeMs);
  }

  /**
   * Starts at `nowMs`, before anything is booked, and starts over when the scale has grown large.
   * @param sums each is divided by what `rescale` is given
   */
  restart(nowMs: number, rescale: (scale: number) => void): void {
    this.#originMs ??= nowMs;
    if (nowMs - this.#originMs < MAX_HALVINGS * this.#halfLifeMs) return;
    rescale(this.scaleAt(nowMs));
    this.#originMs = nowMs;
  }
}
