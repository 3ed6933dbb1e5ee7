/** When to repack. */

import type { LivePolicy } from "./policy.ts";
import type { RepackTrigger } from "./control_types.ts";

/** What a poll found. */
export interface RepackSigns {
  /** Compute the fleet has used so far, in device-seconds; only grows. */
  readonly fleetCompute: number;
  /** Whether the workers are others than those that were packed. */
  readonly hasOtherMembers: boolean;
  /** Whether joining and leaving has come to rest, or gone so far that it should not be waited for. */
  readonly isMembershipSettled: boolean;
}

/**
 * The repack clock runs on compute: an idle fleet never repacks, a busy one does so often. Operators
 * queue up by sequence number and share the next repack.
 */
export class RepackSchedule {
  #requested = 0;
  #completed = 0;
  #count = 0;
  #isFirstTickRepackDone = false;
  #lastCompute = 0;
  #fleetCompute = 0;
  readonly #waiting = new Set<{ readonly sequence: number; readonly resolve: () => void }>();

  get requested(): number {
    return this.#requested;
  }

  /** Every request up to this number has been done. */
  get completed(): number {
    return this.#completed;
  }

  get count(): number {
    return this.#count;
  }

  get isFirstTickRepackDone(): boolean {
    return this.#isFirstTickRepackDone;
  }

  /** Compute since the last repack. */
  get accumulated(): number {
    return this.#fleetCompute - this.#lastCompute;
  }

  /** The budget that triggers the next repack. */
  threshold(policy: LivePolicy): number {
    const { firstRebalanceComputeSeconds: first, rebalanceComputeSeconds } = policy;
    return !this.#isFirstTickRepackDone && first > 0 ? first : rebalanceComputeSeconds;
  }

  request(): number {
    return ++this.#requested;
  }

  whenCompleted(sequence: number): Promise<void> {
    if (this.#completed >= sequence) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.add({ sequence, resolve }));
  }

  /** Takes in a poll and says what is due, if anything. */
  due(signs: RepackSigns, policy: LivePolicy): RepackTrigger | undefined {
    this.#fleetCompute = signs.fleetCompute;
    if (this.#count === 0) return "startup";
    if (this.accumulated >= this.threshold(policy)) return "compute";
    if (this.#requested > this.#completed) return "operator";
    return signs.hasOtherMembers && signs.isMembershipSettled ? "membership" : undefined;
  }

  /** A repack has been made that answers every request up to `sequence`. */
  done(trigger: RepackTrigger, sequence: number): void {
    this.#count++;
    this.#lastCompute = this.#fleetCompute;
    if (trigger === "compute") this.#isFirstTickRepackDone = true;
    this.#completed = Math.max(this.#completed, sequence);
    for (const waiting of this.#waiting) {
      if (waiting.sequence > this.#completed) continue;
      this.#waiting.delete(waiting);
      waiting.resolve();
    }
  }
}
