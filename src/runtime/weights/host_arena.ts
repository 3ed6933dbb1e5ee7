/**
 * The memory of a device that computes in host memory, as far as weights take it: blocks that one set of
 * weights leaves are given to the next. Memory straight from the system costs more than what is copied
 * into it: every page is found, cleared and mapped when it is first touched (8 MiB: 0.45 GB/s into new
 * memory, 2.5 GB/s into memory used before, one core of a virtual machine).
 */

import { Mapping } from "../../../ffi/libc/mod.ts";

/** A block may be so much larger than what is put into it. */
const LARGEST_WASTE = 1.25;

export class HostArena {
  readonly #limitBytes: number;
  /** Oldest first. */
  #free: Mapping[] = [];
  #freeBytes = 0;
  #usedBytes = 0;

  /** @param limitBytes what blocks in use and free ones take together, as far as that is up to the latter */
  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  /** Blocks that were taken. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Blocks kept for the next. */
  get freeBytes(): number {
    return this.#freeBytes;
  }

  /** A block of at least so many bytes, with whatever was in it. @throws {SystemCallError} */
  take(byteLength: number): Mapping {
    let best: Mapping | undefined;
    for (const block of this.#free) {
      if (block.byteLength < byteLength) continue;
      if (block.byteLength > byteLength * LARGEST_WASTE) continue;
      if (!best || block.byteLength < best.byteLength) best = block;
    }
    if (best) {
      this.#free = this.#free.filter((block) => block !== best);
      this.#freeBytes -= best.byteLength;
    } else {
      this.#shrink(this.#limitBytes - this.#usedBytes - byteLength);
      best = Mapping.anonymous(byteLength);
    }
    this.#usedBytes += best.byteLength;
    return best;
  }

  /** Takes a block back, which nobody may use any more. */
  give(block: Mapping): void {
    this.#usedBytes -= block.byteLength;
    this.#free.push(block);
    this.#freeBytes += block.byteLength;
    this.#shrink(this.#limitBytes - this.#usedBytes);
  }

  /** Gives memory back to the system until no more than so many bytes are free. */
  #shrink(freeBytes: number): void {
    while (this.#freeBytes > Math.max(0, freeBytes)) {
      const block = this.#free.shift()!;
      this.#freeBytes -= block.byteLength;
      block[Symbol.dispose]();
    }
  }
}
