/**
 * The memory of a device that computes in host memory, as far as weights take it: blocks that one set of
 * weights leaves are given to the next. Memory straight from the system costs more than what is copied
 * into it: every page is found, cleared and mapped when it is first touched (8 MiB: 0.45 GB/s into new
 * memory, 2.5 GB/s into memory used before, one core of a virtual machine). Where weights come and go a
 * block is wanted again at once; one that nobody wants for a while goes back to the system.
 */

import { Mapping } from "../../../ffi/libc/mod.ts";

/** A block may be so much larger than what is put into it. */
const LARGEST_WASTE = 1.25;
/** How long a free block is kept. */
const KEEP_MS = 10_000;

export interface HostArenaOptions {
  /** What blocks in use and free ones take together, as far as that is up to the latter. */
  readonly limitBytes: number;
  /** How long a block is kept that nobody uses; 10 s by default. */
  readonly keepMs?: number;
}

interface FreeBlock {
  readonly block: Mapping;
  readonly sinceMs: number;
}

/** States: open → disposed. A disposed one keeps nothing: what is given back goes to the system. */
export class HostArena implements Disposable {
  readonly #limitBytes: number;
  readonly #keepMs: number;
  /** Oldest first. */
  #free: FreeBlock[] = [];
  #freeBytes = 0;
  #usedBytes = 0;
  /** Blocks on their way back. */
  readonly #returning = new Set<Promise<void>>();
  /** Runs while there are free blocks. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isDisposed = false;

  constructor({ limitBytes, keepMs = KEEP_MS }: HostArenaOptions) {
    this.#limitBytes = limitBytes;
    this.#keepMs = keepMs;
  }

  /** Blocks that were taken. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Blocks kept for the next. */
  get freeBytes(): number {
    return this.#freeBytes;
  }

  /**
   * A block of at least so many bytes, with whatever was in it. Where there would be too many, blocks
   * that are on their way back are waited for.
   * @throws {SystemCallError}
   */
  async take(byteLength: number): Promise<Mapping> {
    let block = this.#takeFree(byteLength);
    while (!block && this.#returning.size > 0 && this.#usedBytes + byteLength > this.#limitBytes) {
      await Promise.race(this.#returning);
      block = this.#takeFree(byteLength);
    }
    if (!block) {
      this.#shrink(this.#limitBytes - this.#usedBytes - byteLength);
      block = Mapping.anonymous(byteLength);
    }
    this.#usedBytes += block.byteLength;
    return block;
  }

  /**
   * Takes a block back as soon as nobody uses it any more.
   * @param released when that is; where it rejects, the block is never used again
   */
  giveWhen(block: Mapping, released: Promise<unknown>): void {
    const returned = released.then(() => this.give(block), () => {});
    this.#returning.add(returned);
    void returned.then(() => this.#returning.delete(returned));
  }

  /** Takes a block back, which nobody may use any more. */
  give(block: Mapping): void {
    this.#usedBytes -= block.byteLength;
    this.#free.push({ block, sinceMs: performance.now() });
    this.#freeBytes += block.byteLength;
    this.#shrink(this.#isDisposed ? 0 : this.#limitBytes - this.#usedBytes);
    this.#expireLater();
  }

  /** Gives free blocks back to the system; those in use follow when they are given back. */
  [Symbol.dispose](): void {
    this.#isDisposed = true;
    this.#shrink(0);
    clearTimeout(this.#timer);
  }

  /** The smallest free block that is large enough, but not by far. */
  #takeFree(byteLength: number): Mapping | undefined {
    let best: Mapping | undefined;
    for (const { block } of this.#free) {
      if (block.byteLength < byteLength) continue;
      if (block.byteLength > byteLength * LARGEST_WASTE) continue;
      if (!best || block.byteLength < best.byteLength) best = block;
    }
    if (!best) return undefined;
    this.#free = this.#free.filter(({ block }) => block !== best);
    this.#freeBytes -= best.byteLength;
    return best;
  }

  #expireLater(): void {
    const oldest = this.#free[0];
    if (this.#timer !== undefined || !oldest) return;
    const waitMs = Math.max(0, oldest.sinceMs + this.#keepMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const expiredMs = performance.now() - this.#keepMs;
      while (this.#free.length > 0 && this.#free[0]!.sinceMs <= expiredMs) this.#drop();
      this.#expireLater();
    }, waitMs);
    Deno.unrefTimer(this.#timer);
  }

  /** Gives memory back to the system until no more than so many bytes are free. */
  #shrink(freeBytes: number): void {
    while (this.#freeBytes > Math.max(0, freeBytes)) this.#drop();
  }

  #drop(): void {
    const { block } = this.#free.shift()!;
    this.#freeBytes -= block.byteLength;
    block[Symbol.dispose]();
  }
}
