/** Why the last C library call of this thread failed. */

import { SystemCallError } from "../errors.ts";
import { libc } from "./symbols.ts";

/** Names of the Linux error numbers our calls can meet (asm-generic/errno.h: the same on x86-64 and ARM). */
const NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  3: "ESRCH",
  4: "EINTR",
  5: "EIO",
  6: "ENXIO",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  13: "EACCES",
  14: "EFAULT",
  16: "EBUSY",
  17: "EEXIST",
  19: "ENODEV",
  20: "ENOTDIR",
  21: "EISDIR",
  22: "EINVAL",
  23: "ENFILE",
  24: "EMFILE",
  26: "ETXTBSY",
  27: "EFBIG",
  28: "ENOSPC",
  30: "EROFS",
  36: "ENAMETOOLONG",
  37: "ENOLCK",
  38: "ENOSYS",
  40: "ELOOP",
  75: "EOVERFLOW",
  122: "EDQUOT",
};

/** Error numbers that callers tell apart. */
export const ESRCH = 3;
export const EINTR = 4;
export const EAGAIN = 11;
export const EACCES = 13;
export const EEXIST = 17;

/** `ENOENT` for 2; the number as text where the name is not known. */
export function errnoName(errno: number): string {
  return NAMES[errno] ?? String(errno);
}

/**
 * `errno` of this thread. Call it directly after the blocking call that failed: both then run on the
 * thread of the event loop with nothing but their own trampolines between them. It means nothing after
 * a nonblocking call, which ran on another thread.
 */
export function errno(): number {
  const location = libc().__errno_location();
  return new Deno.UnsafePointerView(location!).getInt32();
}

/** The error of the call that has just failed on this thread. */
export function lastError(call: string, subject: string): SystemCallError {
  const number = errno();
  return new SystemCallError(call, number, errnoName(number), subject);
}
