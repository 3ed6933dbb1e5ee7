/** What is believed of one worker, from what its probes gave. No I/O and no clock. */

/** One model as a worker's index has it. */
export interface IndexEntry {
  readonly name: string;
  readonly version: string;
  readonly isReady: boolean;
  /** Why it is not, if the worker says. */
  readonly reason: string;
}

/**
 * `unknown`: not asked yet. `ready`: says so. `loading`: answers, and has not been ready yet; models that
 * are there are served. `stopping`: was ready and now says it is not. `failed`: nobody answers at its
 * address. `hung`: it takes calls and does not answer.
 */
export type HealthState = "unknown" | "ready" | "loading" | "stopping" | "failed" | "hung";

/** Rounds in a row in which an answer may be missing before the last one no longer counts. */
export const GRACE_ROUNDS = 2;

export class WorkerHealth {
  #state: HealthState = "unknown";
  #models: ReadonlyMap<string, IndexEntry> = new Map();
  #hasBeenReady = false;
  #hasAnswered = false;
  #missedAnswers = 0;
  #missedIndexes = 0;

  get state(): HealthState {
    return this.#state;
  }

  /** Whether requests may go there. */
  get isRoutable(): boolean {
    return this.#state === "ready" || this.#state === "loading";
  }

  /** Whether no probe of it has ended yet, well or not: what it serves cannot be told. */
  get isNew(): boolean {
    return this.#state === "unknown" && !this.#hasAnswered;
  }

  /** Whether it has ever answered a probe. */
  get hasAnswered(): boolean {
    return this.#hasAnswered;
  }

  /** Its index as last heard, whatever its state is now. */
  get models(): ReadonlyMap<string, IndexEntry> {
    return this.#models;
  }

  /** Whether such an answer changes nothing. While it loads, what it serves does. */
  isAsBefore(isReady: boolean): boolean {
    return this.#state === (isReady ? "ready" : "stopping");
  }

  /** It said whether it is ready. */
  answered(isReady: boolean): void {
    this.#hasAnswered = true;
    this.#missedAnswers = 0;
    if (isReady) {
      this.#hasBeenReady = true;
      this.#state = "ready";
    } else {
      this.#state = this.#hasBeenReady ? "stopping" : "loading";
    }
  }

  /** It answered with an error, which says little: what was believed holds for a while. */
  refused(): void {
    this.#hasAnswered = true;
    if (++this.#missedAnswers > GRACE_ROUNDS) this.#state = "failed";
  }

  /** There was no connection to be had: whatever was there is gone. */
  unreachable(): void {
    this.#hasBeenReady = false;
    this.#missedAnswers = 0;
    this.#state = "failed";
  }

  /** It did not answer in time. */
  hung(): void {
    this.#missedAnswers = 0;
    this.#state = "hung";
  }

  /** Its index came. */
  indexed(models: ReadonlyMap<string, IndexEntry>): void {
    this.#missedIndexes = 0;
    this.#models = models;
  }

  /** Its index did not come: the last one counts for some rounds more. */
  indexMissed(): void {
    if (++this.#missedIndexes > GRACE_ROUNDS) this.#models = new Map();
  }
}
