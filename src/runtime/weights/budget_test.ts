import assert from "node:assert/strict";
import { budgetTable, solveBudget } from "./budget.ts";

// From the behaviour's description: arena, fraction, scratch, pinned → pool, on demand, over-committed.
const CASES: [number, number, number, number, number, number, boolean][] = [
  [1000, 1.0, 0, 0, 900, 900, false],
  [1000, 0.5, 0, 0, 500, 500, false],
  [1000, 1.0, 300, 200, 600, 400, false],
  [1000, 1.0, 300, 700, 600, 0, true],
  [1000, 1.0, 950, 0, 0, 0, false],
  [0, 1.0, 0, 0, 0, 0, false],
];

Deno.test("solveBudget() does the arithmetic of the table", () => {
  for (const [arenaBytes, fraction, scratchBytes, pinnedBytes, pool, onDemand, over] of CASES) {
    const budget = solveBudget({ arenaBytes, fraction, wiggle: 0.1, scratchBytes, pinnedBytes });
    assert.deepEqual(
      [budget.poolBytes, budget.onDemandBytes, budget.isOverCommitted],
      [pool, onDemand, over],
    );
  }
});

Deno.test("budgetTable() shows terms that add up", () => {
  const budget = solveBudget({
    arenaBytes: 1000,
    fraction: 1,
    wiggle: 0.1,
    scratchBytes: 300,
    pinnedBytes: 200,
  });
  const bytes = Object.fromEntries(budgetTable(budget, "test").map((row) => [row.term, row.bytes]));
  assert.equal(bytes["arena"]! - bytes["kept free"]! - bytes["scratch"]!, bytes["weight pool"]);
  assert.equal(bytes["weight pool"]! - bytes["pinned"]!, bytes["on demand"]);
});
