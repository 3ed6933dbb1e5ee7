/**
 * HPACK decoding (RFC 7541). A connection tends to receive the same few header blocks again and again;
 * while the dynamic table has not changed, equal bytes mean equal fields, so recent blocks are kept
 * and found by comparing bytes.
 */

import type { HeaderField, HeaderList } from "./types.ts";
import { ConnectionError, ErrorCode } from "./error_codes.ts";
import { checkHeaders, type HeaderRole } from "./header_rules.ts";
import { DEFAULT_TABLE_BYTES, DynamicTable, makeEntry, type TableEntry } from "./hpack_table.ts";
import { huffmanDecode } from "./huffman.ts";

const CACHED_BLOCKS = 8;
const CACHED_BLOCK_BYTES = 512;
/** Strings up to this many bytes are put together one by one: a call with so few costs more. */
const SHORT_BYTES = 12;

/** One decoded header block. May be shared by several streams; nothing in it is ever changed. */
export class HeaderBlock {
  readonly headers: HeaderList;
  /** Over the list limit; `headers` is then incomplete and must not be used. */
  readonly isTooLarge: boolean;
  readonly #kinds: readonly number[];
  #role: HeaderRole | undefined;
  #verdict = 0;

  constructor(headers: HeaderList, kinds: readonly number[], isTooLarge: boolean) {
    this.headers = headers;
    this.#kinds = kinds;
    this.isTooLarge = isTooLarge;
  }

  /** Checks the list as `checkHeaders` does; the answer is remembered. */
  check(role: HeaderRole): number {
    if (this.#role !== role) {
      this.#role = role;
      this.#verdict = checkHeaders(this.#kinds, role);
    }
    return this.#verdict;
  }

  /** The kind of the first field; `:status` must come first in a response. */
  kindAt(index: number): number | undefined {
    return this.#kinds[index];
  }
}

interface CachedBlock {
  readonly bytes: Uint8Array;
  readonly block: HeaderBlock;
}

/** Decodes the header blocks of one direction of one connection, in order. */
export class HpackDecoder {
  readonly #table: DynamicTable;
  readonly #maxListBytes: number;
  #maxTableBytes = DEFAULT_TABLE_BYTES;
  /** The limit was lowered below the table's size: the next block must open with a size update. */
  #needsSizeUpdate = false;
  #cached: CachedBlock[] = [];
  #nextCached = 0;
  /** Hash of the last block with literals that was not in the cache. */
  #lastLiterals = 0;
  /** Unwrapped Huffman strings; grows to the longest one, which the block limit bounds. */
  #scratch = new Uint8Array(512);
  // The cursor of the block being decoded. Fields, so that nothing is allocated to return two values.
  #bytes: Uint8Array = this.#scratch;
  #at = 0;
  #end = 0;

  /** `maxListBytes`: names, values and 32 per field (SETTINGS_MAX_HEADER_LIST_SIZE). */
  constructor(maxListBytes: number) {
    this.#maxListBytes = maxListBytes;
    this.#table = new DynamicTable(DEFAULT_TABLE_BYTES);
  }

  /** Bytes in the dynamic table, as RFC 7541 counts them. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** The dynamic table, newest first. */
  get tableFields(): HeaderField[] {
    return Array.from({ length: this.#table.count }, (_, i) => this.#table.get(62 + i)!.field);
  }

  /** Applies our SETTINGS_HEADER_TABLE_SIZE once the peer has acknowledged it. */
  setMaxTableBytes(bytes: number): void {
    this.#maxTableBytes = bytes;
    if (bytes < this.#table.maxBytes) this.#needsSizeUpdate = true;
  }

  /**
   * Decodes one whole block, `bytes[start, end)`; nothing of `bytes` is kept. Throws `ConnectionError`
   * (COMPRESSION_ERROR): the shared state is then lost and so is the connection.
   */
  decode(bytes: Uint8Array, start: number, end: number): HeaderBlock {
    return this.#findCached(bytes, start, end) ?? this.#decode(bytes, start, end);
  }

  #decode(bytes: Uint8Array, start: number, end: number): HeaderBlock {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    const headers: HeaderField[] = [];
    const kinds: number[] = [];
    let listBytes = 0;
    let changed = this.#readSizeUpdates();
    let hasLiterals = false;
    while (this.#at < end) {
      const first = bytes[this.#at]!;
      let entry: TableEntry;
      if ((first & 0x80) !== 0) {
        entry = this.#entry(this.#readInteger(0x7f));
      } else if ((first & 0x40) !== 0) {
        entry = this.#readLiteral(0x3f, false);
        this.#table.insert(entry);
        changed = true;
      } else if ((first & 0x20) !== 0) {
        throw compressionError("table size update after a field");
      } else {
        entry = this.#readLiteral(0x0f, (first & 0x10) !== 0);
        hasLiterals = true;
      }
      listBytes += entry.size;
      if (listBytes <= this.#maxListBytes) {
        headers.push(entry.field);
        kinds.push(entry.kind);
      }
    }
    const block = new HeaderBlock(headers, kinds, listBytes > this.#maxListBytes);
    if (changed) this.#cached.length = 0;
    // A deadline, say, that is another each time must not push out what comes again.
    else if (!hasLiterals || this.#isRepeated(bytes, start, end)) {
      this.#remember(bytes, start, end, block);
    }
    return block;
  }

  #readSizeUpdates(): boolean {
    let changed = false;
    while (this.#at < this.#end && (this.#bytes[this.#at]! & 0xe0) === 0x20) {
      const size = this.#readInteger(0x1f);
      if (size > this.#maxTableBytes) throw compressionError("table size update over the limit");
      this.#table.resize(size);
      this.#needsSizeUpdate = false;
      changed = true;
    }
    if (this.#needsSizeUpdate && this.#at < this.#end) {
      throw compressionError("required table size update is missing");
    }
    return changed;
  }

  #entry(index: number): TableEntry {
    const entry = this.#table.get(index);
    if (entry === undefined) throw compressionError(`no field at index ${index}`);
    return entry;
  }

  #readLiteral(indexMask: number, isSensitive: boolean): TableEntry {
    const index = this.#readInteger(indexMask);
    const known = index === 0 ? undefined : this.#entry(index);
    const name = known === undefined ? this.#readString() : known.field[0];
    const value = this.#readString();
    return makeEntry(isSensitive ? [name, value, true] : [name, value], known?.kind);
  }

  /** RFC 7541 section 5.1; no more than fits 28 bits, which no table or block here reaches. */
  #readInteger(mask: number): number {
    if (this.#at >= this.#end) throw compressionError("block ends inside a field");
    let value = this.#bytes[this.#at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.#at >= this.#end) throw compressionError("block ends inside an integer");
      const byte = this.#bytes[this.#at++]!;
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw compressionError("integer too large");
  }

  #readString(): string {
    if (this.#at >= this.#end) throw compressionError("block ends inside a field");
    const isHuffman = (this.#bytes[this.#at]! & 0x80) !== 0;
    const length = this.#readInteger(0x7f);
    const start = this.#at;
    const end = start + length;
    if (end > this.#end) throw compressionError("string longer than its block");
    this.#at = end;
    if (!isHuffman) return latin1(this.#bytes, start, end);
    // Five bits is the shortest code, so a string is at most 8/5 as long as its Huffman form.
    const room = Math.ceil(length * 8 / 5);
    if (room > this.#scratch.length) this.#scratch = new Uint8Array(room * 2);
    return latin1(this.#scratch, 0, huffmanDecode(this.#bytes, start, end, this.#scratch, 0));
  }

  #findCached(bytes: Uint8Array, start: number, end: number): HeaderBlock | undefined {
    if (this.#needsSizeUpdate) return undefined;
    const length = end - start;
    search: for (const { bytes: known, block } of this.#cached) {
      if (known.length !== length) continue;
      for (let i = 0; i < length; i++) {
        if (known[i] !== bytes[start + i]) continue search;
      }
      return block;
    }
    return undefined;
  }

  /** Whether the last block with literals had the same bytes, as far as a hash can tell. */
  #isRepeated(bytes: Uint8Array, start: number, end: number): boolean {
    // FNV-1a (www.isthe.com/chongo/tech/comp/fnv), over 32-bit words of one byte each.
    let hash = 0x811c9dc5;
    for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
    const isRepeated = hash === this.#lastLiterals;
    this.#lastLiterals = hash;
    return isRepeated;
  }

  #remember(bytes: Uint8Array, start: number, end: number, block: HeaderBlock): void {
    if (end - start > CACHED_BLOCK_BYTES || block.isTooLarge) return;
    if (this.#cached.length < CACHED_BLOCKS) {
      this.#cached.push({ bytes: bytes.slice(start, end), block });
      return;
    }
    this.#nextCached = (this.#nextCached + 1) % CACHED_BLOCKS;
    this.#cached[this.#nextCached] = { bytes: bytes.slice(start, end), block };
  }
}

function compressionError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.COMPRESSION_ERROR, `HPACK: ${message}`);
}

/** Bytes as a string of the same char codes. */
function latin1(bytes: Uint8Array, start: number, end: number): string {
  if (end - start <= SHORT_BYTES) {
    let text = "";
    for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at]!);
    return text;
  }
  // Up to here, arguments on the stack are quicker than building pieces.
  const piece = 4096;
  if (end - start <= piece) {
    return String.fromCharCode.apply(null, bytes.subarray(start, end) as unknown as number[]);
  }
  let text = "";
  for (let at = start; at < end; at += piece) {
    text += String.fromCharCode.apply(
      null,
      bytes.subarray(at, Math.min(end, at + piece)) as unknown as number[],
    );
  }
  return text;
}
