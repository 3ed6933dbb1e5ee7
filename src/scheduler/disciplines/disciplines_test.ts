import assert from "node:assert/strict";
import { edf } from "./edf.ts";
import { fair } from "./fair.ts";
import { fifo } from "./fifo.ts";
import type { Candidate } from "./types.ts";

function candidate(name: string, values: Partial<Candidate> = {}): Candidate {
  return {
    name,
    frontOrder: 0,
    earliestDeadline: Infinity,
    weight: 1,
    recentCompute: 0,
    plannedCost: 0.01,
    ...values,
  };
}

const parameters = { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 };
const totals = { weight: 3, recentCompute: 1 };

Deno.test("fifo picks the oldest front request, then the smaller name", () => {
  const queue = [candidate("b", { frontOrder: 4 }), candidate("a", { frontOrder: 7 })];
  assert.equal(fifo(queue, totals, parameters).name, "b");
  assert.equal(fifo([candidate("b"), candidate("a")], totals, parameters).name, "a");
});

Deno.test("edf picks the earliest deadline and falls back to arrival order", () => {
  const urgent = candidate("z", { frontOrder: 9, earliestDeadline: 1 });
  const late = candidate("a", { frontOrder: 1, earliestDeadline: 2 });
  const never = candidate("b", { frontOrder: 0 });
  assert.equal(edf([never, late, urgent], totals, parameters), urgent);
  const sameA = candidate("a", { frontOrder: 5, earliestDeadline: 2 });
  assert.equal(edf([sameA, late], totals, parameters), late);
});

Deno.test("fair picks by deficit over cost, as the specification's check values say", () => {
  // Recent compute 0.7/0.2/0.1, equal weights, costs 10/30/100: priorities −0.0278, 0.00493, 0.00259.
  const three = [
    candidate("a", { recentCompute: 0.7, plannedCost: 10 }),
    candidate("b", { recentCompute: 0.2, plannedCost: 30 }),
    candidate("c", { recentCompute: 0.1, plannedCost: 100 }),
  ];
  assert.equal(fair(three, totals, parameters).name, "b");
  assert.equal(fair([three[0]!, three[2]!], totals, parameters).name, "c");
});

Deno.test("fair lets the heavier weight lead when both have used the same", () => {
  const light = candidate("light", { recentCompute: 0.5, frontOrder: 1 });
  const heavy = candidate("heavy", { recentCompute: 0.5, weight: 2, frontOrder: 2 });
  assert.equal(fair([light, heavy], totals, parameters).name, "heavy");
});
