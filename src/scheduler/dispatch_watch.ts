/**
 * Notices dispatches that do not end: a device that hangs, a program that loops. What the device has begun
 * cannot be called back, but whoever waits for it is answered, and the worker can say that it is of no use.
 */

import { DeadlineExceededError } from "../errors.ts";
import type { Work } from "./queue.ts";

/** Between looks, at most. */
const LOOK_MS = 1000;

/** A dispatch on the device. */
export interface WatchedDispatch {
  readonly model: string;
  /** While it waits for weights, no time counts. */
  isWaiting: boolean;
}

export interface DispatchWatchOptions {
  /** How long a dispatch may take on the device, copies included; waiting for weights does not count. */
  readonly timeoutMs: number;
  /** Milliseconds on a monotonic clock. */
  readonly now: () => number;
  /** Told once of each dispatch that takes longer, after its requests were answered. */
  readonly onOverdue: (model: string) => void;
  /** Told when such a dispatch is over after all, and what it took. */
  readonly onReturned: (model: string, seconds: number) => void;
}

interface Entry extends WatchedDispatch {
  readonly requests: readonly Work[];
  readonly sinceMs: number;
  /** Time on the device while this process ran too: nothing is late because we were stopped. */
  ageMs: number;
  isOverdue: boolean;
}

/** Costs a dispatch no more than an entry in a set; the clock is looked at now and then. */
export class DispatchWatch {
  readonly #options: DispatchWatchOptions;
  readonly #running = new Set<Entry>();
  #lookedMs: number;

  constructor(options: DispatchWatchOptions) {
    this.#options = options;
    this.#lookedMs = options.now();
  }

  /** A dispatch that takes too long; `undefined`: none does. */
  get overdue(): WatchedDispatch | undefined {
    return this.#running.values().find(({ isOverdue }) => isOverdue);
  }

  /** Looks regularly until what this gives is disposed. */
  start(): Disposable {
    const timer = setInterval(() => this.look(), this.#periodMs);
    return { [Symbol.dispose]: () => clearInterval(timer) };
  }

  /** A dispatch begins. Ends with `end`. */
  begin(model: string, requests: readonly Work[]): WatchedDispatch {
    const sinceMs = this.#options.now();
    const entry: Entry = {
      model,
      requests,
      sinceMs,
      ageMs: 0,
      isWaiting: false,
      isOverdue: false,
    };
    this.#running.add(entry);
    return entry;
  }

  /** It is over, one way or the other. */
  end(dispatch: WatchedDispatch): void {
    const entry = dispatch as Entry;
    this.#running.delete(entry);
    if (!entry.isOverdue) return;
    this.#options.onReturned(entry.model, (this.#options.now() - entry.sinceMs) / 1000);
  }

  /** Answers the requests of dispatches that take too long. Public for tests: `start` calls it. */
  look(): void {
    const { timeoutMs, now, onOverdue } = this.#options;
    const nowMs = now();
    // More than this has not passed while we looked on.
    const passedMs = Math.min(nowMs - this.#lookedMs, 2 * this.#periodMs);
    this.#lookedMs = nowMs;
    for (const entry of this.#running) {
      if (entry.isWaiting || entry.isOverdue) continue;
      entry.ageMs += Math.min(passedMs, nowMs - entry.sinceMs);
      if (entry.ageMs < timeoutMs) continue;
      entry.isOverdue = true;
      const reason = new DeadlineExceededError(
        `Running model ${JSON.stringify(entry.model)} takes longer than ${timeoutMs / 1000} s ` +
          "(scheduler.dispatch_timeout_seconds)",
      );
      for (const { giveUp } of entry.requests) giveUp?.(reason);
      onOverdue(entry.model);
    }
  }

  get #periodMs(): number {
    return Math.min(LOOK_MS, this.#options.timeoutMs / 4);
  }
}
