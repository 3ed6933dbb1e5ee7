/** DATA of one stream that waits for a window or for the socket: chunks by reference, in order. */

/** A queue of chunks that is read by bytes. */
export class SendQueue {
  /** Bytes waiting. */
  bytes = 0;
  #chunks: Uint8Array[] = [];
  #head = 0;
  /** Bytes of the head chunk already taken. */
  #offset = 0;

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.#chunks.push(chunk);
    this.bytes += chunk.length;
  }

  /** Bytes left in the first chunk. */
  get headBytes(): number {
    return this.bytes === 0 ? 0 : this.#chunks[this.#head]!.length - this.#offset;
  }

  /** Bytes in front of the first chunk with at least `large` bytes left, counted up to `limit`. */
  bytesBefore(large: number, limit: number): number {
    let total = 0;
    for (let i = this.#head; i < this.#chunks.length && total < limit; i++) {
      const left = this.#chunks[i]!.length - (i === this.#head ? this.#offset : 0);
      if (left >= large) break;
      total += left;
    }
    return Math.min(total, limit);
  }

  /** Takes up to `bytes` of the first chunk, as a view. */
  takeHead(bytes: number): Uint8Array {
    const chunk = this.#chunks[this.#head]!;
    const view = chunk.subarray(this.#offset, this.#offset + bytes);
    this.#offset += bytes;
    this.bytes -= bytes;
    if (this.#offset === chunk.length) this.#next();
    return view;
  }

  /** Copies exactly `bytes` bytes (no more than there are) to `into` at `at`. */
  copy(bytes: number, into: Uint8Array, at: number): void {
    for (let left = bytes; left > 0;) {
      const view = this.takeHead(Math.min(left, this.headBytes));
      into.set(view, at);
      at += view.length;
      left -= view.length;
    }
  }

  clear(): void {
    this.#chunks = [];
    this.#head = 0;
    this.#offset = 0;
    this.bytes = 0;
  }

  #next(): void {
    this.#offset = 0;
    this.#head++;
    if (this.#head === this.#chunks.length) {
      this.#chunks.length = 0;
      this.#head = 0;
    }
  }
}
