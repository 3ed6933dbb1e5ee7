/** The process's own clock. */

import { pause } from "../pause.ts";
import type { LoadClock } from "./load_run.ts";

/** A timer that is set to more goes off at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const systemClock: LoadClock = {
  now: () => performance.now(),
  async sleep(milliseconds, signal) {
    const endMs = performance.now() + milliseconds;
    for (let leftMs = milliseconds; leftMs > 0 && !signal.aborted;) {
      await pause(Math.min(leftMs, LONGEST_TIMER_MS), signal);
      leftMs = endMs - performance.now();
      // Timers go off on whole milliseconds, some a little early.
      if (leftMs < 1) break;
    }
  },
};
