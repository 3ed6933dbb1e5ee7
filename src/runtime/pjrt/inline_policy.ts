/**
 * Decides whether a program's `Execute` runs on the event loop's own thread. On the CPU plugin that call
 * may merely hand the work to XLA's threads (about 10 microseconds) or compute the whole program first
 * (any length); the plugin decides, per program. Leaving the thread always is safe but costs a hop, which
 * for a small program is as much as the program.
 */

/**
 * Mean time an `Execute` may hold the event loop. A hop and back costs 100 to 150 microseconds of latency
 * and 100 of processor time on a busy two-core machine (a 784-512-10 perceptron, one row: 265 us against
 * 400 us), so twice that is still a fair trade, and no other request waits noticeably.
 */
const LIMIT_MICROS = 200;
/** What a hop adds to a call's duration as seen from here, with the event loop busy. */
const HOP_MICROS = 100;
/** A first try needs this many short calls in a row through hops. */
const SHORT_CALLS_BEFORE_TRY = 4;
/** After a failed try, hops for this many calls; twice as many after each further one. */
const FIRST_BACK_OFF = 256;
const MAX_BACK_OFF = 65_536;
/** Weight of the newest duration in the mean. */
const SMOOTHING = 1 / 8;

/** Learns from the durations of one program's calls. Starts with hops: an unknown program may be long. */
export class InlinePolicy {
  #isInline = false;
  #meanMicros = 0;
  #shortCalls = 0;
  #callsUntilTry = 0;
  #backOff = FIRST_BACK_OFF;

  /** Whether the next call runs on this thread. */
  get isInline(): boolean {
    return this.#isInline;
  }

  /** Learns how long a call took, hop included where there was one. */
  observe(wasInline: boolean, micros: number): void {
    if (wasInline) this.#observeInline(micros);
    else this.#observeHop(micros);
  }

  #observeInline(micros: number): void {
    this.#meanMicros += (micros - this.#meanMicros) * SMOOTHING;
    if (this.#meanMicros <= LIMIT_MICROS) return;
    this.#isInline = false;
    this.#callsUntilTry = this.#backOff;
    this.#backOff = Math.min(this.#backOff * 2, MAX_BACK_OFF);
    this.#shortCalls = 0;
  }

  #observeHop(micros: number): void {
    if (this.#callsUntilTry > 0) {
      this.#callsUntilTry--;
      return;
    }
    this.#shortCalls = micros <= LIMIT_MICROS + HOP_MICROS ? this.#shortCalls + 1 : 0;
    if (this.#shortCalls < SHORT_CALLS_BEFORE_TRY) return;
    this.#isInline = true;
    // Optimistic, so that one preempted call does not end the try; a long one (over 8 limits) does.
    this.#meanMicros = 0;
  }
}
