/**
 * Decides whether a program's `Execute` runs on the event loop's own thread. On the CPU plugin that call
 * may merely hand the work to XLA's threads (about 10 microseconds) or compute the whole program first
 * (any length); the plugin decides, per program. Leaving the thread always is safe but costs a hop, which
 * for a small program is as much as the program: a 784-512-10 perceptron, one row, took 117 us per
 * dispatch without and 187 us with it, and 316 us against 510 us of processor time.
 */

/** Mean time an `Execute` may hold the event loop: a few hops, and no other request waits noticeably. */
const LIMIT_MICROS = 200;
/** What a hop adds to a call's duration as seen from here, with the event loop busy. */
const HOP_MICROS = 100;
/** Calls through hops that are looked back on: one short call among them is worth a try. */
const WINDOW = 8;
/** A call counts as this long at most, so that one preemption does not look like a long program... */
const CLIP_MICROS = 1_000;
/** ...except from here on, where it is none. */
const INTOLERABLE_MICROS = 20_000;
/** Weight of the newest duration in the mean. */
const SMOOTHING = 1 / 8;
/** After a failed try, hops for this many calls; twice as many after each further one. */
const FIRST_BACK_OFF = 64;
const MAX_BACK_OFF = 65_536;
/** A try that lasts for so many calls has not failed: the next back-off is the first again. */
const CALLS_OF_SUCCESS = 1_024;

/** Learns from the durations of one program's calls. Starts with hops: an unknown program may be long. */
export class InlinePolicy {
  #isInline = false;
  /** Calls since the last change of mind. */
  #calls = 0;
  #meanMicros = 0;
  #shortestMicros = Infinity;
  /** Inline calls before this one that took long without being done. */
  #longInARow = 0;
  #callsUntilTry = WINDOW;
  #backOff = FIRST_BACK_OFF;

  /** Whether the next call runs on this thread. */
  get isInline(): boolean {
    return this.#isInline;
  }

  /**
   * Learns how long a call took, hop included where there was one.
   * @param isDone whether the results existed when it returned
   */
  observe(wasInline: boolean, micros: number, isDone = true): void {
    // Calls made before the last change of mind may still come in.
    if (wasInline !== this.#isInline) return;
    this.#calls++;
    if (wasInline) this.#observeInline(this.#computed(micros, isDone));
    else this.#observeHop(micros);
  }

  /**
   * What did not exist when an inline call returned was mostly not computed by it: that the call took long
   * says that this thread had to wait for a processor, nothing about the program. But some programs (loops)
   * are computed by the call and their results are there a moment later. Those take long every time.
   */
  #computed(micros: number, isDone: boolean): number {
    if (isDone) return micros;
    this.#longInARow = micros >= INTOLERABLE_MICROS ? this.#longInARow + 1 : 0;
    return this.#longInARow >= 2 ? micros : 0;
  }

  #observeInline(micros: number): void {
    this.#meanMicros += (Math.min(micros, CLIP_MICROS) - this.#meanMicros) * SMOOTHING;
    if (this.#calls === CALLS_OF_SUCCESS) this.#backOff = FIRST_BACK_OFF;
    if (this.#meanMicros <= LIMIT_MICROS && micros < INTOLERABLE_MICROS) return;
    this.#isInline = false;
    this.#calls = 0;
    this.#shortestMicros = Infinity;
    this.#callsUntilTry = this.#backOff;
    this.#backOff = Math.min(this.#backOff * 2, MAX_BACK_OFF);
  }

  #observeHop(micros: number): void {
    // Only the last calls before a try say what to expect of it.
    const remaining = this.#callsUntilTry - this.#calls;
    if (remaining < WINDOW) this.#shortestMicros = Math.min(this.#shortestMicros, micros);
    if (remaining > 0) return;
    const isWorthTrying = this.#shortestMicros <= LIMIT_MICROS + HOP_MICROS;
    this.#isInline = isWorthTrying;
    this.#calls = 0;
    this.#meanMicros = 0;
    this.#shortestMicros = Infinity;
    this.#callsUntilTry = WINDOW;
  }
}
