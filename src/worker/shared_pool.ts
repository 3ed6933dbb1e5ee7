/**
 * What several models may hold at once: a compiled program, weights on the device. It is made for the
 * first that asks, and freed with the last. So a model that is loaded again, or under another name,
 * takes over what has not changed.
 */

/** One holder's part in a value. Disposing it gives the part back; a second time does nothing. */
export interface Share<T> extends Disposable {
  readonly value: T;
  /** Whether somebody else had made it. */
  readonly isReused: boolean;
}

interface Entry<T> {
  readonly made: Promise<T>;
  /** Who holds it or waits for it. */
  users: number;
}

export class SharedPool<T> {
  readonly #entries = new Map<string, Entry<T>>();
  readonly #free: (value: T) => void;

  /** @param free what happens to a value that nobody holds any more */
  constructor(free: (value: T) => void) {
    this.#free = free;
  }

  /** How many different values are held. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * The value of a key, made when nobody holds it. Equal keys must mean interchangeable values.
   * @throws what `make` throws, to everyone who waits for it; nothing is kept then
   */
  async acquire(key: string, make: () => Promise<T>): Promise<Share<T>> {
    const known = this.#entries.get(key);
    const entry = known ?? { made: make(), users: 0 };
    if (!known) this.#entries.set(key, entry);
    entry.users++;
    let value: T;
    try {
      value = await entry.made;
    } catch (error) {
      if (this.#entries.get(key) === entry) this.#entries.delete(key);
      throw error;
    }
    let isHeld = true;
    return {
      value,
      isReused: known !== undefined,
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        if (--entry.users > 0) return;
        this.#entries.delete(key);
        this.#free(value);
      },
    };
  }
}
