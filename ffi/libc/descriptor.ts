/** File descriptors of our own: Deno's files do not show theirs. */

import { cString } from "../pointer.ts";
import { defineStruct, int64, newStruct, opaque } from "../struct_layout.ts";
import { EINTR, lastError } from "./errno.ts";
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
const STAT = defineStruct("stat", { identity: opaque("stat", 48), st_size: int64 });

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

  /** Bytes of the file or memory object. @throws {SystemCallError} */
  size(): number {
    const stat = newStruct(STAT);
    retry(() => libc().fstat(this.fd, stat.bytes), "fstat", this.#subject);
    return stat.get("st_size");
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
