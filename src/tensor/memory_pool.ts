/**
 * Memory for tensors, used again. New memory is cleared, aligned and collected, and the pages of a large
 * one are fetched anew: 16 MiB cost the kernel more to provide, page by page, than to fill, 17 ms against
 * 7 ms to read as much into memory that has been used before.
 */

import { alignedBytes } from "./aligned.ts";

/** Memory kept while nobody uses it, in one pool. */
const MAX_IDLE_BYTES = 64 << 20;

export interface MemoryPoolOptions {
  /** What is smaller is cheaper to make than to keep. Default 1. */
  readonly fromBytes?: number;
  /** Pieces kept at most. Default: as many as there are bytes for. */
  readonly maxPieces?: number;
}

/** Gives the same pieces out again by length, one user at a time. */
export class MemoryPool {
  readonly #fromBytes: number;
  readonly #maxPieces: number;
  /** Longest unused first. */
  readonly #idle: Uint8Array<ArrayBuffer>[] = [];
  #idleBytes = 0;

  constructor({ fromBytes = 1, maxPieces = Infinity }: MemoryPoolOptions = {}) {
    this.#fromBytes = fromBytes;
    this.#maxPieces = maxPieces;
  }

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

  /** Takes back what `take` gave, when nobody will read or write it any more. */
  giveBack(memory: Uint8Array<ArrayBuffer>): void {
    // Detached memory, which was handed to another thread, has no length.
    if (memory.length < this.#fromBytes || memory.length > MAX_IDLE_BYTES) return;
    this.#idle.push(memory);
    this.#idleBytes += memory.length;
    while (this.#idleBytes > MAX_IDLE_BYTES || this.#idle.length > this.#maxPieces) {
      this.#idleBytes -= this.#idle.shift()!.length;
    }
  }
}
