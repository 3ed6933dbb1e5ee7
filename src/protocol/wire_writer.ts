/** Writes the protobuf wire format into a buffer that grows and is used again for the next message. */

import { WireType } from "./wire_reader.ts";

const encoder = new TextEncoder();
/** Buffers larger than this are not kept between messages. */
const KEEP_BYTES = 1 << 16;

/** An append-only protobuf message. Default values are the caller's to leave out. */
export class WireWriter {
  #buf = new Uint8Array(1024);
  #pos = 0;
  readonly #scratch = new DataView(new ArrayBuffer(8));

  /** Bytes written. */
  get length(): number {
    return this.#pos;
  }

  #ensure(count: number): void {
    if (this.#pos + count <= this.#buf.length) return;
    const grown = new Uint8Array(Math.max(this.#buf.length * 2, this.#pos + count));
    grown.set(this.#buf.subarray(0, this.#pos));
    this.#buf = grown;
  }

  /** Copies what was written to the beginning of `target`. */
  copyTo(target: Uint8Array): void {
    target.set(this.#buf.subarray(0, this.#pos));
  }

  /** Forgets what was written. */
  reset(): void {
    this.#pos = 0;
    if (this.#buf.length > KEEP_BYTES) this.#buf = new Uint8Array(1024);
  }

  /** A varint of a whole number from 0 to 2^32 - 1. */
  uint32(value: number): void {
    this.#ensure(5);
    this.#putUint32(value);
  }

  #putUint32(value: number): void {
    while (value > 0x7f) {
      this.#buf[this.#pos++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    this.#buf[this.#pos++] = value;
  }

  /** A varint of the 64 bits of a whole number; negative ones take ten bytes, as protobuf wants. */
  int64(value: number | bigint): void {
    let lo: number;
    let hi: number;
    if (typeof value === "number") {
      lo = value >>> 0;
      hi = Math.floor(value / 0x1_0000_0000) >>> 0;
    } else {
      lo = Number(BigInt.asUintN(32, value));
      hi = Number(BigInt.asUintN(32, value >> 32n));
    }
    this.#ensure(10);
    while (hi !== 0) {
      this.#buf[this.#pos++] = (lo & 0x7f) | 0x80;
      lo = ((lo >>> 7) | (hi << 25)) >>> 0;
      hi >>>= 7;
    }
    this.#putUint32(lo);
  }

  /** Eight little-endian bytes. */
  double(value: number): void {
    this.#ensure(8);
    this.#scratch.setFloat64(0, value, true);
    for (let index = 0; index < 8; index++) this.#buf[this.#pos++] = this.#scratch.getUint8(index);
  }

  /** A tag of a field below 16, which is all this protocol has. */
  tag(field: number, type: number): void {
    this.#ensure(1);
    this.#buf[this.#pos++] = field << 3 | type;
  }

  /** A string field. */
  string(field: number, text: string): void {
    const { length } = text;
    // Room for the tag, a length and three bytes a UTF-16 unit, the most UTF-8 needs.
    this.#ensure(6 + length * 3);
    const tagAt = this.#pos;
    this.#buf[this.#pos++] = field << 3 | WireType.bytes;
    this.#putUint32(length);
    const buf = this.#buf;
    const start = this.#pos;
    for (let index = 0; index < length; index++) {
      const unit = text.charCodeAt(index);
      if (unit >= 0x80) {
        this.#pos = tagAt;
        this.#utf8(field, text);
        return;
      }
      buf[start + index] = unit;
    }
    this.#pos = start + length;
  }

  #utf8(field: number, text: string): void {
    const bytes = encoder.encode(text);
    this.tag(field, WireType.bytes);
    this.uint32(bytes.length);
    this.raw(bytes);
  }

  /** Bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#ensure(bytes.length);
    this.#buf.set(bytes, this.#pos);
    this.#pos += bytes.length;
  }

  /** Begins a nested message; hand the mark to `end`. */
  begin(field: number): number {
    this.#ensure(2);
    this.#buf[this.#pos++] = field << 3 | WireType.bytes;
    return this.#pos++;
  }

  /** Ends the nested message begun at `mark`, whose length goes in front of it. */
  end(mark: number): void {
    const length = this.#pos - mark - 1;
    if (length < 0x80) {
      this.#buf[mark] = length;
      return;
    }
    // One byte was left for the length; longer ones move the message up.
    const extra = varintLength(length) - 1;
    this.#ensure(extra);
    this.#buf.copyWithin(mark + 1 + extra, mark + 1, this.#pos);
    const after = this.#pos + extra;
    this.#pos = mark;
    this.#putUint32(length);
    this.#pos = after;
  }
}

/** Bytes of the varint of a number below 2^32. */
export function varintLength(value: number): number {
  let length = 1;
  for (; value > 0x7f; value >>>= 7) length++;
  return length;
}
