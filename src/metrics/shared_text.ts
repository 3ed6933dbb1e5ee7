/** A text that is costly to make, for whoever asks, however many and often. */

import { pause } from "../pause.ts";

/** From one beginning to the next, in times of what one takes: the rest is for other work. */
const TIME_PARTS = 4;
/** Longest such time: what takes longer is waiting for somebody, not computing. */
const MAX_WAIT_MS = 250;

/** The world outside, which a test brings its own of. */
export interface SharedTextClock {
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
  sleep(ms: number): Promise<void>;
}

const SYSTEM_CLOCK: SharedTextClock = {
  now: () => performance.now(),
  sleep: (ms) => pause(ms, new AbortController().signal),
};

/**
 * A function that gives what `make` gives. Those who ask while the next turn is waited for share it; nobody
 * gets a text that was begun before he asked.
 */
export function sharedText(
  make: () => Promise<string>,
  clock: SharedTextClock = SYSTEM_CLOCK,
): () => Promise<string> {
  /** When the next one may begin. */
  let nextMs = -Infinity;
  let tookMs = 0;
  let next: Promise<string> | undefined;
  const turn = async () => {
    const startMs = clock.now();
    const defer = () => {
      nextMs = Math.max(nextMs, startMs + Math.min(MAX_WAIT_MS, tookMs * TIME_PARTS));
    };
    defer();
    try {
      return await make();
    } finally {
      tookMs = clock.now() - startMs;
      defer();
    }
  };
  return () => {
    if (next !== undefined) return next;
    const waitMs = nextMs - clock.now();
    if (waitMs <= 0) return turn();
    next = clock.sleep(waitMs).then(() => {
      next = undefined;
      return turn();
    });
    return next;
  };
}
