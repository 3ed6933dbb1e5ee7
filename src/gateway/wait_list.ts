/** Calls that wait for something, in order, each no longer than its caller does. */

import { DeadlineExceededError, type ServerError } from "../errors.ts";
import type { CallContext } from "../transport/mod.ts";

/** What waiting needs to know of a call. */
export type WaitingCall = Pick<CallContext, "signal" | "onAbort">;

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: ServerError) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** Longest delay `setTimeout` takes. */
const MAX_TIMER_MS = 0x7fffffff;

export class WaitList {
  readonly #waiting = new Set<Waiter>();

  get size(): number {
    return this.#waiting.size;
  }

  /**
   * Resolves when the call is woken. Rejects with the reason when its caller gives up, with
   * `DeadlineExceededError` at `deadlineMs` (on the `performance.now()` clock), or with what `fail` is
   * given.
   */
  wait(call: WaitingCall, deadlineMs: number, what: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve, reject, timer: undefined };
      this.#waiting.add(waiter);
      const giveUp = (error: ServerError) => {
        if (this.#leave(waiter)) reject(error);
      };
      const waitMs = Math.ceil(Math.max(0, deadlineMs - performance.now()));
      waiter.timer = setTimeout(
        () => giveUp(new DeadlineExceededError(`The deadline passed while waiting for ${what}`)),
        Math.min(waitMs, MAX_TIMER_MS),
      );
      if (call.onAbort !== undefined) call.onAbort(giveUp);
      else if (call.signal.aborted) giveUp(call.signal.reason);
      else call.signal.addEventListener("abort", () => giveUp(call.signal.reason), { once: true });
    });
  }

  /** Wakes the one that has waited longest; false when none waits. */
  wakeOne(): boolean {
    for (const waiter of this.#waiting) {
      this.#leave(waiter);
      waiter.resolve();
      return true;
    }
    return false;
  }

  wakeAll(): void {
    while (this.wakeOne());
  }

  /** Nothing will come for those that wait. */
  failAll(error: ServerError): void {
    for (const waiter of [...this.#waiting]) {
      this.#leave(waiter);
      waiter.reject(error);
    }
  }

  #leave(waiter: Waiter): boolean {
    if (waiter.timer !== undefined) clearTimeout(waiter.timer);
    return this.#waiting.delete(waiter);
  }
}
