import { type Candidate, type Discipline, isOlder } from "./types.ts";

/**
 * Weighted fair share of device time. Each model's deficit is its share of the weights minus its share
 * of recent compute, clamped; it is divided by the cost of the dispatch, so cheap work goes first among
 * equals:
 *
 *     deficit  = clamp(weight/Σweight − recent/Σrecent, ±recencyPenaltyCap)
 *     priority = deficit / (plannedCost · (1 − coalescingDiscount))
 */
export const fair: Discipline = (candidates, totals, parameters) => {
  const priority = (candidate: Candidate) => {
    const share = totals.weight > 0 ? candidate.weight / totals.weight : 0;
    const used = totals.recentCompute > 0 ? candidate.recentCompute / totals.recentCompute : 0;
    const cap = parameters.recencyPenaltyCap;
    const deficit = Math.min(cap, Math.max(-cap, share - used));
    return deficit / (candidate.plannedCost * (1 - parameters.coalescingDiscount));
  };
  let best = candidates[0]!;
  let bestPriority = priority(best);
  for (const candidate of candidates) {
    const own = priority(candidate);
    if (own > bestPriority || (own === bestPriority && isOlder(candidate, best))) {
      best = candidate;
      bestPriority = own;
    }
  }
  return best;
};
