import { type Candidate, type Discipline, isOlder } from "./types.ts";

/**
 * Weighted fair share of device time among the models that have work now. Each one's deficit is its part of
 * their weights minus its part of their recent compute, clamped; it is divided by what a row costs in the
 * dispatch, so cheap work goes first among equals:
 *
 *     deficit  = clamp(weight/Σweight − recent/Σrecent, ±recencyPenaltyCap)
 *     cost     = plannedCost / plannedRows, times 1 − coalescingDiscount where requests share the dispatch
 *     priority = deficit / cost
 *
 * The original summed over idle models too. Their parts went to nobody: with all deficits negative, the
 * division favoured the model that costs most, and of two busy models among ten the cheap one got an eighth of
 * the device. Here deficits add up to zero, so somebody is always owed time.
 */
export const fair: Discipline = (candidates, { recencyPenaltyCap, coalescingDiscount }) => {
  let weight = 0;
  let recentCompute = 0;
  for (const candidate of candidates) {
    weight += candidate.weight;
    recentCompute += candidate.recentCompute;
  }
  const priority = (candidate: Candidate) => {
    const share = weight > 0 ? candidate.weight / weight : 0;
    const used = recentCompute > 0 ? candidate.recentCompute / recentCompute : 0;
    const deficit = Math.min(recencyPenaltyCap, Math.max(-recencyPenaltyCap, share - used));
    const discount = candidate.isCoalesced ? 1 - coalescingDiscount : 1;
    return deficit / (discount * candidate.plannedCost / candidate.plannedRows);
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
