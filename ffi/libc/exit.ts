/** Leaving the process without its exit handlers. */

import { libc } from "./symbols.ts";

/**
 * Ends the process at once: no exit handler and no destructor runs. For leaving while native work is in
 * progress, whose libraries crash when they are torn down under it.
 */
export function exitNow(code: number): never {
  libc()._exit(code);
  throw new Error("_exit returned");
}
