/**
 * POSIX shared-memory regions that clients registered.
 *
 * Regions are read and written through their file descriptor (`read`/`write` at an offset), never
 * mapped: when a client shrinks or destroys an object that is in use, a mapping would raise SIGBUS and
 * end the process, while a read comes back short and becomes an error of that one request.
 *
 * That read is the only copy on the way to the device: it goes into memory at an address from which the
 * device takes it in place (CPU) or by its own copy engine (GPU). One copy is the least there can be
 * without trusting clients. Memory that a client can shrink must not be touched by anything but a system
 * call; what is computed on must not change underneath; and neither can be had of the client's own pages,
 * since an object can be sealed against shrinking only by its owner, and only if it was made for that.
 *
 * The registry owns one descriptor per region; unregistering closes it and never unlinks the object,
 * which belongs to the client. Everything is synchronous, so no read can meet an unregister halfway.
 */

import { FailedPreconditionError, InvalidArgumentError, messageOf } from "../errors.ts";
import type { SharedMemoryReference, SharedMemoryRegions } from "../protocol/mod.ts";
import { alignedBytes } from "../tensor/mod.ts";
import { StagingPool } from "./staging_pool.ts";

/** One registration, as the status RPC reports it. */
export interface RegionStatus {
  readonly name: string;
  /** Name of the POSIX object, as the client gave it. */
  readonly key: string;
  readonly offset: number;
  readonly byteSize: number;
}

interface Region extends RegionStatus {
  readonly file: Deno.FsFile;
}

/** Where Linux keeps POSIX shared-memory objects. */
const OBJECTS = "/dev/shm/";
const MAX_REGIONS = 4096;

export class SharedMemory implements SharedMemoryRegions, Disposable {
  readonly #regions = new Map<string, Region>();
  readonly #staging = new StagingPool();

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
    const { size } = file.statSync();
    if (region.offset + region.byteSize > BigInt(size)) {
      file.close();
      throw new InvalidArgumentError(
        `Cannot register ${what}: object ${quote(key)} has ${size} bytes, fewer than offset ` +
          `${region.offset} and byte_size ${region.byteSize} reach`,
      );
    }
    this.unregister(name);
    this.#regions.set(name, {
      name,
      key,
      offset: Number(region.offset),
      byteSize: Number(region.byteSize),
      file,
    });
  }

  /** Forgets a region; an unknown name is fine. */
  unregister(name: string): void {
    const region = this.#regions.get(name);
    if (!region) return;
    this.#regions.delete(name);
    region.file.close();
  }

  unregisterAll(): void {
    for (const name of [...this.#regions.keys()]) this.unregister(name);
  }

  /** Every region, or the one named; none for an unknown name. */
  status(name = ""): RegionStatus[] {
    const all = [...this.#regions.values()];
    return name === "" ? all : all.filter((region) => region.name === name);
  }

  /** A copy of the bytes referred to, in memory that is the caller's. */
  read(reference: SharedMemoryReference, what: string): Uint8Array {
    return this.#read(reference, what, alignedBytes);
  }

  /**
   * Reads for one request, whose memory is used again for the next when `release` is called: nobody may
   * have anything of what was read any more, not even a view.
   */
  staged(): SharedMemoryRegions & { release(): void } {
    let taken: Uint8Array<ArrayBuffer>[] = [];
    return {
      read: (reference, what) => {
        const data = this.#read(reference, what, (length) => this.#staging.take(length));
        taken.push(data);
        return data;
      },
      release: () => {
        for (const data of taken) this.#staging.giveBack(data);
        taken = [];
      },
    };
  }

  #read(
    reference: SharedMemoryReference,
    what: string,
    allocate: (length: number) => Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer> {
    const region = this.#within(reference, what);
    const data = allocate(reference.byteSize);
    region.file.seekSync(region.offset + reference.offset, Deno.SeekMode.Start);
    for (let at = 0; at < data.length;) {
      const count = region.file.readSync(data.subarray(at));
      if (count === null) throw shrunk(region, what);
      at += count;
    }
    return data;
  }

  /**
   * Checks a range without touching it.
   * @throws {FailedPreconditionError | InvalidArgumentError}
   */
  check(reference: SharedMemoryReference, what: string): void {
    this.#within(reference, what);
  }

  /** Copies `data` to the start of the range referred to. */
  write(reference: SharedMemoryReference, data: Uint8Array, what: string): void {
    const region = this.#within(reference, what);
    const start = region.offset + reference.offset;
    // Writing past the end would make the client's object grow back.
    if (start + data.length > region.file.statSync().size) throw shrunk(region, what);
    region.file.seekSync(start, Deno.SeekMode.Start);
    for (let at = 0; at < data.length;) at += region.file.writeSync(data.subarray(at));
  }

  [Symbol.dispose](): void {
    this.unregisterAll();
  }

  #within(reference: SharedMemoryReference, what: string): Region {
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

function shrunk(region: Region, what: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `${what} lies beyond the end of shared-memory object ${quote(region.key)}, which has shrunk ` +
      "since it was registered",
  );
}

function quote(text: string): string {
  return JSON.stringify(text.slice(0, 200));
}
