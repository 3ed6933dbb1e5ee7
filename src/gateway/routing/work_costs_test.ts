import assert from "node:assert/strict";
import { fleetReport, modelReport } from "./router_contract.ts";
import { fold, WorkCosts } from "./work_costs.ts";

const served = (computeSeconds: number, requests: number, rows = requests) =>
  modelReport("m", { computeSeconds, requests, rows });

Deno.test("fold() forgets half in one halflife, and takes the first sample as it is", () => {
  assert.equal(fold(undefined, 8, { elapsed: 0, halflife: 10 }), 8);
  assert.equal(fold(8, 4, { elapsed: 10, halflife: 10 }), 6);
  assert.equal(fold(8, 4, { elapsed: 20, halflife: 10 }), 5);
  assert.equal(fold(8, 4, { elapsed: 0, halflife: 10 }), 8);
});

Deno.test("costs: one poll is enough, and sums over workers", () => {
  const costs = new WorkCosts();
  costs.observe({
    atSeconds: 0,
    workers: [
      { worker: "a", discipline: "fifo", weightBudgetBytes: 0, models: [served(6, 2, 4)] },
      { worker: "b", discipline: "fifo", weightBudgetBytes: 0, models: [served(2, 2, 12)] },
    ],
  }, 100);
  assert.equal(costs.models.get("m")!.requestCost, 2);
  assert.equal(costs.models.get("m")!.itemCost, 0.5);
  assert.equal(costs.fleetCompute, 0, "a lifetime total is no compute of this interval");
});

Deno.test("costs: the average moves by the compute the fleet used, not by time", () => {
  const costs = new WorkCosts();
  costs.observe(fleetReport(["a"], [served(10, 10)]), 100);
  costs.observe(fleetReport(["a"], [served(110, 30)]), 100);
  // 100 s for 20 requests is 5 s each, over one halflife: halfway from 1 to 5.
  assert.equal(costs.fleetCompute, 100);
  assert.equal(costs.models.get("m")!.requestCost, 3);
});

Deno.test("costs: a restart is a new baseline and teaches nothing", () => {
  const costs = new WorkCosts();
  costs.observe(fleetReport(["a"], [served(100, 100)]), 100);
  costs.observe(fleetReport(["a"], [served(50, 1)]), 100);
  assert.equal(costs.models.get("m")!.requestCost, 1);
  assert.equal(costs.fleetCompute, 0);
  costs.observe(fleetReport(["a"], [served(51, 2)]), 100);
  assert.equal(costs.fleetCompute, 1);
});

Deno.test("costs: a worker that drops out and returns brings only what it did meanwhile", () => {
  const costs = new WorkCosts();
  const both = fleetReport(["a", "b"], [served(10_000, 10_000)]);
  costs.observe(both, 100);
  costs.observe(fleetReport(["a"], [served(10_001, 10_001)]), 100);
  assert.equal(costs.fleetCompute, 1);
  costs.observe(fleetReport(["a", "b"], [served(10_003, 10_003)]), 100);
  assert.equal(costs.fleetCompute, 1 + 2 + 3, "the lifetime total of b came in");
});

Deno.test("costs: a model that a worker stops and starts to list counts once", () => {
  const costs = new WorkCosts();
  costs.observe(fleetReport(["a"], [served(100, 100)]), 100);
  costs.observe(fleetReport(["a"], []), 100);
  costs.observe(fleetReport(["a"], [served(101, 101)]), 100);
  assert.equal(costs.fleetCompute, 1);
});

Deno.test("costs: shape facts are the largest reported, the batch axis the first one named", () => {
  const costs = new WorkCosts();
  const report = (worker: string, values: Parameters<typeof modelReport>[1]) => ({
    worker,
    discipline: "fifo",
    weightBudgetBytes: 0,
    models: [modelReport("m", values)],
  });
  costs.observe({
    atSeconds: 0,
    workers: [
      report("a", { weightBytes: 5, maxBatchSize: 8 }),
      report("b", { weightBytes: 7, maxBatchSize: 4, batchInput: "x", batchAxis: 1 }),
    ],
  }, 100);
  const { weightBytes, maxBatchSize, batchAxis } = costs.models.get("m")!;
  assert.deepEqual({ weightBytes, maxBatchSize, batchAxis }, {
    weightBytes: 7,
    maxBatchSize: 8,
    batchAxis: { input: "x", axis: 1 },
  });
});

Deno.test("costs: unknown models borrow the mean of the positive ones, else 1", () => {
  const costs = new WorkCosts();
  assert.equal(costs.itemCostOf("m"), 1);
  costs.observe(
    fleetReport(["a"], [
      modelReport("m", { computeSeconds: 1, requests: 1, rows: 2 }),
      modelReport("n", { computeSeconds: 3, requests: 1, rows: 2 }),
      modelReport("free", { computeSeconds: 0, requests: 1, rows: 1 }),
    ]),
    100,
  );
  assert.equal(costs.itemCostOf("unknown"), 1);
  assert.equal(costs.itemCostOf("free"), 1);
  assert.equal(costs.requestCostOf("unknown"), 2);
});

Deno.test("costs: what has long been gone is forgotten, and comes back as new", () => {
  const costs = new WorkCosts();
  const at = (atSeconds: number) => ({ atSeconds });
  costs.observe(fleetReport(["a"], [served(100, 10), modelReport("gone")], at(0)), 100);
  costs.observe(fleetReport(["b"], [modelReport("n")], at(300)), 100);
  assert.deepEqual([...costs.models.keys()], ["m", "gone", "n"]);
  costs.observe(fleetReport(["b"], [modelReport("n")], at(700)), 100);
  assert.deepEqual([...costs.models.keys()], ["n"]);
  costs.observe(fleetReport(["a"], [served(500, 10)], at(710)), 100);
  assert.equal(costs.fleetCompute, 0);
});
