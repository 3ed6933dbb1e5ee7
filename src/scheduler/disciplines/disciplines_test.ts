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
    plannedRows: 1,
    isCoalesced: false,
    ...values,
  };
}

const parameters = { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 };

Deno.test("fifo picks the oldest front request, then the smaller name", () => {
  const queue = [candidate("b", { frontOrder: 4 }), candidate("a", { frontOrder: 7 })];
  assert.equal(fifo(queue, parameters).name, "b");
  assert.equal(fifo([candidate("b"), candidate("a")], parameters).name, "a");
});

Deno.test("edf picks the earliest deadline and falls back to arrival order", () => {
  const urgent = candidate("z", { frontOrder: 9, earliestDeadline: 1 });
  const late = candidate("a", { frontOrder: 1, earliestDeadline: 2 });
  const never = candidate("b", { frontOrder: 0 });
  assert.equal(edf([never, late, urgent], parameters), urgent);
  const sameA = candidate("a", { frontOrder: 5, earliestDeadline: 2 });
  assert.equal(edf([sameA, late], parameters), late);
});

Deno.test("fair picks by deficit over cost, as the specification's check values say", () => {
  // Recent compute 0.7/0.2/0.1, equal weights, costs 10/30/100: priorities −0.0278, 0.00493, 0.00259.
  const three = [
    candidate("a", { recentCompute: 0.7, plannedCost: 10, isCoalesced: true }),
    candidate("b", { recentCompute: 0.2, plannedCost: 30, isCoalesced: true }),
    candidate("c", { recentCompute: 0.1, plannedCost: 100, isCoalesced: true }),
  ];
  assert.equal(fair(three, parameters).name, "b");
  assert.equal(fair([three[0]!, three[2]!], parameters).name, "c");
});

Deno.test("fair lets the heavier weight lead when both have used the same", () => {
  const light = candidate("light", { recentCompute: 0.5, frontOrder: 1 });
  const heavy = candidate("heavy", { recentCompute: 0.5, weight: 2, frontOrder: 2 });
  assert.equal(fair([light, heavy], parameters).name, "heavy");
});

Deno.test("fair lets no deficit count for more than the cap", () => {
  // Shares 10/14, 3/14 and 1/14; nobody but `used` has run. 0.25/3 is less than 0.214, 0.714/3 is more.
  const large = candidate("large", { weight: 10, plannedCost: 3 });
  const small = candidate("small", { weight: 3, plannedCost: 1 });
  const used = candidate("used", { recentCompute: 1 });
  const capped = (recencyPenaltyCap: number) =>
    fair([large, small, used], { ...parameters, recencyPenaltyCap }).name;
  assert.deepEqual([capped(0.25), capped(1)], ["small", "large"]);
});

Deno.test("fair counts what a row costs, so that a full batch is not put off for being long", () => {
  const idle = candidate("idle", { recentCompute: 1, frontOrder: 9 });
  const single = candidate("single", { plannedCost: 0.005, frontOrder: 1 });
  const batch = candidate("batch", {
    plannedCost: 0.01,
    plannedRows: 8,
    isCoalesced: true,
    frontOrder: 2,
  });
  assert.equal(fair([idle, single, batch], parameters).name, "batch");
});

Deno.test("fair takes the discount off the cost of a dispatch that requests share, and of no other", () => {
  const idle = candidate("idle", { recentCompute: 1, frontOrder: 9 });
  const lone = candidate("lone", { plannedCost: 0.019, plannedRows: 2, frontOrder: 1 });
  const shared = (plannedCost: number) =>
    candidate("shared", { plannedCost, plannedRows: 2, isCoalesced: true, frontOrder: 2 });
  // 0.019 against 0.9 · 0.021 and 0.9 · 0.0212.
  assert.equal(fair([idle, lone, shared(0.021)], parameters).name, "shared");
  assert.equal(fair([idle, lone, shared(0.0212)], parameters).name, "lone");
});
