/**
 * The line for device memory. First come, first served, so that a large model is not passed by small
 * ones for ever; whoever keeps the device waiting goes to the front.
 */

import type { ResidencyLedger } from "./residency_ledger.ts";

export interface LoadQueueOptions<K> {
  readonly ledger: ResidencyLedger<K>;
  /** Whether work waits for an entry. */
  readonly isWanted: (key: K) => boolean;
  /** Gives a victim's memory back, at once. */
  readonly free: (victim: K) => void;
  /** What an entry is told that is larger than the whole budget. */
  readonly tooLarge: (key: K) => Error;
}

interface Waiting<K> {
  readonly key: K;
  readonly grant: () => void;
  readonly refuse: (error: unknown) => void;
  isUrgent: boolean;
}

export class LoadQueue<K> {
  readonly #options: LoadQueueOptions<K>;
  #waiting: Waiting<K>[] = [];

  constructor(options: LoadQueueOptions<K>) {
    this.#options = options;
  }

  /** How many wait. */
  get length(): number {
    return this.#waiting.length;
  }

  /**
   * Resolves when there is room for an entry, which is reserved then.
   * @param isUrgent the device waits for it: to the front, and no work that has not begun stands in
   *   its way
   * @throws what `tooLarge` gives; what `leave` was given
   */
  enter(key: K, isUrgent: boolean): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { key, grant: resolve, refuse: reject, isUrgent };
    if (isUrgent) this.#waiting.unshift(waiting);
    else this.#waiting.push(waiting);
    this.pump();
    return promise;
  }

  /** Lets an entry that waits go to the front, if it still does. */
  hurry(key: K): void {
    const found = this.#waiting.find((one) => one.key === key);
    if (!found || found.isUrgent) return;
    found.isUrgent = true;
    this.#waiting = [found, ...this.#waiting.filter((one) => one !== found)];
    this.pump();
  }

  /** Takes an entry out of the line, if it is in it. */
  leave(key: K, reason: unknown): void {
    const found = this.#waiting.find((one) => one.key === key);
    if (!found) return;
    this.#waiting = this.#waiting.filter((one) => one !== found);
    found.refuse(reason);
    this.pump();
  }

  /** Looks again, after anything has changed that may have made room. */
  pump(): void {
    const { ledger, isWanted, free, tooLarge } = this.#options;
    for (let first; (first = this.#waiting[0]);) {
      const admission = ledger.admit(first.key, first.isUrgent ? {} : { isWanted });
      if (admission.kind === "wait") return;
      this.#waiting.shift();
      if (admission.kind === "never") {
        first.refuse(tooLarge(first.key));
        continue;
      }
      for (const victim of admission.victims) free(victim);
      first.grant();
    }
  }
}
