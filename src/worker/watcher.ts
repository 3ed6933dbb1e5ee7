/**
 * Follows the model folders: looks at them from time to time, compares with the look before, and hands
 * over what is to be done. It waits for nothing that it starts: a compilation may take many polls.
 */

import type { Logger } from "../log.ts";
import type { ModelLifecycle } from "./reload.ts";
import { planReload } from "./reload_plan.ts";
import type { RepositorySnapshot } from "./reload_snapshot.ts";

export interface WatcherOptions {
  /** Takes a snapshot of the model folders. */
  readonly look: () => Promise<RepositorySnapshot>;
  /** What the folders held before the first model was loaded. */
  readonly baseline: RepositorySnapshot;
  readonly lifecycle: Pick<ModelLifecycle, "known" | "busy" | "apply">;
  readonly pollSeconds: number;
  readonly logger: Logger;
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number;
}

/** States: idle → watching (`start`) → stopped (disposed; there is nothing to wait for). */
export class Watcher implements Disposable {
  readonly #options: WatcherOptions;
  readonly #now: () => number;
  #previous: RepositorySnapshot;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;

  constructor(options: WatcherOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#previous = options.baseline;
  }

  start(): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(async () => {
      await this.poll();
      this.start();
    }, Math.min(this.#options.pollSeconds * 1000, 2 ** 31 - 1));
  }

  /** One look and what follows from it. Never rejects: one that fails is logged, and the next tries again. */
  async poll(): Promise<void> {
    const { look, lifecycle, logger } = this.#options;
    try {
      const current = await look();
      if (this.#isStopped) return;
      const previous = this.#previous;
      this.#previous = current;
      this.#logFolders(previous, current);
      const { known, busy } = lifecycle;
      void lifecycle.apply(planReload({ known, busy, previous, current, nowMs: this.#now() }));
    } catch (error) {
      logger.error("the model folders could not be looked through", { error });
    }
  }

  [Symbol.dispose](): void {
    this.#isStopped = true;
    clearTimeout(this.#timer);
  }

  #logFolders(previous: RepositorySnapshot, current: RepositorySnapshot): void {
    for (const [folder, reason] of current.unreadable) {
      if (previous.unreadable.has(folder)) continue;
      const fields = { folder, reason, instead: "its models go on serving" };
      this.#options.logger.error("A model folder cannot be read", fields);
    }
    for (const folder of previous.unreadable.keys()) {
      if (current.unreadable.has(folder)) continue;
      this.#options.logger.info("a model folder can be read again", { folder });
    }
  }
}
