/** Whether a descriptor would make a writer wait. */

import { allocate } from "../pointer.ts";
import { libc } from "./symbols.ts";

/** poll.h, the same on x86-64 and AArch64. */
const POLLOUT = 0x4;

/**
 * Whether writing to a descriptor of this process comes back at once: a pipe then takes `PIPE_BUF` bytes
 * (4096), and what can never be written fails. Files are always so.
 */
export function isWritable(fd: number): boolean {
  // struct pollfd: int fd; short events, revents.
  const entry = allocate(8);
  new Int32Array(entry.buffer, entry.byteOffset, 2).set([fd, POLLOUT]);
  // A failure, which only a signal or want of memory can be, says nothing about the descriptor.
  return libc().poll(entry, 1n, 0) !== 0;
}
