/**
 * Threads of hooks that were told to end and have not yet. Most are gone within milliseconds. One that is
 * in a built-in function of V8's which looks at nothing until it returns (a search through a string with
 * itself, `reverse` of what claims 2^53 elements) cannot be stopped by anybody. So such threads are given
 * the processor time that nobody else wants, and counted, so that a model has a bounded number of them.
 */

/** As much of a thread as counts here. */
export interface Mortal {
  isAlive(): boolean;
}

export class EndedThreads {
  readonly #threads = new Map<string, Set<Mortal>>();

  /** Remembers a thread of a model's hooks until it is gone. */
  add(model: string, thread: Mortal): void {
    const threads = this.#threads.get(model);
    if (threads) threads.add(thread);
    else this.#threads.set(model, new Set([thread]));
  }

  /** How many of a model's are not gone yet. */
  count(model: string): number {
    const threads = this.#threads.get(model);
    if (!threads) return 0;
    for (const thread of threads) if (!thread.isAlive()) threads.delete(thread);
    if (threads.size === 0) this.#threads.delete(model);
    return threads.size;
  }
}
