/**
 * POSIX shared-memory regions that clients registered, and what requests do with them.
 *
 * A region is mapped, so that a tensor can go from the client's memory to the device, and back, without a
 * copy of ours. Two things speak against touching memory that a client can change, and each has its answer.
 *
 * It may not be there any more: the client has made the object shorter, or the file system is full and has
 * no page for a hole in it. Then whoever touches it, be it a thread of XLA's, gets SIGBUS. The mapping is
 * guarded (`ffi/libc/bus_guard.ts`): the missing part becomes zeroed memory of ours, the mapping is marked,
 * and the request fails that worked on it, because every use is checked before the answer (`verify`). From
 * then on, and where mappings cannot be guarded, the region is read and written through its descriptor
 * until it is registered anew: there a missing part is an error and no signal.
 *
 * It may change while it is computed on. Of a floating-point tensor that spoils at most the client's own
 * result; what may become an index or a length is copied before anyone looks at it (`region_use.ts`).
 *
 * Only what runs in this process touches a client's memory: a device with its own engine for that would
 * not raise a signal but fail, so results go straight into a region only where the device computes in host
 * memory (`Backend.adopt`). XLA's CUDA client copies inputs to pinned memory itself, on the processor.
 *
 * Unregistering never unlinks the object, which belongs to the client, and never waits: requests that use
 * the region hold it until they are done, cancelled ones too, since they end only when the device has let
 * go of their memory.
 */

import { FailedPreconditionError, InvalidArgumentError, messageOf } from "../errors.ts";
import type { SharedMemoryReference } from "../protocol/mod.ts";
import { MemoryPool } from "../tensor/mod.ts";
import { ClientRegion, type MappingBudget, quote, type RegionStatus } from "./client_region.ts";
import { RegionUse, type RegionUseOptions } from "./region_use.ts";

export interface SharedMemoryOptions {
  /** Regions mapped at once, those that requests still use included; 0: none. Default `MAX_MAPPED`. */
  readonly maxMapped?: number;
}

/** Where Linux keeps POSIX shared-memory objects. */
const OBJECTS = "/dev/shm/";
const MAX_REGIONS = 4096;
/** Half of what can be guarded at once, so that clients never take the weights' share. */
const MAX_MAPPED = 2048;
/** Copies of what is smaller are cheaper to make than to keep. */
const POOLED_FROM_BYTES = 65_536;

export class SharedMemory implements Disposable {
  readonly #regions = new Map<string, ClientRegion>();
  readonly #copies = new MemoryPool({ fromBytes: POOLED_FROM_BYTES });
  readonly #budget: MappingBudget;
  readonly #direct: RegionUseOptions;
  readonly #indirect: RegionUseOptions;

  constructor({ maxMapped = MAX_MAPPED }: SharedMemoryOptions = {}) {
    this.#budget = { left: maxMapped };
    const options = {
      copies: this.#copies,
      find: (reference: SharedMemoryReference, what: string) => this.#within(reference, what),
    };
    this.#direct = { ...options, isDirect: true };
    this.#indirect = { ...options, isDirect: false };
  }

  /**
   * Opens an existing object. A name already in use is replaced.
   * @throws {InvalidArgumentError} naming what is wrong with the name, key, range or object
   */
  register(region: { name: string; key: string; offset: bigint; byteSize: bigint }): void {
    const { name, key } = region;
    if (name === "") throw new InvalidArgumentError("A shared-memory region needs a name");
    const what = `shared-memory region ${quote(name)}`;
    const path = objectPath(key);
    if (path === undefined) {
      throw new InvalidArgumentError(`Cannot register ${what}: ${quote(key)} is no object name`);
    }
    if (region.byteSize === 0n) {
      throw new InvalidArgumentError(`Cannot register ${what}: byte_size is 0`);
    }
    if (!this.#regions.has(name) && this.#regions.size >= MAX_REGIONS) {
      throw new InvalidArgumentError(`Cannot register ${what}: ${MAX_REGIONS} are registered`);
    }
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(path, { read: true, write: true });
    } catch (error) {
      throw new InvalidArgumentError(
        `Cannot register ${what}: object ${quote(key)} cannot be opened: ${messageOf(error)}`,
      );
    }
    if (!isObjectItself(path, file)) {
      file.close();
      throw new InvalidArgumentError(
        `Cannot register ${what}: ${quote(key)} is no shared-memory object`,
      );
    }
    const info = file.statSync();
    if (region.offset + region.byteSize > BigInt(info.size)) {
      file.close();
      throw new InvalidArgumentError(
        `Cannot register ${what}: object ${quote(key)} has ${info.size} bytes, fewer than offset ` +
          `${region.offset} and byte_size ${region.byteSize} reach`,
      );
    }
    this.unregister(name);
    const [offset, byteSize] = [Number(region.offset), Number(region.byteSize)];
    const opened = { file, info, budget: this.#budget };
    this.#regions.set(name, new ClientRegion({ name, key, offset, byteSize }, opened));
  }

  /** Forgets a region; an unknown name is fine. */
  unregister(name: string): void {
    const region = this.#regions.get(name);
    if (!region) return;
    this.#regions.delete(name);
    region.letGo();
  }

  unregisterAll(): void {
    for (const name of [...this.#regions.keys()]) this.unregister(name);
  }

  /** Every region, or the one named; none for an unknown name. */
  status(name = ""): RegionStatus[] {
    const all = [...this.#regions.values()];
    return name === "" ? all : all.filter((region) => region.name === name);
  }

  /**
   * What one request does with regions.
   * @param isDirect whether its tensors go to a device and come from one as they are, so that they need
   *   not be copied, and memory they were copied to can be used again
   */
  use(isDirect: boolean): RegionUse {
    return new RegionUse(isDirect ? this.#direct : this.#indirect);
  }

  [Symbol.dispose](): void {
    this.unregisterAll();
  }

  #within(reference: SharedMemoryReference, what: string): ClientRegion {
    const region = this.#regions.get(reference.region);
    if (!region) {
      // Clients register again on this status, and look for this very wording without it.
      throw new FailedPreconditionError(
        `${what} refers to an unregistered shared memory region: ${quote(reference.region)}`,
      );
    }
    if (reference.offset + reference.byteSize > region.byteSize) {
      throw new InvalidArgumentError(
        `${what} takes bytes ${reference.offset} to ${reference.offset + reference.byteSize} of ` +
          `shared-memory region ${quote(region.name)}, which has ${region.byteSize}`,
      );
    }
    return region;
  }
}

/** Whether this process can open the object for reading: then both see one IPC namespace. */
export function isSameIpcNamespace(key: string): boolean {
  const path = objectPath(key);
  if (path === undefined) return false;
  try {
    using file = Deno.openSync(path, { read: true });
    return isObjectItself(path, file);
  } catch {
    return false;
  }
}

/**
 * Whether an opened file is the object of that name and not what a link there leads to: a client must not
 * make the server read and write its other files. Asked after opening, so that nothing can be swapped in
 * between.
 */
function isObjectItself(path: string, file: Deno.FsFile): boolean {
  const opened = file.statSync();
  let named: Deno.FileInfo;
  try {
    named = Deno.lstatSync(path);
  } catch {
    // Removed since it was opened.
    return false;
  }
  return named.isFile && opened.dev === named.dev && opened.ino === named.ino;
}

/** The path of a POSIX object, or `undefined` for what `shm_open` would refuse as a name. */
function objectPath(key: string): string | undefined {
  const name = key.replace(/^\//, "");
  if (name === "" || name === "." || name === ".." || /[/\0]/.test(name)) return undefined;
  return name.length > 255 ? undefined : OBJECTS + name;
}
