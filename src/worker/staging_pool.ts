/**
 * Memory that inputs from shared-memory regions are read into, used again. New memory of 16 MiB costs the
 * kernel more to provide, page by page, than to fill: 17 ms against 7 ms to read as much into memory that
 * has been used before.
 */

import { alignedBytes } from "../tensor/mod.ts";

/** Memory kept while nobody uses it. */
const MAX_IDLE_BYTES = 64 << 20;
/** What is smaller is cheaper to make than to keep. */
const POOLED_FROM_BYTES = 65_536;

export class StagingPool {
  /** Longest unused first. */
  readonly #idle: Uint8Array<ArrayBuffer>[] = [];
  #idleBytes = 0;

  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** Memory of `length` bytes, aligned for the device; what it holds is of no use. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#idle.findLastIndex((memory) => memory.length === length);
    if (at < 0) return alignedBytes(length);
    this.#idleBytes -= length;
    return this.#idle.splice(at, 1)[0]!;
  }

  /** Takes back what nobody will read or write any more. */
  giveBack(memory: Uint8Array<ArrayBuffer>): void {
    // Detached memory, which was handed to another thread, has no length.
    if (memory.length < POOLED_FROM_BYTES || memory.length > MAX_IDLE_BYTES) return;
    this.#idle.push(memory);
    this.#idleBytes += memory.length;
    while (this.#idleBytes > MAX_IDLE_BYTES) this.#idleBytes -= this.#idle.shift()!.length;
  }
}
