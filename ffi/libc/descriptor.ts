/** File descriptors of our own: Deno's files do not show theirs. */

import { cString } from "../pointer.ts";
import { SystemCallError } from "../errors.ts";
import { defineStruct, int64, newStruct, opaque } from "../struct_layout.ts";
import { EAGAIN, EINTR, errnoName, lastError } from "./errno.ts";
import { libc } from "./symbols.ts";

export const O_RDONLY = 0;
export const O_RDWR = 2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_CLOEXEC = 0o2000000;

/**
 * `struct stat` up to the size, which x86-64 and AArch64 glibc both have at byte 48; the slack behind a
 * struct is more than the rest.
 */
const STAT = defineStruct("stat", {
  st_dev: int64,
  st_ino: int64,
  between: opaque("stat", 32),
  st_size: int64,
});

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/** An open file descriptor. */
export class Descriptor implements Disposable {
  readonly fd: number;
  readonly #subject: string;
  #isOpen = true;

  /** @param subject what errors call it */
  constructor(fd: number, subject: string) {
    this.fd = fd;
    this.#subject = subject;
  }

  /** @throws {SystemCallError} */
  static open(path: string, flags: number, mode = 0): Descriptor {
    const subject = JSON.stringify(path);
    const name = cString(path);
    const fd = retry(() => libc().open(name, flags | O_CLOEXEC, mode), "open", subject);
    return new Descriptor(fd, subject);
  }

  /** Opens a POSIX shared memory object. @throws {SystemCallError} */
  static openShared(name: string, flags: number, mode = 0): Descriptor {
    const subject = JSON.stringify(name);
    const bytes = cString(name);
    const fd = retry(() => libc().shm_open(bytes, flags | O_CLOEXEC, mode), "shm_open", subject);
    return new Descriptor(fd, subject);
  }

  /** Bytes of the file or memory object. @throws {SystemCallError} */
  size(): number {
    const stat = newStruct(STAT);
    retry(() => libc().fstat(this.fd, stat.bytes), "fstat", this.#subject);
    return stat.get("st_size");
  }

  /** Device and inode: the same for everything that has this very file open. */
  identity(): { readonly dev: number; readonly ino: number } {
    const stat = newStruct(STAT);
    retry(() => libc().fstat(this.fd, stat.bytes), "fstat", this.#subject);
    return { dev: stat.get("st_dev"), ino: stat.get("st_ino") };
  }

  /**
   * Takes the advisory lock, or turns the one held into this kind, which is not one step: another
   * process may have it in between. `false`: another holder excludes it, and nothing is held any more.
   * @throws {SystemCallError}
   */
  tryLock({ isShared }: { readonly isShared: boolean }): boolean {
    const operation = (isShared ? LOCK_SH : LOCK_EX) | LOCK_NB;
    try {
      retry(() => libc().flock(this.fd, operation), "flock", this.#subject);
      return true;
    } catch (error) {
      if (error instanceof SystemCallError && error.errno === EAGAIN) return false;
      throw error;
    }
  }

  /**
   * Sets the size and claims the space for it, so that writing to a mapping cannot run out of it, which
   * would end the process.
   * @throws {SystemCallError} `ENOSPC` when there is too little
   */
  async reserve(size: number): Promise<void> {
    for (;;) {
      const errno = await libc().posix_fallocate(this.fd, 0n, BigInt(size));
      if (errno === 0) return;
      if (errno === EINTR) continue;
      throw new SystemCallError("posix_fallocate", errno, errnoName(errno), this.#subject);
    }
  }

  /** Sets the size. @throws {SystemCallError} */
  truncate(size: number): void {
    retry(() => libc().ftruncate(this.fd, BigInt(size)), "ftruncate", this.#subject);
  }

  /** Sets the permission bits, whatever the umask. @throws {SystemCallError} */
  setMode(mode: number): void {
    retry(() => libc().fchmod(this.fd, mode), "fchmod", this.#subject);
  }

  /** Closes it; a second call does nothing. */
  [Symbol.dispose](): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    libc().close(this.fd);
  }
}

/**
 * Calls until a signal no longer interrupts.
 * @throws {SystemCallError} when `call` returns a negative number for another reason
 */
export function retry(call: () => number, name: string, subject: string): number {
  for (;;) {
    const result = call();
    if (result >= 0) return result;
    const error = lastError(name, subject);
    if (error.errno !== EINTR) throw error;
  }
}
