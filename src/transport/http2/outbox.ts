/**
 * The way to the socket. Everything sent in one tick is packed into one buffer and leaves in one
 * write; while that write is under way the next buffer fills. Deno has no gathering write, so a large
 * DATA chunk either is copied into the buffer or goes out on its own right after it.
 */

import type { ByteStream } from "./types.ts";

/** Where the outbox gets more when it has room, and whom it tells. */
export interface OutboxSource {
  /** Called before each write: append queued DATA, as much as fits. */
  fill(): void;
  /** Called after each write. */
  onWritten(): void;
  /** Everything has been written. */
  onIdle(): void;
  /** The socket failed; nothing more will be written. */
  onWriteError(error: unknown): void;
}

const FIRST_BUFFER_BYTES = 16 * 1024;
/** DATA is copied into the buffer up to this size; control frames and headers may go over it. */
export const OUTBOX_TARGET_BYTES = 128 * 1024;

/** Packs frames and writes them. One per connection. */
export class Outbox {
  /** The buffer being filled; write where `reserve` said. */
  buffer: Uint8Array = new Uint8Array(FIRST_BUFFER_BYTES);
  /** Bytes of `buffer` in use. */
  used = 0;
  /** All bytes ever handed to the socket. */
  startedBytes = 0;
  /** All bytes the socket took. */
  writtenBytes = 0;

  readonly #stream: ByteStream;
  readonly #source: OutboxSource;
  /** The other buffer, on its way out or idle. */
  #other: Uint8Array | undefined;
  #direct: Uint8Array | undefined;
  #isWriting = false;
  #isScheduled = false;
  #isBroken = false;
  #run: Promise<void> = Promise.resolve();

  constructor(stream: ByteStream, source: OutboxSource) {
    this.#stream = stream;
    this.#source = source;
  }

  /** Whether a write is under way. */
  get isWriting(): boolean {
    return this.#isWriting;
  }

  /** Whether a chunk is waiting to follow the buffer; nothing may be reserved until it has left. */
  get hasDirect(): boolean {
    return this.#direct !== undefined;
  }

  /** Position in the whole output of the next byte reserved. */
  get queuedBytes(): number {
    return this.startedBytes + this.used;
  }

  /** Makes room for `bytes` and returns their offset in `buffer`. */
  reserve(bytes: number): number {
    const at = this.used;
    this.used = at + bytes;
    if (this.used > this.buffer.length) this.#grow();
    return at;
  }

  /** Sends `chunk` right after what is in the buffer, uncopied. Only from within `fill`. */
  follow(chunk: Uint8Array): void {
    this.#direct = chunk;
  }

  /** Writes once the running code has yielded, so that all it sends goes together. */
  schedule(): void {
    if (this.#isWriting || this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.flush();
    });
  }

  /** Writes what there is, now, unless a write is under way already. */
  flush(): void {
    if (this.#isWriting || this.#isBroken) return;
    this.#isWriting = true;
    this.#run = this.#writeAll();
  }

  /** Settles when the writes under way have ended. Never rejects. */
  get settled(): Promise<void> {
    return this.#run;
  }

  async #writeAll(): Promise<void> {
    try {
      for (;;) {
        this.#source.fill();
        if (this.used === 0) break;
        const full = this.buffer;
        const length = this.used;
        const direct = this.#direct;
        this.buffer = this.#other ?? new Uint8Array(FIRST_BUFFER_BYTES);
        this.#other = undefined;
        this.used = 0;
        this.#direct = undefined;
        this.startedBytes += length + (direct?.length ?? 0);
        await this.#write(full, length);
        if (direct !== undefined) await this.#write(direct, direct.length);
        // An unusually large buffer is not kept.
        if (full.length <= 2 * OUTBOX_TARGET_BYTES) this.#other = full;
        this.#source.onWritten();
      }
      this.#isWriting = false;
      this.#source.onIdle();
    } catch (error) {
      this.#isBroken = true;
      this.#isWriting = false;
      this.#source.onWriteError(error);
    }
  }

  async #write(bytes: Uint8Array, length: number): Promise<void> {
    let at = 0;
    do {
      const view = at === 0 && length === bytes.length ? bytes : bytes.subarray(at, length);
      const written = await this.#stream.write(view);
      if (written <= 0) throw new Deno.errors.WriteZero("the byte stream takes no more bytes");
      at += written;
      this.writtenBytes += written;
    } while (at < length);
  }

  #grow(): void {
    let size = this.buffer.length * 2;
    while (size < this.used) size *= 2;
    const larger = new Uint8Array(size);
    larger.set(this.buffer);
    this.buffer = larger;
  }
}
