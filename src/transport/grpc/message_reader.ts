/**
 * Cuts the DATA of one stream into length-prefixed messages (gRPC over HTTP/2, "Length-Prefixed-Message")
 * whatever way frames and reads split it.
 */

import { InternalError, ResourceExhaustedError } from "../../errors.ts";
import { type BufferPool, type Loan, MOST_LOAN_BYTES } from "../buffer_pool.ts";
import type { Message } from "../handler.ts";

/** Receives whole messages, as they lie on the wire: still compressed if they say so. */
export interface MessageSink {
  /** @param loan the memory of the message, where that is lent: now the receiver's to give back */
  onMessage(message: Message, isCompressed: boolean, loan: Loan | undefined): void;
}

/** Up to here a message is copied into one exact array, and its length is trusted for allocating it. */
const SMALL_BYTES = 16 * 1024;
/** Slices of larger messages below this are copied too: a slice keeps its whole read buffer alive. */
const MIN_SLICE_BYTES = 4 * 1024;
/** Unused room, in kept read buffers or in memory for the whole of it, that any message may cost. */
const FREE_SLACK_BYTES = 512 * 1024;
/** Messages in lent memory end at multiples of this, and with them the tensor that comes last. */
const END_ALIGNMENT = 64;

/**
 * The reader of one direction of one call. Small messages are copied, so that read buffers go back to
 * the connection; of larger ones the slices themselves become the chunks, or, where there is a pool,
 * they are put together in memory of that. A message in progress never makes memory for more than four
 * times the bytes received of it plus a fixed slack, however they were cut; what lies idle in the pool
 * it may take at once.
 */
export class MessageReader {
  readonly #maxBytes: number;
  readonly #pool: BufferPool | undefined;
  /** Bytes of the five-byte prefix read so far. */
  #prefixBytes = 0;
  #flag = 0;
  #length = 0;
  #missing = 0;
  #chunks: Uint8Array[] = [];
  /** Where copied bytes go, and how much of it is filled. */
  #copy: Uint8Array | undefined;
  #copied = 0;
  /** The read buffer kept last, and the bytes of all kept for the message in progress. */
  #keptBuffer: ArrayBufferLike | undefined;
  #keptBytes = 0;
  /** Whether the message in progress may be put together in lent memory, and where that is. */
  #mayBorrow = false;
  #loan: Loan | undefined;
  #whole: Uint8Array | undefined;

  /** @param pool lends memory for messages that are large, but not too large for it */
  constructor(maxBytes: number, pool?: BufferPool) {
    this.#maxBytes = maxBytes;
    this.#pool = pool;
  }

  /** Whether the bytes so far end between two messages. */
  get isBetweenMessages(): boolean {
    return this.#prefixBytes === 0;
  }

  /**
   * Takes the next bytes and passes on each message they complete. Returns whether `chunk` was kept.
   * Throws `ResourceExhaustedError` for a message over the limit, as soon as its prefix says so, and
   * `InternalError` for a prefix that cannot be one; the reader must not be used after that.
   */
  read(chunk: Uint8Array, sink: MessageSink): boolean {
    const end = chunk.length;
    let isKept = false;
    let at = 0;
    while (at < end) {
      if (this.#prefixBytes < 5) {
        at = this.#readPrefix(chunk, at);
        if (this.#prefixBytes < 5) break;
        this.#begin();
      }
      const take = Math.min(this.#missing, end - at);
      if (take > 0) {
        if (this.#mayBorrow) this.#borrow(take);
        if (this.#whole !== undefined) {
          const bytes = take === end ? chunk : chunk.subarray(at, at + take);
          this.#whole.set(bytes, this.#length - this.#missing);
        } else if (take === this.#length && take <= SMALL_BYTES) {
          this.#chunks.push(chunk.slice(at, at + take));
        } else if (this.#mayKeep(chunk, take)) {
          this.#flushCopy();
          this.#chunks.push(chunk.subarray(at, at + take));
          isKept = true;
        } else {
          this.#copyFrom(chunk, at, take);
        }
        at += take;
        this.#missing -= take;
      }
      if (this.#missing === 0) this.#finish(sink);
    }
    return isKept;
  }

  #readPrefix(chunk: Uint8Array, at: number): number {
    if (this.#prefixBytes === 0 && chunk.length - at >= 5) {
      this.#flag = chunk[at]!;
      this.#length = chunk[at + 1]! * 0x1000000 +
        ((chunk[at + 2]! << 16) | (chunk[at + 3]! << 8) | chunk[at + 4]!);
      this.#prefixBytes = 5;
      return at + 5;
    }
    while (this.#prefixBytes < 5 && at < chunk.length) {
      const byte = chunk[at++]!;
      if (this.#prefixBytes++ === 0) {
        this.#flag = byte;
        this.#length = 0;
      } else {
        this.#length = this.#length * 256 + byte;
      }
    }
    return at;
  }

  #begin(): void {
    if (this.#flag > 1) throw new InternalError(`Invalid message flag ${this.#flag}`);
    if (this.#length > this.#maxBytes) {
      throw new ResourceExhaustedError(
        `Message of ${this.#length} bytes is over the limit of ${this.#maxBytes}`,
      );
    }
    this.#missing = this.#length;
    this.#mayBorrow = this.#pool !== undefined && this.#flag === 0 &&
      this.#length > SMALL_BYTES && this.#length <= MOST_LOAN_BYTES;
  }

  /** Gives back what was lent for a message that will not be read to its end. */
  close(): void {
    this.#mayBorrow = false;
    this.#whole = undefined;
    this.#loan?.release();
    this.#loan = undefined;
  }

  /** Looks for memory for the whole message; `coming` bytes are about to go there. */
  #borrow(coming: number): void {
    const received = this.#length - this.#missing;
    const isEarned = this.#length <= 4 * (received + coming) + FREE_SLACK_BYTES;
    const loan = isEarned ? this.#pool!.take(this.#length) : this.#pool!.takeIdle(this.#length);
    if (loan === undefined) return;
    this.#mayBorrow = false;
    this.#loan = loan;
    const end = Math.ceil(this.#length / END_ALIGNMENT) * END_ALIGNMENT;
    this.#whole = loan.memory.subarray(end - this.#length, end);
    this.#flushCopy();
    let at = 0;
    for (const chunk of this.#chunks) {
      this.#whole.set(chunk, at);
      at += chunk.length;
    }
    this.#chunks = [];
  }

  #finish(sink: MessageSink): void {
    this.#flushCopy();
    const message = this.#chunks;
    this.#chunks = [];
    const loan = this.#loan;
    if (this.#whole !== undefined) message.push(this.#whole);
    this.#loan = this.#whole = undefined;
    this.#prefixBytes = 0;
    this.#keptBuffer = undefined;
    this.#keptBytes = 0;
    if (message.length === 0) message.push(EMPTY);
    sink.onMessage(message, this.#flag === 1, loan);
  }

  #mayKeep(chunk: Uint8Array, take: number): boolean {
    if (this.#length <= SMALL_BYTES || take < MIN_SLICE_BYTES) return false;
    if (chunk.buffer === this.#keptBuffer) return true;
    const kept = this.#keptBytes + chunk.buffer.byteLength;
    if (kept > 4 * (this.#length - this.#missing + take) + FREE_SLACK_BYTES) return false;
    this.#keptBuffer = chunk.buffer;
    this.#keptBytes = kept;
    return true;
  }

  #copyFrom(chunk: Uint8Array, at: number, take: number): void {
    let missing = this.#missing;
    const end = at + take;
    while (at < end) {
      this.#copy ??= new Uint8Array(Math.min(missing, SMALL_BYTES));
      const part = Math.min(end - at, this.#copy.length - this.#copied);
      this.#copy.set(chunk.subarray(at, at + part), this.#copied);
      this.#copied += part;
      at += part;
      missing -= part;
      if (this.#copied === this.#copy.length) this.#flushCopy();
    }
  }

  #flushCopy(): void {
    if (this.#copy === undefined) return;
    this.#chunks.push(this.#copy.subarray(0, this.#copied));
    this.#copy = undefined;
    this.#copied = 0;
  }
}

const EMPTY = new Uint8Array(0);

/** Copies a range of bytes. */
export type CopyRange = (bytes: Uint8Array, start: number, end: number) => Uint8Array;

const toOwnArray: CopyRange = (bytes, start, end) => bytes.slice(start, end);

/**
 * The one small, uncompressed message that `chunk` exactly holds, copied; `undefined` when it holds
 * anything else. Spares the common small call a reader.
 */
export function wholeSmallMessage(
  chunk: Uint8Array,
  maxBytes: number,
  copy: CopyRange = toOwnArray,
): Message | undefined {
  const length = chunk.length - 5;
  if (length < 0 || length > SMALL_BYTES || length > maxBytes) return undefined;
  if (chunk[0] !== 0 || chunk[1] !== 0) return undefined;
  if (((chunk[2]! << 16) | (chunk[3]! << 8) | chunk[4]!) !== length) return undefined;
  return [copy(chunk, 5, chunk.length)];
}

/** Prefixes made lately, by the low bits of the length: the answers of a model mostly have one size. */
const PREFIX_SLOTS = 64;
const prefixes = new Array<Uint8Array | undefined>(PREFIX_SLOTS).fill(undefined);

/** The five bytes before a message; not to be written to. */
export function messagePrefix(length: number, isCompressed: boolean): Uint8Array {
  if (isCompressed) return newPrefix(length, 1);
  const slot = length & (PREFIX_SLOTS - 1);
  const known = prefixes[slot];
  if (known !== undefined && prefixedLength(known) === length) return known;
  return prefixes[slot] = newPrefix(length, 0);
}

function newPrefix(length: number, flag: number): Uint8Array {
  return Uint8Array.of(flag, length >>> 24, length >>> 16, length >>> 8, length);
}

function prefixedLength(prefix: Uint8Array): number {
  return prefix[1]! * 0x1000000 + ((prefix[2]! << 16) | (prefix[3]! << 8) | prefix[4]!);
}
