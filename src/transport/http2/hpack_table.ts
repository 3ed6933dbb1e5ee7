/** HPACK's dynamic table (RFC 7541 section 2.3.2), as both ends keep it: newest first, by bytes. */

import type { HeaderField } from "./types.ts";
import { classifyField, FieldKind, isValidValue } from "./header_rules.ts";
import { STATIC_COUNT, STATIC_TABLE } from "./hpack_static_table.ts";

/** The table size both ends start with (RFC 9113 section 6.5.2). */
export const DEFAULT_TABLE_BYTES = 4096;
/** What an entry costs beyond its two strings (RFC 7541 section 4.1). */
export const ENTRY_OVERHEAD = 32;

/** A field together with its `FieldKind`, so that it is classified once however often it is used. */
export interface TableEntry {
  readonly field: HeaderField;
  readonly kind: number;
  /** Table size: both strings plus 32. */
  readonly size: number;
}

/** Makes the entry of a field; `knownKind` is the kind of another one with its name. */
export function makeEntry(field: HeaderField, knownKind?: number): TableEntry {
  const [name, value] = field;
  return {
    field,
    kind: knownKind === FieldKind.ORDINARY && name !== "te"
      ? isValidValue(value) ? FieldKind.ORDINARY : FieldKind.MALFORMED
      : classifyField(name, value),
    size: name.length + value.length + ENTRY_OVERHEAD,
  };
}

const STATIC_ENTRIES: readonly TableEntry[] = STATIC_TABLE.map((field) => makeEntry(field));

/** A bounded ring of entries. Strings hold one byte per character, so lengths are byte lengths. */
export class DynamicTable {
  /** Capacity is a power of two and grows with the number of entries. */
  #ring: (TableEntry | undefined)[] = new Array(64);
  #count = 0;
  #inserted = 0;
  #bytes = 0;
  #maxBytes: number;
  readonly #onEvict: ((entry: TableEntry, sequence: number) => void) | undefined;

  /** `onEvict` is told of each entry that falls out, with the sequence number `insert` gave it. */
  constructor(maxBytes: number, onEvict?: (entry: TableEntry, sequence: number) => void) {
    this.#maxBytes = maxBytes;
    this.#onEvict = onEvict;
  }

  get count(): number {
    return this.#count;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** The entry at an HPACK index, static entries included; `undefined` where there is none. */
  get(index: number): TableEntry | undefined {
    if (index <= STATIC_COUNT) return STATIC_ENTRIES[index - 1];
    const age = index - STATIC_COUNT;
    if (age > this.#count) return undefined;
    return this.#ring[(this.#inserted - age) & (this.#ring.length - 1)];
  }

  /** HPACK index of the dynamic entry with that sequence number. */
  indexOf(sequence: number): number {
    return STATIC_COUNT + this.#inserted - sequence;
  }

  /**
   * Inserts, evicting from the old end. An entry larger than the whole table empties it and is not
   * stored (RFC 7541 section 4.4). Returns its sequence number, or -1 when it was not stored.
   */
  insert(entry: TableEntry): number {
    this.#evictTo(this.#maxBytes - entry.size);
    if (entry.size > this.#maxBytes) return -1;
    if (this.#count === this.#ring.length) this.#grow();
    this.#ring[this.#inserted & (this.#ring.length - 1)] = entry;
    this.#count++;
    this.#bytes += entry.size;
    return this.#inserted++;
  }

  /** Changes the maximum size, evicting what no longer fits. */
  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  #evictTo(bytes: number): void {
    while (this.#count > 0 && this.#bytes > bytes) {
      const sequence = this.#inserted - this.#count;
      const slot = sequence & (this.#ring.length - 1);
      const entry = this.#ring[slot]!;
      this.#ring[slot] = undefined;
      this.#count--;
      this.#bytes -= entry.size;
      this.#onEvict?.(entry, sequence);
    }
  }

  #grow(): void {
    const old = this.#ring;
    const ring: (TableEntry | undefined)[] = new Array(old.length * 2);
    for (let at = this.#inserted - this.#count; at < this.#inserted; at++) {
      ring[at & (ring.length - 1)] = old[at & (old.length - 1)];
    }
    this.#ring = ring;
  }
}
