/**
 * A POSIX shared memory object as a file: with a lock, a size that is really there, and a name that may
 * be taken away while it is open. Made for memory that outlives the process that filled it.
 */

import { Descriptor, O_CREAT, O_EXCL, O_RDWR } from "./descriptor.ts";
import { Mapping } from "./mmap.ts";

/** Where Linux keeps the objects, as files. */
export const SHARED_OBJECT_FOLDER = "/dev/shm";

/** States: open, disposed. Its lock goes with it; its mappings do not. */
export class SharedObject implements Disposable {
  /** With its leading slash. */
  readonly name: string;
  readonly #file: Descriptor;

  private constructor(name: string, file: Descriptor) {
    this.name = name;
    this.#file = file;
  }

  /** @throws {SystemCallError} `ENOENT` when there is none, `EACCES` when it may not be opened */
  static open(name: string): SharedObject {
    return new SharedObject(name, Descriptor.openShared(name, O_RDWR));
  }

  /**
   * Makes a new, empty one.
   * @param mode permission bits, applied whatever the umask
   * @throws {SystemCallError} `EEXIST` when the name is taken
   */
  static create(name: string, mode: number): SharedObject {
    // Not the flags of an open that may find one: where sticky folders are protected, the kernel refuses
    // those for the object of another user.
    const file = Descriptor.openShared(name, O_RDWR | O_CREAT | O_EXCL, mode);
    file.setMode(mode);
    return new SharedObject(name, file);
  }

  get byteLength(): number {
    return this.#file.size();
  }

  /** See `Descriptor.tryLock`. */
  tryLock(options: { readonly isShared: boolean }): boolean {
    return this.#file.tryLock(options);
  }

  /** See `Descriptor.reserve`. */
  reserve(byteLength: number): Promise<void> {
    return this.#file.reserve(byteLength);
  }

  /** Whether the name still stands for this object. */
  isLinked(): boolean {
    return this.linked() !== undefined;
  }

  /** What the file system says of this object, its owner for one; `undefined` when it has lost its name. */
  linked(): Deno.FileInfo | undefined {
    const { dev, ino } = this.#file.identity();
    try {
      const named = Deno.lstatSync(`${SHARED_OBJECT_FOLDER}${this.name}`);
      return named.dev === dev && named.ino === ino ? named : undefined;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** Maps the first bytes for all processes to see. @throws {SystemCallError} */
  map(byteLength: number, isWritable: boolean): Mapping {
    return Mapping.shared(this.#file, byteLength, isWritable, JSON.stringify(this.name));
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
