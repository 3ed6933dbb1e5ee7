/** A thread of this process as the kernel knows it. */

import { readdirSync, readFileSync } from "node:fs";
import { setPriority } from "node:os";

const TASKS = "/proc/self/task";
/** Gets processor time when nobody else wants it: some 1.5 % of what an ordinary thread gets. */
const LEAST_PRIORITY = 19;

export class KernelThread {
  /** Its folder below `/proc`. */
  readonly path: string;
  readonly #id: number;
  readonly #name: string;

  private constructor(id: string, name: string) {
    this.path = `${TASKS}/${id}`;
    this.#id = Number(id);
    this.#name = name;
  }

  /** The thread of a Web Worker or of a Node one, by the number Deno names it by; `undefined`: not found. */
  static ofWorker(thread: number): KernelThread | undefined {
    const name = `worker-${thread}`;
    try {
      for (const id of readdirSync(TASKS)) {
        if (nameOf(`${TASKS}/${id}`) === name) return new KernelThread(id, name);
      }
    } catch {
      // No proc file system, or a thread that ended while we looked.
    }
    return undefined;
  }

  /** Whether it still runs, or could. */
  isAlive(): boolean {
    try {
      return nameOf(this.path) === this.#name;
    } catch {
      return false;
    }
  }

  /** Lets every other thread of the machine go before this one, for good. */
  yieldToOthers(): void {
    try {
      // What POSIX calls a process is a thread here: setpriority(2), "C library/kernel differences".
      setPriority(this.#id, LEAST_PRIORITY);
    } catch {
      // It is gone already, or its priority may not be changed here: the thread is no worse than before.
    }
  }
}

function nameOf(path: string): string {
  return readFileSync(`${path}/comm`, "utf8").trim();
}
