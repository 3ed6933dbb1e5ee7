import assert from "node:assert/strict";
import { planBatch, type PlanOptions } from "./batch_plan.ts";

function plan(sizes: number[], rows: number[], options: Partial<PlanOptions> = {}) {
  return planBatch(
    rows.map((n) => ({ rows: n, variantKey: "" })),
    { sizes, isCoalescable: true, maxRows: undefined, ...options },
  );
}

Deno.test("planBatch() takes what fits and runs the smallest size that holds it", () => {
  const cases: [sizes: number[], rows: number[], take: number, size: number, cap?: number][] = [
    [[1, 4, 8], [2, 2, 2], 2, 4],
    [[4, 8], [1], 1, 4],
    [[1, 4, 8], [6, 1], 2, 8],
    [[1, 4, 8], [2, 2, 2, 2], 4, 8],
    [[1, 4, 8], [2, 2, 2, 2], 2, 4, 4],
    [[4, 8], [1, 1, 1], 2, 4, 2],
    [[1, 4, 8], [6, 1], 1, 8, 2],
    // The original ran the single row alone, padded to 4.
    [[1, 4, 8], [1, 4], 1, 1],
    [[1, 4, 16, 32], Array(64).fill(1), 32, 32],
    [[1, 4, 16, 32], Array(20).fill(1), 16, 16],
    [[1, 8, 32], [3], 1, 8],
  ];
  for (const [sizes, rows, take, size, cap] of cases) {
    const found = plan(sizes, rows, { maxRows: cap });
    assert.deepEqual([found.take, found.size], [take, size], `${sizes} <- ${rows} cap ${cap}`);
  }
});

Deno.test("planBatch() never mixes variants", () => {
  const queue = [{ rows: 1, variantKey: "32" }, { rows: 1, variantKey: "64" }];
  const found = planBatch(queue, { sizes: [2], isCoalescable: true, maxRows: undefined });
  assert.deepEqual(found, { take: 1, size: 2, rows: 1 });
});

Deno.test("planBatch() takes one request when the model cannot coalesce or has an unsized program", () => {
  assert.equal(plan([1, 4], [1, 1, 1], { isCoalescable: false }).take, 1);
  assert.deepEqual(plan([0], [7, 7]), { take: 1, size: 0, rows: 7 });
});

Deno.test("planBatch() refuses a request that no compiled size holds", () => {
  assert.throws(() => plan([1, 4], [9]), RangeError);
});

Deno.test("planBatch() pads a large size when measured costs say it is cheaper per row", () => {
  const costs = new Map([[1, 50e-6], [32, 80e-6]]);
  const rows = Array(20).fill(1);
  assert.equal(plan([1, 32], rows).take, 1);
  assert.deepEqual(plan([1, 32], rows, { costs }), { take: 20, size: 32, rows: 20 });
  assert.deepEqual(plan([1, 32], [1], { costs }), { take: 1, size: 1, rows: 1 });
  // A model whose cost grows with its rows keeps the exact sizes.
  assert.equal(plan([1, 32], rows, { costs: new Map([[1, 1], [32, 32]]) }).take, 1);
  // One size not measured yet: row counts decide.
  assert.equal(plan([1, 32], rows, { costs: new Map([[32, 80e-6]]) }).take, 1);
});

Deno.test("planBatch() takes more rows where that costs hardly more for each", () => {
  const rows = Array(40).fill(1);
  const costs = (large: number) => new Map([[1, 40e-6], [16, 160e-6], [32, large]]);
  assert.equal(plan([1, 16, 32], rows, { costs: costs(350e-6) }).take, 32);
  assert.equal(plan([1, 16, 32], rows, { costs: costs(360e-6) }).take, 16);
  // Fifteen rows, one of them padding, instead of fifteen dispatches.
  const linear = new Map([[1, 10e-6], [16, 160e-6]]);
  assert.deepEqual(plan([1, 16], Array(15).fill(1), { costs: linear }), {
    take: 15,
    size: 16,
    rows: 15,
  });
});
