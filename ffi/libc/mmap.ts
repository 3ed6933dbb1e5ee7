/** Memory mappings: files read without copying them, memory shared between processes. */

import { addressOf, brandAddress } from "../pointer.ts";
import { type GuardedRange, guardRange } from "./bus_guard.ts";
import { Descriptor, O_RDONLY } from "./descriptor.ts";
import { lastError } from "./errno.ts";
import { libc } from "./symbols.ts";

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_ANONYMOUS = 32;
/** What `mmap` returns instead of an address when it fails: all bits set. */
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** What is being copied: the collector does not see that another thread reads it. */
const sources = new Set<Uint8Array>();

/** States: mapped, disposed. */
export class Mapping implements Disposable {
  readonly byteLength: number;
  /** Of the first byte; 0 for an empty mapping. Must not be used after dispose. */
  readonly address: bigint;
  readonly #buffer: ArrayBuffer;
  #guard: GuardedRange | undefined;
  #isMapped = true;

  private constructor(pointer: Deno.PointerObject | null, byteLength: number) {
    this.byteLength = byteLength;
    this.address = brandAddress(Deno.UnsafePointer.value(pointer));
    this.#buffer = pointer === null
      ? new ArrayBuffer(0)
      : Deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
  }

  /**
   * Maps all of a file for reading. Writing to its bytes crashes the process, and so does reading them
   * after another process has made the file shorter, unless it is guarded.
   * @throws {SystemCallError}
   */
  static readOnly(path: string): Mapping {
    using file = Descriptor.open(path, O_RDONLY);
    return Mapping.#map(file, file.size(), PROT_READ, MAP_PRIVATE, JSON.stringify(path));
  }

  /** Maps the first `byteLength` bytes for all processes to see. @throws {SystemCallError} */
  static shared(
    file: Descriptor,
    byteLength: number,
    isWritable: boolean,
    subject: string,
  ): Mapping {
    const protection = isWritable ? PROT_READ | PROT_WRITE : PROT_READ;
    return Mapping.#map(file, byteLength, protection, MAP_SHARED, subject);
  }

  /**
   * Zeroed memory of this process alone, outside the JavaScript heap, given back at once by dispose.
   * @throws {SystemCallError}
   */
  static anonymous(byteLength: number): Mapping {
    const protection = PROT_READ | PROT_WRITE;
    const flags = MAP_PRIVATE | MAP_ANONYMOUS;
    return Mapping.#map(undefined, byteLength, protection, flags, "anonymous memory");
  }

  static #map(
    file: Descriptor | undefined,
    byteLength: number,
    protection: number,
    flags: number,
    subject: string,
  ): Mapping {
    // The kernel refuses empty mappings, and an empty file needs none.
    if (byteLength === 0) return new Mapping(null, 0);
    const pointer = libc().mmap(null, BigInt(byteLength), protection, flags, file?.fd ?? -1, 0n);
    if (Deno.UnsafePointer.value(pointer) === MAP_FAILED) throw lastError("mmap", subject);
    return new Mapping(pointer, byteLength);
  }

  /**
   * From here on reading what others have cut off gives zeros instead of ending the process, for whoever
   * reads, and `isTorn` tells. Returns whether that is so: not every machine can (`guardRange` says which).
   * @throws {SystemCallError}
   * @throws {TypeError} after dispose
   */
  guard(): boolean {
    if (!this.#isMapped) throw new TypeError("this mapping has been disposed");
    this.#guard ??= guardRange(this.address, this.byteLength);
    return this.#guard !== undefined;
  }

  /** Whether memory was missing when it was touched: what was read is not what was meant. */
  get isTorn(): boolean {
    return this.#guard?.isTorn ?? false;
  }

  /**
   * A view of the mapped memory, without copying. It has length 0 after dispose.
   * @throws {RangeError} when the range is not inside the mapping
   * @throws {TypeError} after dispose
   */
  bytes(offset = 0, length = this.byteLength - offset): Uint8Array<ArrayBuffer> {
    if (!this.#isMapped) throw new TypeError("this mapping has been disposed");
    if (!(offset >= 0 && length >= 0 && offset + length <= this.byteLength)) {
      throw new RangeError(
        `bytes ${offset} to ${offset + length} are not within a mapping of ${this.byteLength}`,
      );
    }
    return new Uint8Array(this.#buffer, offset, length);
  }

  /**
   * Copies bytes to `offset`, on another thread. Neither side may go away until the promise settles.
   * @throws {RangeError} when the range is not inside the mapping
   * @throws {TypeError} after dispose
   */
  async copyFrom(source: Uint8Array, offset: number): Promise<void> {
    const target = this.bytes(offset, source.length);
    if (target.length === 0) return;
    const [to, from] = [this.address + BigInt(offset), addressOf(source)].map((address) =>
      Deno.UnsafePointer.create(address)
    );
    sources.add(source);
    try {
      await libc().memcpy(to!, from!, BigInt(source.length));
    } finally {
      sources.delete(source);
    }
  }

  /** Unmaps the memory; a second call does nothing. Native code must not use it any more. */
  [Symbol.dispose](): void {
    if (!this.#isMapped) return;
    this.#isMapped = false;
    if (this.byteLength === 0) return;
    // Detached first: views that outlive the mapping become empty instead of pointing at nothing.
    structuredClone(this.#buffer, { transfer: [this.#buffer] });
    this.#guard?.[Symbol.dispose]();
    libc().munmap(Deno.UnsafePointer.create(this.address), BigInt(this.byteLength));
  }
}
