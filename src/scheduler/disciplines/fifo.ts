import { type Discipline, isOlder } from "./types.ts";

/** Arrival order across all models. */
export const fifo: Discipline = (candidates) => {
  let best = candidates[0]!;
  for (const candidate of candidates) if (isOlder(candidate, best)) best = candidate;
  return best;
};
