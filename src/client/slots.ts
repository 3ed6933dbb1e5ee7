/** Pieces of a pool: who gets which, in the order of asking. */

import { InvalidArgumentError } from "../errors.ts";

/** Slots next to each other, held by one caller until disposed. */
export interface SlotRun extends Disposable {
  /** Index of the first. */
  readonly first: number;
  readonly count: number;
}

interface Waiter {
  readonly count: number;
  readonly resolve: (run: SlotRun) => void;
}

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
   * A run of `count` slots, as soon as there is one and everybody before has had theirs.
   * @throws {InvalidArgumentError} at once when there are not so many
   */
  acquire(count = 1): Promise<SlotRun> {
    if (!Number.isInteger(count) || count < 1 || count > this.size) {
      throw new InvalidArgumentError(
        `${count} slots cannot be had: the pool has ${this.size}; make its slots larger or more`,
      );
    }
    const { promise, resolve } = Promise.withResolvers<SlotRun>();
    this.#waiters.push({ count, resolve });
    this.#serve();
    return promise;
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
