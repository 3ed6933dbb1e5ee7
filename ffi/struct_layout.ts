/**
 * C structs as field tables. A table lists fields in declaration order; offsets, padding and the size
 * follow from the System V ABI's rule for 64-bit Linux (x86-64 and AArch64 alike): each field is aligned
 * to its own size, the struct to its widest field.
 */

import { addressOf, allocate, type Nullable } from "./pointer.ts";

/** How one kind of field lies in memory and which JavaScript value it holds. */
export interface FieldKind<T> {
  /** The C spelling that `scripts/check_structs.ts` compares with a header. */
  readonly c: string;
  readonly size: number;
  readonly align: number;
  read(view: DataView, offset: number): T;
  write(view: DataView, offset: number, value: T): void;
}

/** A field table: name to kind, in the order of the C declaration. */
// deno-lint-ignore no-explicit-any
export type Fields = Readonly<Record<string, FieldKind<any>>>;

export type FieldValue<K> = K extends FieldKind<infer T> ? T : never;

/** `size_t`, as a number: nothing here exceeds 2^53. */
export const size: FieldKind<number> = {
  c: "size_t",
  size: 8,
  align: 8,
  read: (view, offset) => Number(view.getBigUint64(offset, true)),
  write: (view, offset, value) => view.setBigUint64(offset, BigInt(value), true),
};

/** `int64_t`, as a number. */
export const int64: FieldKind<number> = {
  c: "int64_t",
  size: 8,
  align: 8,
  read: (view, offset) => Number(view.getBigInt64(offset, true)),
  write: (view, offset, value) => view.setBigInt64(offset, BigInt(value), true),
};

/** `int`, and every C enum. */
export const int32: FieldKind<number> = {
  c: "int",
  size: 4,
  align: 4,
  read: (view, offset) => view.getInt32(offset, true),
  write: (view, offset, value) => view.setInt32(offset, value, true),
};

/** `bool`: one byte. */
export const bool: FieldKind<boolean> = {
  c: "bool",
  size: 1,
  align: 1,
  read: (view, offset) => view.getUint8(offset) !== 0,
  write: (view, offset, value) => view.setUint8(offset, value ? 1 : 0),
};

/** A pointer to a `Name`; `char` and `void` for plain memory. */
export function pointer<Name extends string>(name: Name): FieldKind<Nullable<Name>> {
  return {
    c: `${name}*`,
    size: 8,
    align: 8,
    read: (view, offset) => view.getBigUint64(offset, true) as Nullable<Name>,
    write: (view, offset, value) => view.setBigUint64(offset, value, true),
  };
}

/** Plain memory: any array, string or table the call reads or writes. */
export const memory: FieldKind<bigint> = {
  c: "void*",
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write: (view, offset, value) => view.setBigUint64(offset, value, true),
};

/** Bytes the table does not look into: a union, or a struct held by value. */
export function opaque(c: string, size: number): FieldKind<Uint8Array<ArrayBuffer>> {
  return {
    c,
    size,
    align: 8,
    read: (view, offset) =>
      new Uint8Array(view.buffer as ArrayBuffer, view.byteOffset + offset, size),
    write: (view, offset, value) =>
      new Uint8Array(view.buffer, view.byteOffset + offset, size).set(value),
  };
}

/** The computed layout of a struct. */
export class StructLayout<Name extends string, F extends Fields> {
  readonly name: Name;
  readonly fields: F;
  readonly offsets: Readonly<Record<keyof F & string, number>>;
  /** End of the last field: what C calls `NAME_STRUCT_SIZE`. */
  readonly end: number;
  /** `sizeof`: `end` rounded up to the struct's alignment. */
  readonly size: number;

  constructor(name: Name, fields: F) {
    this.name = name;
    this.fields = fields;
    const offsets: Record<string, number> = {};
    let at = 0;
    let align = 1;
    for (const [field, kind] of Object.entries(fields)) {
      at = Math.ceil(at / kind.align) * kind.align;
      offsets[field] = at;
      at += kind.size;
      align = Math.max(align, kind.align);
    }
    this.offsets = offsets as Record<keyof F & string, number>;
    this.end = at;
    this.size = Math.ceil(at / align) * align;
  }
}

/** The layout of a struct from its field table. */
export function defineStruct<Name extends string, F extends Fields>(
  name: Name,
  fields: F,
): StructLayout<Name, F> {
  return new StructLayout(name, fields);
}

// deno-lint-ignore no-explicit-any
export type AnyLayout = StructLayout<string, any>;

/** The instance type of a layout. */
export type StructOf<L> = L extends StructLayout<string, infer F extends Fields> ? Struct<F>
  : never;

/**
 * Zeroed bytes after the last field a table knows. A plugin refuses a struct smaller than the one it was
 * built with, so structs claim to be this much larger than ours: a newer plugin then finds its own later
 * fields present and zero. Room for 16 more words.
 */
export const SLACK_BYTES = 128;

/** One struct in memory, with everything it points to kept alive as long as it is. */
export class Struct<F extends Fields> {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly address: bigint;
  readonly #layout: StructLayout<string, F>;
  readonly #view: DataView;
  readonly #kept = new Map<string, unknown>();

  constructor(layout: StructLayout<string, F>, bytes: Uint8Array<ArrayBuffer>) {
    this.#layout = layout;
    this.bytes = bytes;
    this.address = addressOf(bytes);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get<K extends keyof F & string>(field: K): FieldValue<F[K]> {
    return this.#layout.fields[field]!.read(this.#view, this.#layout.offsets[field]);
  }

  set<K extends keyof F & string>(field: K, value: FieldValue<F[K]>): this {
    this.#layout.fields[field]!.write(this.#view, this.#layout.offsets[field], value);
    return this;
  }

  /** Points `field` at `target` and keeps `target` alive until the field is pointed elsewhere. */
  point<K extends keyof F & string>(
    field: K,
    target: ArrayBufferView | { readonly address: bigint },
  ): this {
    this.keep(field, target);
    const address = ArrayBuffer.isView(target) ? addressOf(target) : target.address;
    return this.set(field, address as FieldValue<F[K]>);
  }

  /** Keeps `target` alive with this struct, under `field`'s name. */
  keep<K extends keyof F & string>(field: K, target: unknown): this {
    this.#kept.set(field, target);
    return this;
  }

  /** The pointer in `field`, which the call must have set. */
  take<K extends keyof F & string>(field: K): Exclude<FieldValue<F[K]>, 0n> {
    const value = this.get(field);
    if (value as unknown === 0n) {
      throw new TypeError(`${this.#layout.name}.${field} is null where the call promised a value`);
    }
    return value as Exclude<FieldValue<F[K]>, 0n>;
  }
}

/**
 * A zeroed struct with slack behind it and `struct_size` (where it has one) claiming that slack too.
 */
export function newStruct<F extends Fields>(layout: StructLayout<string, F>): Struct<F> {
  const struct = new Struct(layout, allocate(layout.size + SLACK_BYTES));
  if ("struct_size" in layout.fields) {
    (struct as unknown as Struct<{ struct_size: typeof size }>)
      .set("struct_size", layout.end + SLACK_BYTES);
  }
  return struct;
}

/**
 * A C array of structs: their stride is `sizeof`, so there is no slack and `struct_size` is exact. Keeps
 * alive what its members point to.
 */
export interface StructArray<F extends Fields> {
  readonly address: bigint;
  readonly count: number;
  readonly structs: readonly Struct<F>[];
}

/** `count` zeroed structs side by side. */
export function newStructArray<F extends Fields>(
  layout: StructLayout<string, F>,
  count: number,
): StructArray<F> {
  const bytes = allocate(layout.size * count);
  const structs = Array.from({ length: count }, (_, index) => {
    const struct = new Struct(
      layout,
      bytes.subarray(index * layout.size, (index + 1) * layout.size),
    );
    if ("struct_size" in layout.fields) {
      (struct as unknown as Struct<{ struct_size: typeof size }>).set("struct_size", layout.end);
    }
    return struct;
  });
  return { address: addressOf(bytes), count, structs };
}
