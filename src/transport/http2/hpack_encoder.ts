/**
 * HPACK encoding (RFC 7541). A server sends the same few header lists again and again; once their
 * fields are in the dynamic table the bytes for a list stay the same until the table changes, so they
 * are kept and found by comparing the strings.
 */

import type { HeaderField, HeaderList } from "./types.ts";
import { InvalidArgumentError } from "../../errors.ts";
import { isValidName, isValidValue } from "./header_rules.ts";
import { STATIC_TABLE } from "./hpack_static_table.ts";
import { DEFAULT_TABLE_BYTES, DynamicTable, ENTRY_OVERHEAD, makeEntry } from "./hpack_table.ts";
import { huffmanEncode, huffmanLength } from "./huffman.ts";

/** Never put into a table by default: a shared table lets a guesser test values (RFC 7541 section 7.1). */
export const SENSITIVE_NAMES: ReadonlySet<string> = new Set([
  "authorization",
  "proxy-authorization",
  "cookie",
  "set-cookie",
]);

/** Values that practically never repeat would only push useful entries out. */
const VOLATILE_NAMES: ReadonlySet<string> = new Set([
  "content-length",
  "date",
  "etag",
  "grpc-message",
  "grpc-status-details-bin",
  "grpc-timeout",
  "last-modified",
  "traceparent",
]);

const CACHED_LISTS = 8;
const CACHED_LIST_FIELDS = 16;
/** A name whose values keep changing stops being indexed after this many insertions without a hit. */
const MAX_FRUITLESS_INSERTS = 8;
const TRACKED_NAMES = 256;

/** The static entries of one name. */
interface StaticName {
  /** HPACK index of the first of them. */
  readonly index: number;
  /** All of them by value, as HPACK index. */
  readonly values: Map<string, number>;
}

const STATIC_NAMES: ReadonlyMap<string, StaticName> = indexStaticTable();

function indexStaticTable(): Map<string, StaticName> {
  const names = new Map<string, StaticName>();
  STATIC_TABLE.forEach(([name, value], i) => {
    if (!names.has(name)) names.set(name, { index: i + 1, values: new Map() });
    names.get(name)!.values.set(value, i + 1);
  });
  return names;
}

/** What one connection's dynamic table has held of one field name. */
interface NameSlot {
  /** Sequence number of the newest entry with this name, or -1. */
  newest: number;
  /** Entries by value, as sequence number. */
  readonly values: Map<string, number>;
  /** Insertions since a dynamic entry of this name was last used. */
  fruitless: number;
}

interface CachedList {
  /** Name and value of each field, in turn. */
  readonly strings: readonly string[];
  readonly bytes: Uint8Array;
}

/** Encodes the header blocks of one direction of one connection, in order. */
export class HpackEncoder {
  /** Where the last encoded block lies, from offset 0; valid until the next call. */
  bytes: Uint8Array;

  readonly #table: DynamicTable;
  readonly #names = new Map<string, NameSlot>();
  #scratch = new Uint8Array(1024);
  #at = 0;
  #changed = false;
  #cached: CachedList[] = [];
  #nextCached = 0;
  /** Lowest size since the last block, and whether updates must open the next one. */
  #lowestSize = -1;
  #hasSizeUpdate = false;
  readonly #sizeCap: number;

  /** `sizeCap`: the largest table kept, whatever the peer allows. */
  constructor(sizeCap = DEFAULT_TABLE_BYTES) {
    this.bytes = this.#scratch;
    this.#sizeCap = sizeCap;
    this.#table = new DynamicTable(
      Math.min(DEFAULT_TABLE_BYTES, sizeCap),
      (entry, sequence) => this.#forget(entry.field, sequence),
    );
    if (sizeCap < DEFAULT_TABLE_BYTES) this.#noteSize(sizeCap);
    this.bytes = this.#scratch;
  }

  /** Bytes in the dynamic table, as RFC 7541 counts them. */
  get tableBytes(): number {
    return this.#table.bytes;
  }

  /** Applies the peer's SETTINGS_HEADER_TABLE_SIZE; announced at the start of the next block. */
  setMaxTableBytes(bytes: number): void {
    const size = Math.min(bytes, this.#sizeCap);
    if (size === this.#table.maxBytes) return;
    this.#table.resize(size);
    this.#noteSize(size);
  }

  /**
   * Encodes a list into `this.bytes` and returns the length. Throws `InvalidArgumentError`, with
   * nothing changed, for a name or value that must not go onto the wire.
   */
  encode(list: HeaderList): number {
    if (!this.#hasSizeUpdate) {
      const known = this.#findCached(list);
      if (known !== undefined) {
        this.bytes = known;
        return known.length;
      }
    }
    validateHeaders(list);
    this.#at = 0;
    this.#changed = this.#hasSizeUpdate;
    if (this.#hasSizeUpdate) this.#writeSizeUpdates();
    for (const field of list) this.#writeField(field);
    if (this.#changed) this.#cached.length = 0;
    else this.#remember(list);
    this.bytes = this.#scratch;
    return this.#at;
  }

  #noteSize(size: number): void {
    this.#lowestSize = this.#hasSizeUpdate ? Math.min(this.#lowestSize, size) : size;
    this.#hasSizeUpdate = true;
  }

  /** RFC 7541 section 4.2: the smallest size since the last block, then the final one. */
  #writeSizeUpdates(): void {
    this.#reserve(16);
    if (this.#lowestSize < this.#table.maxBytes) this.#writeInteger(0x20, 0x1f, this.#lowestSize);
    this.#writeInteger(0x20, 0x1f, this.#table.maxBytes);
    this.#hasSizeUpdate = false;
  }

  #writeField(field: HeaderField): void {
    const [name, value] = field;
    // Room for both strings raw (the longer form) and three integers.
    this.#reserve(name.length + value.length + 24);
    if (field[2] === true || SENSITIVE_NAMES.has(name)) {
      return this.#writeLiteral(0x10, 0x0f, name, value);
    }
    const staticIndex = STATIC_NAMES.get(name)?.values.get(value);
    if (staticIndex !== undefined) return this.#writeInteger(0x80, 0x7f, staticIndex);
    const slot = this.#names.get(name);
    const sequence = slot?.values.get(value);
    if (sequence !== undefined) {
      slot!.fruitless = 0;
      return this.#writeInteger(0x80, 0x7f, this.#table.indexOf(sequence));
    }
    if (!this.#isWorthIndexing(slot, name, value)) {
      return this.#writeLiteral(0x00, 0x0f, name, value);
    }
    this.#writeLiteral(0x40, 0x3f, name, value);
    this.#insert(field);
  }

  #isWorthIndexing(slot: NameSlot | undefined, name: string, value: string): boolean {
    if (VOLATILE_NAMES.has(name)) return false;
    // An entry of more than a quarter of the table costs more than it can save.
    if ((name.length + value.length + ENTRY_OVERHEAD) * 4 > this.#table.maxBytes) return false;
    if (slot === undefined) return this.#names.size < TRACKED_NAMES;
    return slot.fruitless < MAX_FRUITLESS_INSERTS;
  }

  #insert(field: HeaderField): void {
    const sequence = this.#table.insert(makeEntry(field));
    this.#changed = true;
    if (sequence < 0) return;
    const slot = this.#slot(field[0]);
    slot.newest = sequence;
    slot.values.set(field[1], sequence);
    slot.fruitless++;
  }

  #forget(field: HeaderField, sequence: number): void {
    const slot = this.#names.get(field[0]);
    if (slot === undefined) return;
    if (slot.values.get(field[1]) === sequence) slot.values.delete(field[1]);
    if (slot.newest === sequence) slot.newest = -1;
  }

  #slot(name: string): NameSlot {
    let slot = this.#names.get(name);
    if (slot === undefined) {
      slot = { newest: -1, values: new Map(), fruitless: 0 };
      this.#names.set(name, slot);
    }
    return slot;
  }

  #writeLiteral(pattern: number, mask: number, name: string, value: string): void {
    let index = STATIC_NAMES.get(name)?.index ?? 0;
    if (index === 0) {
      const slot = this.#names.get(name);
      if (slot !== undefined && slot.newest >= 0) index = this.#table.indexOf(slot.newest);
    }
    this.#writeInteger(pattern, mask, index);
    if (index === 0) this.#writeString(name);
    this.#writeString(value);
  }

  #writeInteger(pattern: number, mask: number, value: number): void {
    const out = this.#scratch;
    if (value < mask) {
      out[this.#at++] = pattern | value;
      return;
    }
    out[this.#at++] = pattern | mask;
    let rest = value - mask;
    for (; rest >= 0x80; rest >>>= 7) out[this.#at++] = (rest & 0x7f) | 0x80;
    out[this.#at++] = rest;
  }

  #writeString(text: string): void {
    const packed = huffmanLength(text);
    if (packed < text.length) {
      this.#writeInteger(0x80, 0x7f, packed);
      this.#at = huffmanEncode(text, this.#scratch, this.#at);
      return;
    }
    this.#writeInteger(0x00, 0x7f, text.length);
    for (let i = 0; i < text.length; i++) this.#scratch[this.#at++] = text.charCodeAt(i);
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.#scratch.length) return;
    const larger = new Uint8Array((this.#at + bytes) * 2);
    larger.set(this.#scratch.subarray(0, this.#at));
    this.#scratch = larger;
  }

  #findCached(list: HeaderList): Uint8Array | undefined {
    search: for (const { strings, bytes } of this.#cached) {
      if (strings.length !== list.length * 2) continue;
      for (let i = 0; i < list.length; i++) {
        const field = list[i]!;
        if (field[2] === true) return undefined;
        if (strings[2 * i + 1] !== field[1] || strings[2 * i] !== field[0]) continue search;
      }
      return bytes;
    }
    return undefined;
  }

  #remember(list: HeaderList): void {
    if (list.length > CACHED_LIST_FIELDS) return;
    // A list with a value that differs every time would never be found again.
    if (list.some(([name, _, isSensitive]) => isSensitive === true || VOLATILE_NAMES.has(name))) {
      return;
    }
    const strings = list.flatMap(([name, value]) => [name, value]);
    const bytes = this.#scratch.slice(0, this.#at);
    if (this.#cached.length < CACHED_LISTS) {
      this.#cached.push({ strings, bytes });
      return;
    }
    this.#nextCached = (this.#nextCached + 1) % CACHED_LISTS;
    this.#cached[this.#nextCached] = { strings, bytes };
  }
}

/** Throws `InvalidArgumentError` for a name or value that must not go onto the wire. */
export function validateHeaders(list: HeaderList): void {
  for (const [name, value] of list) {
    if (!isValidName(name.startsWith(":") ? name.slice(1) : name)) {
      throw new InvalidArgumentError(`Header name ${JSON.stringify(name)} is not valid in HTTP/2`);
    }
    if (!isValidValue(value)) {
      throw new InvalidArgumentError(`Value of header ${JSON.stringify(name)} is not valid`);
    }
  }
}
