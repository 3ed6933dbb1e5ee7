/** A clock for tests: time jumps to the next sleeper whenever nothing else is left to do. */

import { setImmediate } from "node:timers";
import type { LoadClock } from "./load_run.ts";

interface Sleeper {
  readonly atMs: number;
  wake(): void;
}

export class VirtualClock implements LoadClock {
  #nowMs = 0;
  readonly #sleepers = new Set<Sleeper>();
  #running: Promise<void> | undefined;

  now(): number {
    return this.#nowMs;
  }

  sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const wake = () => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const sleeper: Sleeper = { atMs: this.#nowMs + milliseconds, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener("abort", wake);
      this.#running ??= this.#run();
    });
  }

  /** Resolves when nobody sleeps any more. */
  async settled(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    for (;;) {
      // A turn of the event loop: everything that can go on without time passing has done so.
      await new Promise<void>((resolve) => setImmediate(resolve));
      const next = [...this.#sleepers].reduce<Sleeper | undefined>(
        (first, sleeper) => first === undefined || sleeper.atMs < first.atMs ? sleeper : first,
        undefined,
      );
      if (next === undefined) {
        this.#running = undefined;
        return;
      }
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.wake();
    }
  }
}
