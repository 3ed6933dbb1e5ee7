/**
 * Decides whether to look for the end of an execution between turns of the event loop instead of being
 * woken for it. To be woken costs more than a short program: for a 784-512-10 perceptron, one row, on two
 * otherwise idle cores, 340 us and 600 us of processor time per dispatch with a thread that waited, 130 us
 * and 330 us with polling; 7 100 against 11 300 dispatches/s with eight in flight. Every turn serves
 * whatever else is ready, so nobody waits for the poller.
 */

/** How long one execution is polled for. What takes longer gains nothing from it. */
export const POLL_MILLISECONDS = 0.3;
/** Executions in a row that outlast it before polling pauses. */
const MISSES_BEFORE_PAUSE = 4;
/** Executions that go unpolled then; twice as many after each further row of misses. */
const FIRST_PAUSE = 64;
const MAX_PAUSE = 4_096;

/** Learns whether one program's executions end within the time they are polled for. */
export class PollPolicy {
  #misses = 0;
  #paused = 0;
  #pause = FIRST_PAUSE;

  /** Whether to poll for the next execution. Counts that execution. */
  next(): boolean {
    if (this.#paused === 0) return true;
    this.#paused--;
    return false;
  }

  /** Learns whether polling saw the end. */
  observe(wasReady: boolean): void {
    if (wasReady) {
      this.#misses = 0;
      this.#pause = FIRST_PAUSE;
      return;
    }
    if (++this.#misses < MISSES_BEFORE_PAUSE) return;
    this.#misses = 0;
    this.#paused = this.#pause;
    this.#pause = Math.min(this.#pause * 2, MAX_PAUSE);
  }
}
