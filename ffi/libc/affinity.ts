/** Which processors threads may run on. */

import { SystemCallError } from "../errors.ts";
import { allocate } from "../pointer.ts";
import { retry } from "./descriptor.ts";
import { ESRCH } from "./errno.ts";
import { libc } from "./symbols.ts";

/** Bytes of the largest CPU mask the kernel may want: 8192 processors, its build-time maximum. */
const MASK_BYTES = 1024;

/** The processors the calling thread may use, ascending. @throws {SystemCallError} */
export function getAffinity(): number[] {
  const mask = allocate(MASK_BYTES);
  retry(
    () => libc().sched_getaffinity(0, BigInt(MASK_BYTES), mask),
    "sched_getaffinity",
    "this thread",
  );
  const processors: number[] = [];
  for (let processor = 0; processor < MASK_BYTES * 8; processor++) {
    if (mask[processor >> 3]! & (1 << (processor & 7))) processors.push(processor);
  }
  return processors;
}

/**
 * Restricts every thread of this process, and with that all threads they start later, to `processors`.
 * Native libraries size their thread pools by it when they create them, so it comes first.
 * @throws {SystemCallError} `EINVAL` when none of them exists or is allowed here
 * @throws {RangeError} when one of them is not a processor number
 */
export function setProcessAffinity(processors: readonly number[]): void {
  const mask = allocate(MASK_BYTES);
  for (const processor of processors) {
    if (!Number.isInteger(processor) || processor < 0 || processor >= MASK_BYTES * 8) {
      throw new RangeError(`${processor} is not a processor number`);
    }
    mask[processor >> 3]! |= 1 << (processor & 7);
  }
  // This thread first: it is the one whose new threads matter, and bad masks fail here.
  setThreadAffinity(0, mask);
  for (const { name } of Deno.readDirSync("/proc/self/task")) {
    try {
      setThreadAffinity(Number(name), mask);
    } catch (error) {
      // It has ended since the folder was listed.
      if (!(error instanceof SystemCallError && error.errno === ESRCH)) throw error;
    }
  }
}

/** @param thread its kernel id; 0 is the calling one */
function setThreadAffinity(thread: number, mask: Uint8Array<ArrayBuffer>): void {
  retry(
    () => libc().sched_setaffinity(thread, BigInt(MASK_BYTES), mask),
    "sched_setaffinity",
    thread === 0 ? "this thread" : `thread ${thread}`,
  );
}
