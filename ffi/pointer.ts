/**
 * Addresses of native memory. They are branded bigints rather than `Deno.PointerObject`s because nearly
 * all of them travel inside argument structs, where only the number counts; the brand keeps a client
 * from being passed where a buffer is expected.
 */

import { native } from "./native/mod.ts";

declare const brand: unique symbol;

/** The address of a native object of type `Name`; never zero. */
export type Address<Name extends string = string> = bigint & { readonly [brand]: Name };

/** An address that may be absent; `NULL` stands for the null pointer. */
export type Nullable<Name extends string = string> = Address<Name> | Null;

/** The null pointer's type: fits every brand. */
export type Null = 0n;

/** The null pointer. */
export const NULL: Null = 0n;

/** Gives an address read from native memory its brand. */
export function brandAddress<Name extends string>(value: bigint): Address<Name> {
  return value as Address<Name>;
}

const EMPTY = new Uint8Array(new ArrayBuffer(8));

/**
 * The address of a view's first byte. It stays valid while the view's `ArrayBuffer` is reachable and
 * not detached, which is the caller's duty. An empty view gets the address of a private dummy, so that
 * zero-element tensors never pass a null pointer.
 */
export function addressOf(view: ArrayBufferView): bigint {
  // V8 keeps typed arrays of up to 64 bytes inside its moving heap until their `buffer` is first read,
  // which moves the bytes out for good. Deno 2.8.3 does the same in `of`, but does not promise it.
  if (view.byteLength === 0 || view.buffer.byteLength === 0) return addressOf(EMPTY);
  return native().address(view as ArrayBufferView<ArrayBuffer>);
}

/** `size` zeroed bytes outside V8's moving heap: their address is stable from the start. */
export function allocate(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(Math.max(size, 1)), 0, size);
}

/** The bytes of `text` in UTF-8 with a terminating zero, at a stable address. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError("a C string cannot contain a zero byte");
  const encoded = new TextEncoder().encode(text);
  const bytes = allocate(encoded.length + 1);
  bytes.set(encoded);
  return bytes;
}

/** A read-only window on native memory at `address`. */
export function memoryAt(address: bigint): Deno.UnsafePointerView {
  const pointer = Deno.UnsafePointer.create(address);
  if (pointer === null) throw new TypeError("cannot read at the null pointer");
  return new Deno.UnsafePointerView(pointer);
}

/** A copy of `length` bytes at `address`; empty for a null pointer or zero length. */
export function copyBytes(address: bigint, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  if (address !== 0n && length > 0) memoryAt(address).copyInto(bytes);
  return bytes;
}

/** The UTF-8 text of `length` bytes at `address` (native strings here carry their length). */
export function copyString(address: bigint, length: number): string {
  return new TextDecoder().decode(copyBytes(address, length));
}

/** The `count` 64-bit words at `address`, as addresses or sizes. */
export function copyWords(address: bigint, count: number): BigUint64Array {
  const bytes = copyBytes(address, count * 8);
  return new BigUint64Array(bytes.buffer, 0, count);
}
