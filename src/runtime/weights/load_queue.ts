/**
 * The line for device memory. First come, first served, so that a large model is not passed by small
 * ones for ever; whoever keeps the device waiting goes to the front, and what is pinned, and so has room
 * of its own, passes everyone. What nobody wants any more when its turn comes is left where it is.
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
  /** @param isAdmitted whether there is room, or else nobody wants it any more */
  readonly settle: (isAdmitted: boolean) => void;
  readonly refuse: (error: unknown) => void;
  isUrgent: boolean;
  /** It was not its turn when it came. */
  hasWaited: boolean;
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
   * Resolves with true when there is room for an entry, which is reserved then; with false when its turn
   * comes and nobody wants it any more.
   * @param isUrgent the device waits for it: to the front, and no work that has not begun stands in
   *   its way
   * @throws what `tooLarge` gives; what `leave` was given
   */
  enter(key: K, isUrgent: boolean): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const waiting = { key, settle: resolve, refuse: reject, isUrgent, hasWaited: false };
    if (isUrgent) this.#waiting.unshift(waiting);
    else this.#waiting.push(waiting);
    this.pump();
    waiting.hasWaited = true;
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
    this.#remove(found);
    found.refuse(reason);
    this.pump();
  }

  /** Looks again, after anything has changed that may have made room. */
  pump(): void {
    const { ledger, isWanted, free, tooLarge } = this.#options;
    for (let next; (next = this.#next);) {
      const { key, hasWaited } = next;
      const isUrgent = next.isUrgent || ledger.isPinned(key);
      if (hasWaited && !isUrgent && !isWanted(key)) {
        this.#remove(next);
        next.settle(false);
        continue;
      }
      const admission = ledger.admit(key, isUrgent ? {} : { isWanted, isPatient: true });
      if (admission.kind === "wait") return;
      this.#remove(next);
      if (admission.kind === "never") {
        next.refuse(tooLarge(key));
        continue;
      }
      for (const victim of admission.victims) free(victim);
      next.settle(true);
    }
  }

  /** Whose turn it is. */
  get #next(): Waiting<K> | undefined {
    const { ledger } = this.#options;
    return this.#waiting.find(({ key }) => ledger.isPinned(key)) ?? this.#waiting[0];
  }

  #remove(one: Waiting<K>): void {
    this.#waiting = this.#waiting.filter((other) => other !== one);
  }
}
