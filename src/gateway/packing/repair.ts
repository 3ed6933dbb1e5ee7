/**
 * Making a placement fit. The greedy pass takes models by compute, so large models of little use come
 * last and may find every worker filled although everything would fit. Moves and swaps mend most of
 * that with little change; what remains is packed again by size alone.
 */

import { Assignment, type PackModel } from "./assignment.ts";

/** Bound on moves and swaps of one repair. */
const MAX_STEPS = 2000;

/**
 * Changes the assignment until no worker is over its budget, or leaves it with less over budget than
 * it had. Returns how many models have changed places.
 */
export function repairMemory(assignment: Assignment): number {
  if (assignment.overflowBytes() === 0) return 0;
  const before = new Map(assignment.models.map((model) => [model, assignment.placesOf(model)]));
  moveAndSwap(assignment);
  if (assignment.overflowBytes() > 0) packBySize(assignment);
  return assignment.models
    .filter((model) => assignment.placesOf(model) !== before.get(model)).length;
}

function moveAndSwap(assignment: Assignment): void {
  const byOverflow = assignment.workers
    .map((_, index) => index)
    .filter((index) => assignment.freeBytes(index) < 0)
    .sort((a, b) => assignment.freeBytes(a) - assignment.freeBytes(b));
  let steps = 0;
  for (const index of byOverflow) {
    while (assignment.freeBytes(index) < 0 && steps++ < MAX_STEPS) {
      if (!moveOne(assignment, index) && !swapOne(assignment, index)) break;
    }
  }
}

/** Moves the smallest model that ends the overflow, else the largest that can go. */
function moveOne(assignment: Assignment, from: number): boolean {
  const overflow = -assignment.freeBytes(from);
  const models = assignment.modelsOn(from)
    .filter(({ weightBytes }) => weightBytes > 0)
    .sort((a, b) => a.weightBytes - b.weightBytes);
  const enough = models.filter(({ weightBytes }) => weightBytes >= overflow);
  const tooSmall = models.filter(({ weightBytes }) => weightBytes < overflow).reverse();
  for (const model of [...enough, ...tooSmall]) {
    const places = assignment.placesOf(model);
    const share = model.utilization / places.length;
    let target = -1;
    let lowest = Infinity;
    for (let index = 0; index < assignment.workers.length; index++) {
      if (places.includes(index) || !assignment.fits(index, model.weightBytes)) continue;
      const pressure = assignment.pressure(index, share, model.weightBytes);
      if (pressure < lowest) {
        lowest = pressure;
        target = index;
      }
    }
    if (target >= 0) {
      move(assignment, model, from, target);
      return true;
    }
  }
  return false;
}

/** Swaps a model for a smaller one elsewhere, so that most of the overflow goes and no new one comes. */
function swapOne(assignment: Assignment, from: number): boolean {
  const overflow = -assignment.freeBytes(from);
  let best: { large: PackModel; small: PackModel; target: number; left: number } | undefined;
  const here = assignment.modelsOn(from);
  for (let target = 0; target < assignment.workers.length; target++) {
    if (target === from || assignment.freeBytes(target) <= 0) continue;
    const there = assignment.modelsOn(target);
    for (const large of here) {
      if (assignment.placesOf(large).includes(target)) continue;
      for (const small of there) {
        const gain = large.weightBytes - small.weightBytes;
        if (gain <= 0 || gain > assignment.freeBytes(target)) continue;
        if (assignment.placesOf(small).includes(from)) continue;
        const left = Math.max(0, overflow - gain);
        if (best === undefined || left < best.left) best = { large, small, target, left };
      }
    }
  }
  if (best === undefined) return false;
  move(assignment, best.large, from, best.target);
  move(assignment, best.small, best.target, from);
  return true;
}

function move(assignment: Assignment, model: PackModel, from: number, to: number): void {
  assignment.assign(model, assignment.placesOf(model).map((index) => index === from ? to : index));
}

/** Best fit decreasing by size; taken over only where it is over budget by less. */
function packBySize(assignment: Assignment): void {
  const fresh = new Assignment(assignment.workers, assignment.models);
  const bySize = assignment.models.toSorted((a, b) =>
    b.weightBytes - a.weightBytes || b.utilization - a.utilization || (a.name < b.name ? -1 : 1)
  );
  for (const model of bySize) {
    const count = assignment.placesOf(model).length;
    const ranked = fresh.workers.map((_, index) => index).sort((a, b) => {
      const [fitsA, fitsB] = [fresh.fits(a, model.weightBytes), fresh.fits(b, model.weightBytes)];
      if (fitsA !== fitsB) return fitsA ? -1 : 1;
      // The tightest place that it fits in; where it fits nowhere, the one with the most room.
      const difference = fresh.freeBytes(a) - fresh.freeBytes(b);
      if (Number.isNaN(difference) || difference === 0) return a - b;
      return fitsA ? difference : -difference;
    });
    fresh.assign(model, ranked.slice(0, count));
  }
  if (fresh.overflowBytes() >= assignment.overflowBytes()) return;
  for (const model of assignment.models) assignment.assign(model, fresh.placesOf(model));
}
