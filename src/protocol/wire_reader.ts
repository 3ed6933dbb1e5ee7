/**
 * Reads the protobuf wire format from the chunks a message arrived in, without joining them. Only what
 * spans a chunk border is copied, and only after its length was found to lie within the message.
 */

import { alignedBytes } from "../tensor/mod.ts";

/** What is wrong with the bytes; whoever knows which message it is turns this into a status. */
export class WireError extends Error {
  override readonly name: string = "WireError";
}

/** The bytes end too early; with more of them all could still be well. */
export class TruncatedError extends WireError {
  override readonly name = "TruncatedError";

  constructor(message = "the message ends in the middle of a field") {
    super(message);
  }
}

/** Protobuf wire types. */
export const WireType = {
  varint: 0,
  fixed64: 1,
  bytes: 2,
  startGroup: 3,
  endGroup: 4,
  fixed32: 5,
} as const;

/** Nesting of unknown groups that is still skipped; protobuf's own implementations stop here too. */
const MAX_GROUP_DEPTH = 100;
/** The largest length protobuf allows for anything. */
const MAX_LENGTH = 0x7fffffff;
/** Strings up to this many bytes are decoded here: a `TextDecoder` call costs more than they do. */
const SHORT_STRING_BYTES = 64;

/**
 * Fields one message may have, nested ones included. No tensor is a field by its elements unless they
 * are BYTES or unpacked; without a bound, a message of the largest size could hold the event loop for
 * seconds with fields of two bytes.
 */
const MAX_FIELDS = 1 << 20;

const NO_CHUNKS: readonly Uint8Array[] = [];
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Direct-mapped table of short ASCII strings seen lately. Model and tensor names repeat on every
 * request: finding the same string again allocates nothing, and its hash is already known to maps.
 */
const INTERN_SLOTS = 512;
const interned = new Array<string>(INTERN_SLOTS).fill("");

/** A cursor over chunks, or over a range of one of them. Every read throws `WireError` past the end. */
export class WireReader {
  /** The chunk being read, from `pos` to `end`. */
  buf: Uint8Array;
  pos: number;
  end: number;
  /** Low and high halves of the last `varint()`; both are int32. */
  lo = 0;
  hi = 0;
  #chunks: readonly Uint8Array[];
  #next: number;
  /** Bytes in the chunks after this one. */
  #later: number;
  /** Shared with the readers of nested messages. */
  readonly #fields: { left: number };

  private constructor(
    buf: Uint8Array,
    pos: number,
    end: number,
    chunks: readonly Uint8Array[],
    later: number,
    fields: { left: number },
  ) {
    this.buf = buf;
    this.pos = pos;
    this.end = end;
    this.#chunks = chunks;
    this.#next = 1;
    this.#later = later;
    this.#fields = fields;
  }

  /** A reader of a whole message. */
  static of(chunks: readonly Uint8Array[]): WireReader {
    if (chunks.length === 1) return WireReader.within(chunks[0]!, 0, chunks[0]!.length);
    if (chunks.length === 0) return WireReader.within(new Uint8Array(0), 0, 0);
    let later = 0;
    for (let index = 1; index < chunks.length; index++) later += chunks[index]!.length;
    return new WireReader(chunks[0]!, 0, chunks[0]!.length, chunks, later, { left: MAX_FIELDS });
  }

  /** A reader of one range of one array. */
  static within(buf: Uint8Array, start: number, end: number): WireReader {
    return new WireReader(buf, start, end, NO_CHUNKS, 0, { left: MAX_FIELDS });
  }

  /** Bytes left. */
  get remaining(): number {
    return this.end - this.pos + this.#later;
  }

  get isAtEnd(): boolean {
    return this.pos === this.end && this.#later === 0;
  }

  /** Moves to the next chunk that has bytes. */
  #advance(): void {
    if (this.#later === 0) throw new TruncatedError();
    let chunk: Uint8Array;
    do {
      chunk = this.#chunks[this.#next++]!;
    } while (chunk.length === 0);
    this.#later -= chunk.length;
    this.buf = chunk;
    this.pos = 0;
    this.end = chunk.length;
  }

  #byte(): number {
    if (this.pos === this.end) this.#advance();
    return this.buf[this.pos++]!;
  }

  /** Reads a varint of up to 64 bits into `lo` and `hi`. */
  varint(): void {
    let lo = 0;
    let hi = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#byte();
      const bits = byte & 0x7f;
      if (shift < 28) lo |= bits << shift;
      else if (shift === 28) {
        lo |= bits << 28;
        hi = bits >>> 4;
      } else hi |= bits << (shift - 32);
      if (byte < 0x80) {
        this.lo = lo;
        this.hi = hi;
        return;
      }
    }
    throw new WireError("a varint is longer than ten bytes");
  }

  #uint32(what: string): number {
    if (this.pos < this.end) {
      const byte = this.buf[this.pos]!;
      if (byte < 0x80) {
        this.pos++;
        return byte;
      }
    }
    this.varint();
    if (this.hi !== 0) throw new WireError(`a ${what} does not fit 32 bits`);
    return this.lo >>> 0;
  }

  /** Field number and wire type of the next field: `number << 3 | type`, below 2^32. */
  tag(): number {
    if (--this.#fields.left < 0) throw new WireError(`more than ${MAX_FIELDS} fields`);
    const tag = this.#uint32("field tag");
    if (tag < 8) throw new WireError("a field has number 0");
    return tag;
  }

  /** The length of what follows, which is known to be there. */
  length(): number {
    const length = this.claimedLength();
    if (length > this.remaining) {
      throw new TruncatedError(`a field claims ${length} bytes where ${this.remaining} remain`);
    }
    return length;
  }

  /** The length of what follows, of which only the beginning may be there. */
  claimedLength(): number {
    const length = this.#uint32("length");
    if (length > MAX_LENGTH) throw new WireError(`a field claims ${length} bytes`);
    return length;
  }

  /** An int64 as a number: exact up to 2^53, the nearest double beyond. */
  int64(): number {
    if (this.pos < this.end) {
      const byte = this.buf[this.pos]!;
      if (byte < 0x80) {
        this.pos++;
        return byte;
      }
    }
    this.varint();
    return this.hi * 0x1_0000_0000 + (this.lo >>> 0);
  }

  /** A bool: any bit set is true. */
  bool(): boolean {
    this.varint();
    return (this.lo | this.hi) !== 0;
  }

  /** Eight little-endian bytes as a double. */
  double(): number {
    if (this.remaining < 8) throw new TruncatedError();
    const bytes = this.take(8);
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, true);
  }

  /**
   * The next `length` bytes, which `length()` has checked: a view where they lie in one chunk, else a
   * copy.
   */
  take(length: number): Uint8Array {
    if (length <= this.end - this.pos) {
      const start = this.pos;
      this.pos = start + length;
      return this.buf.subarray(start, start + length);
    }
    const joined = alignedBytes(length);
    for (let at = 0; at < length;) {
      if (this.pos === this.end) this.#advance();
      const count = Math.min(length - at, this.end - this.pos);
      joined.set(this.buf.subarray(this.pos, this.pos + count), at);
      this.pos += count;
      at += count;
    }
    return joined;
  }

  /** Reads a length and gives a reader of that many bytes. */
  message(): WireReader {
    const length = this.length();
    if (length <= this.end - this.pos) {
      const start = this.pos;
      this.pos = start + length;
      return new WireReader(this.buf, start, this.pos, NO_CHUNKS, 0, this.#fields);
    }
    return new WireReader(this.take(length), 0, length, NO_CHUNKS, 0, this.#fields);
  }

  /** Reads a length and that many bytes. */
  bytes(): Uint8Array {
    return this.take(this.length());
  }

  /** Reads a length and that many bytes of UTF-8. */
  string(): string {
    const length = this.length();
    if (length === 0) return "";
    if (length > this.end - this.pos) return decodeUtf8(this.take(length));
    const start = this.pos;
    this.pos = start + length;
    if (length <= SHORT_STRING_BYTES) {
      const text = shortAscii(this.buf, start, length);
      if (text !== undefined) return text;
    }
    return decodeUtf8(this.buf.subarray(start, start + length));
  }

  /** Like `string()`, for text that comes again and again: names, datatypes, keys. */
  name(): string {
    const length = this.length();
    if (length === 0) return "";
    if (length > this.end - this.pos) return decodeUtf8(this.take(length));
    const start = this.pos;
    this.pos = start + length;
    if (length > SHORT_STRING_BYTES) return decodeUtf8(this.buf.subarray(start, start + length));
    const { buf } = this;
    let hash = length;
    for (let index = 0; index < length; index++) hash = Math.imul(hash, 31) + buf[start + index]!;
    const slot = (hash ^ (hash >>> 15)) & (INTERN_SLOTS - 1);
    const known = interned[slot]!;
    if (known.length === length && isSameAscii(known, buf, start)) return known;
    const text = shortAscii(buf, start, length);
    if (text === undefined) return decodeUtf8(buf.subarray(start, start + length));
    interned[slot] = text;
    return text;
  }

  #discard(length: number): void {
    if (length > this.remaining) throw new TruncatedError();
    while (length > this.end - this.pos) {
      length -= this.end - this.pos;
      this.#advance();
    }
    this.pos += length;
  }

  /** Passes over the field whose tag was just read, groups included. */
  skip(tag: number): void {
    if ((tag & 7) !== WireType.startGroup) {
      if ((tag & 7) === WireType.endGroup) throw new WireError("a group ends that was not begun");
      this.#skipValue(tag);
      return;
    }
    const open = [tag >>> 3];
    while (open.length > 0) {
      const inner = this.tag();
      if ((inner & 7) === WireType.startGroup) {
        if (open.length === MAX_GROUP_DEPTH) {
          throw new WireError(`groups are nested deeper than ${MAX_GROUP_DEPTH}`);
        }
        open.push(inner >>> 3);
      } else if ((inner & 7) !== WireType.endGroup) this.#skipValue(inner);
      else if (open.pop() !== inner >>> 3) {
        throw new WireError("a group ends that was not begun");
      }
    }
  }

  /** Passes over the value of a field that is no group. */
  #skipValue(tag: number): void {
    switch (tag & 7) {
      case WireType.varint:
        return this.varint();
      case WireType.fixed64:
        return this.#discard(8);
      case WireType.bytes:
        return this.#discard(this.length());
      case WireType.fixed32:
        return this.#discard(4);
      default:
        throw new WireError(`field ${tag >>> 3} has no known wire type`);
    }
  }
}

/** Decodes strict UTF-8. */
function decodeUtf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    throw new WireError("a string is not valid UTF-8", { cause: error });
  }
}

/** The text of an ASCII range, or `undefined` where it is not ASCII. */
function shortAscii(buf: Uint8Array, start: number, length: number): string | undefined {
  let text = "";
  for (let index = start; index < start + length; index++) {
    const byte = buf[index]!;
    if (byte >= 0x80) return undefined;
    text += String.fromCharCode(byte);
  }
  return text;
}

/** Whether a range, as long as `text`, holds its characters; `text` is ASCII. */
function isSameAscii(text: string, buf: Uint8Array, start: number): boolean {
  for (let index = 0; index < text.length; index++) {
    if (text.charCodeAt(index) !== buf[start + index]) return false;
  }
  return true;
}
