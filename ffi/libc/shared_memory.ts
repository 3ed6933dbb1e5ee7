/** POSIX shared memory: named memory that other processes map too. */

import { cString } from "../pointer.ts";
import { Descriptor, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, retry } from "./descriptor.ts";
import { Mapping } from "./mmap.ts";
import { libc } from "./symbols.ts";

/** A mapped shared memory object. Disposing it unmaps; the object itself stays until it is unlinked. */
export interface SharedMemory extends Disposable {
  readonly name: string;
  readonly byteLength: number;
  /** A view without copying; see `Mapping.bytes`. */
  bytes(offset?: number, length?: number): Uint8Array<ArrayBuffer>;
}

export interface CreateSharedMemoryOptions {
  readonly byteLength: number;
  /** Permission bits, applied whatever the umask. Default `0o600`. */
  readonly mode?: number;
}

/**
 * Creates and maps a new object of zeroed memory.
 * @param name like `/region`: one leading slash, none after it
 * @throws {SystemCallError} `EEXIST` when the name is taken
 */
export function createSharedMemory(
  name: string,
  { byteLength, mode = 0o600 }: CreateSharedMemoryOptions,
): SharedMemory {
  using object = Descriptor.openShared(name, O_RDWR | O_CREAT | O_EXCL, mode);
  try {
    object.setMode(mode);
    object.truncate(byteLength);
    return map(name, object, byteLength, true);
  } catch (error) {
    unlinkSharedMemory(name);
    throw error;
  }
}

/**
 * Maps all of an existing object.
 * @throws {SystemCallError} `ENOENT` when there is none, `EACCES` when it may not be opened so
 */
export function openSharedMemory(
  name: string,
  { isWritable = true }: { readonly isWritable?: boolean } = {},
): SharedMemory {
  using object = Descriptor.openShared(name, isWritable ? O_RDWR : O_RDONLY);
  return map(name, object, object.size(), isWritable);
}

/** Removes a name; the memory goes with its last mapping. @throws {SystemCallError} */
export function unlinkSharedMemory(name: string): void {
  const bytes = cString(name);
  retry(() => libc().shm_unlink(bytes), "shm_unlink", JSON.stringify(name));
}

function map(
  name: string,
  object: Descriptor,
  byteLength: number,
  isWritable: boolean,
): SharedMemory {
  const mapping = Mapping.shared(object, byteLength, isWritable, JSON.stringify(name));
  return {
    name,
    byteLength,
    bytes: (offset, length) => mapping.bytes(offset, length),
    [Symbol.dispose]: () => mapping[Symbol.dispose](),
  };
}
