/** What native code has freed, and the C library keeps for the next time. */

import { libc } from "./symbols.ts";

/**
 * Gives free memory of the C library's allocator back to the system: after XLA has compiled that may be
 * hundreds of MiB, which count as in use.
 */
export async function releaseFreeMemory(): Promise<void> {
  await libc().malloc_trim(0n);
}
