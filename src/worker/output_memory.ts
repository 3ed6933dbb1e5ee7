/** Memory for the large results of one request that has a dispatch for itself. */

import type { OutputTargets } from "../scheduler/mod.ts";
import type { BufferPool, CallContext, Loan } from "../transport/mod.ts";

/** Takes memory when the dispatch begins, not while the request waits for it. */
export class OutputMemory implements OutputTargets {
  readonly isOurs = true;
  readonly #pool: BufferPool;
  /** By output. A dispatch that is tried again finds the same memory: the device has let go of it. */
  readonly #loans = new Map<string, Loan>();

  constructor(pool: BufferPool) {
    this.#pool = pool;
  }

  get(output: string, byteLength: number): Uint8Array | undefined {
    let loan = this.#loans.get(output);
    if (loan === undefined) {
      loan = this.#pool.take(byteLength);
      if (loan === undefined) return undefined;
      this.#loans.set(output, loan);
    }
    return loan.memory.subarray(0, byteLength);
  }

  /** The results are in the answer to `call`, or nowhere: the memory goes back when that has left. */
  lendTo(call: CallContext): void {
    if (call.lend === undefined) return;
    for (const loan of this.#loans.values()) call.lend(loan);
  }
}
