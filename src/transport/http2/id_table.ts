/**
 * Things of a connection by number, for entries that come and go all the time. Not a `Map`: whenever V8
 * makes a new table for one, the old table points to the new one, for iterators. Once a table has grown old
 * enough to be out of the young generation's reach, every later one is kept alive by the one before, with all
 * that was in it, until all of the heap is collected: minutes of finished requests and their tensors.
 */

const FIRST_CAPACITY = 16;

/** Values by positive integer. Open addressing with linear probing (Knuth, TAOCP 6.4, algorithms L and R). */
export class IdTable<T> {
  /** 0: free. Always at least half of them are. */
  #ids = new Array<number>(FIRST_CAPACITY).fill(0);
  #values = new Array<T | undefined>(FIRST_CAPACITY).fill(undefined);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(id: number): T | undefined {
    return this.#values[this.#slotOf(id)];
  }

  set(id: number, value: T): void {
    if (2 * (this.#size + 1) > this.#ids.length) this.#grow();
    const slot = this.#slotOf(id);
    if (this.#ids[slot] === 0) this.#size++;
    this.#ids[slot] = id;
    this.#values[slot] = value;
  }

  delete(id: number): void {
    let hole = this.#slotOf(id);
    if (this.#ids[hole] === 0) return;
    this.#size--;
    const mask = this.#ids.length - 1;
    // Whoever was pushed past the hole moves up, so that no search ends too early.
    for (let slot = (hole + 1) & mask; this.#ids[slot] !== 0; slot = (slot + 1) & mask) {
      const distance = (slot - home(this.#ids[slot]!, mask)) & mask;
      if (distance < ((slot - hole) & mask)) continue;
      this.#ids[hole] = this.#ids[slot]!;
      this.#values[hole] = this.#values[slot];
      hole = slot;
    }
    this.#ids[hole] = 0;
    this.#values[hole] = undefined;
  }

  /** What is in it now, in no particular order; later changes do not show. */
  values(): T[] {
    return this.#values.filter((_, slot) => this.#ids[slot] !== 0) as T[];
  }

  /** Where an id is, or would be put. */
  #slotOf(id: number): number {
    const mask = this.#ids.length - 1;
    let slot = home(id, mask);
    while (this.#ids[slot] !== 0 && this.#ids[slot] !== id) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [ids, values] = [this.#ids, this.#values];
    this.#ids = new Array<number>(2 * ids.length).fill(0);
    this.#values = new Array<T | undefined>(2 * ids.length).fill(undefined);
    this.#size = 0;
    ids.forEach((id, slot) => {
      if (id !== 0) this.set(id, values[slot]!);
    });
  }
}

/** Ids of one side are all odd or all even and mostly follow each other. */
function home(id: number, mask: number): number {
  return (id >> 1) & mask;
}
