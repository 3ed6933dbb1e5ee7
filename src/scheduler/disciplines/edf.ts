import { type Discipline, isOlder } from "./types.ts";

/**
 * Earliest deadline first: the model with the most urgent request. Queues are in the order of deadlines
 * themselves, so it is that request which runs; with equal deadlines all of this is arrival order.
 */
export const edf: Discipline = (candidates) => {
  let best = candidates[0]!;
  for (const candidate of candidates) {
    if (
      candidate.earliestDeadline < best.earliestDeadline ||
      (candidate.earliestDeadline === best.earliestDeadline && isOlder(candidate, best))
    ) best = candidate;
  }
  return best;
};
