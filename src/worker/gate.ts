/**
 * Bounds how many meta runs are in progress, and with that how much committed work the scheduler can
 * hold. First come, first served; a waiter leaves the line at its deadline.
 */

import { CancelledError, DeadlineExceededError } from "../errors.ts";

export interface WaitLimits {
  /** Absolute, on the `performance.now()` clock. */
  readonly deadlineMs?: number;
  readonly isAborted?: () => boolean;
}

interface Waiter {
  readonly need: number;
  readonly limits: WaitLimits;
  readonly resolve: (permit: Disposable) => void;
  readonly reject: (error: unknown) => void;
  timer: ReturnType<typeof setTimeout> | undefined;
}

/** A counter of units that are taken for a while; strictly in order of arrival. */
export class Gate {
  readonly capacity: number;
  readonly #what: string;
  readonly #waiting: Waiter[] = [];
  #free: number;

  /** @param what names what is waited for, in the deadline error */
  constructor(capacity: number, what: string) {
    this.capacity = capacity;
    this.#free = capacity;
    this.#what = what;
  }

  get free(): number {
    return this.#free;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Takes `need` units, at most the capacity, until the permit is disposed.
   * @throws {DeadlineExceededError} when the deadline comes first
   */
  enter(limits: WaitLimits = {}, need = 1): Promise<Disposable> {
    const { promise, resolve, reject } = Promise.withResolvers<Disposable>();
    const units = Math.min(need, this.capacity);
    const waiter: Waiter = { need: units, limits, resolve, reject, timer: undefined };
    this.#waiting.push(waiter);
    this.#admit();
    if (limits.deadlineMs !== undefined && this.#waiting.includes(waiter)) {
      const delay = Math.min(Math.max(0, limits.deadlineMs - performance.now()), 2 ** 31 - 1);
      waiter.timer = setTimeout(() => this.#giveUp(waiter), delay);
    }
    return promise;
  }

  #giveUp(waiter: Waiter): void {
    const at = this.#waiting.indexOf(waiter);
    if (at < 0) return;
    this.#waiting.splice(at, 1);
    waiter.reject(
      new DeadlineExceededError(`The deadline passed while the request waited for ${this.#what}`),
    );
    this.#admit();
  }

  /** Lets the head of the line in, and so on while the next one fits. */
  #admit(): void {
    for (;;) {
      const next = this.#waiting[0];
      if (!next || next.need > this.#free) return;
      this.#waiting.shift();
      clearTimeout(next.timer);
      if (next.limits.isAborted?.()) {
        next.reject(new CancelledError("The caller went away"));
        continue;
      }
      this.#free -= next.need;
      next.resolve(this.#permit(next.need));
    }
  }

  #permit(units: number): Disposable {
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#free += units;
        this.#admit();
      },
    };
  }
}
