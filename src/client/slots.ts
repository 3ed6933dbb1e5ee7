/** Pieces of a pool: who gets which, in the order of asking. */

import {
  CancelledError,
  DeadlineExceededError,
  InvalidArgumentError,
  messageOf,
} from "../errors.ts";

/** Slots next to each other, held by one caller until disposed. */
export interface SlotRun extends Disposable {
  /** Index of the first. */
  readonly first: number;
  readonly count: number;
}

/** How long to wait for slots. */
export interface WaitLimits {
  /** Absolute, on the `performance.now()` clock, in milliseconds. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

interface Waiter {
  readonly count: number;
  readonly resolve: (run: SlotRun) => void;
}

/** Timers cannot be set to more. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Hands out runs of neighbouring slots, first come first served: a caller that needs many is not passed
 * by those that need few.
 */
export class SlotAllocator {
  readonly #taken: boolean[];
  readonly #waiters: Waiter[] = [];

  /** @param size how many slots there are, at least 1 */
  constructor(size: number) {
    this.#taken = new Array(size).fill(false);
  }

  get size(): number {
    return this.#taken.length;
  }

  /** Callers that have to wait. */
  get waiting(): number {
    return this.#waiters.length;
  }

  /**
   * A run of `count` slots, as soon as there is one and everybody before has had theirs. Whoever stops
   * waiting is passed by.
   * @throws {InvalidArgumentError} at once when there are not so many
   * @throws {DeadlineExceededError | CancelledError} when the wait takes too long, or its signal ends it
   */
  acquire(count = 1, limits: WaitLimits = {}): Promise<SlotRun> {
    if (!Number.isInteger(count) || count < 1 || count > this.size) {
      throw new InvalidArgumentError(
        `${count} slots cannot be had: the pool has ${this.size}; make its slots larger or more`,
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<SlotRun>();
    const waiter = { count, resolve };
    this.#waiters.push(waiter);
    this.#serve();
    if (!this.#waiters.includes(waiter)) return promise;
    const leave = (error: Error) => {
      const place = this.#waiters.indexOf(waiter);
      if (place < 0) return;
      this.#waiters.splice(place, 1);
      reject(error);
      // Others may have waited for nothing but this one's turn.
      this.#serve();
    };
    return limited(promise, limits, leave);
  }

  #serve(): void {
    for (let next = this.#waiters[0]; next !== undefined; next = this.#waiters[0]) {
      const first = this.#find(next.count);
      if (first < 0) return;
      this.#waiters.shift();
      this.#taken.fill(true, first, first + next.count);
      next.resolve(this.#run(first, next.count));
    }
  }

  #find(count: number): number {
    let free = 0;
    for (let index = 0; index < this.#taken.length; index++) {
      free = this.#taken[index] ? 0 : free + 1;
      if (free === count) return index - count + 1;
    }
    return -1;
  }

  #run(first: number, count: number): SlotRun {
    let isReleased = false;
    return {
      first,
      count,
      [Symbol.dispose]: () => {
        if (isReleased) {
          throw new TypeError(`Slots ${first} to ${first + count - 1} are free already`);
        }
        isReleased = true;
        this.#taken.fill(false, first, first + count);
        this.#serve();
      },
    };
  }
}

/** `promise`, telling `leave` when the limits are reached before it has settled. */
function limited<T>(
  promise: Promise<T>,
  { deadlineMs, signal }: WaitLimits,
  leave: (error: Error) => void,
): Promise<T> {
  const cancel = () => leave(new CancelledError(`Gave up waiting: ${messageOf(signal!.reason)}`));
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel);
  const leftMs = deadlineMs === undefined ? Infinity : deadlineMs - performance.now();
  const timer = leftMs > LONGEST_TIMER_MS ? undefined : setTimeout(() => {
    leave(new DeadlineExceededError("The deadline passed while all of the pool was in use"));
  }, leftMs);
  return promise.finally(() => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", cancel);
  });
}
