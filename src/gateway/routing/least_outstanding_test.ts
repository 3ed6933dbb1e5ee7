import assert from "node:assert/strict";
import type { SchedulingConfig } from "../../config/mod.ts";
import { LeastOutstandingRouter } from "./least_outstanding.ts";
import {
  fleetReport,
  modelReport,
  routerOptions,
  tableOf,
  testRouterContract,
  workOn,
} from "./router_contract.ts";

testRouterContract("least_outstanding", (options) => new LeastOutstandingRouter(options));

function routerOf(
  scheduling: Partial<SchedulingConfig>,
  routes: Readonly<Record<string, readonly string[]>>,
) {
  const router = new LeastOutstandingRouter(routerOptions(scheduling));
  router.discovered(tableOf(routes));
  return router;
}

Deno.test("least_outstanding picks the least loaded worker over all models", () => {
  const router = routerOf({ workBasis: "items" }, { m: ["a", "b"], n: ["a", "b"], only: ["a"] });
  router.reserve("only", 4);
  assert.equal(router.reserve("m", 3)!.workers[0], "b");
  assert.equal(router.reserve("n", 2)!.workers[0], "b", "b has 3 items in flight, a has 4");
  assert.equal(router.reserve("n", 1)!.workers[0], "a", "b has 5 items in flight, a has 4");
});

Deno.test("least_outstanding rotates ties", () => {
  const router = routerOf({ workBasis: "requests" }, { m: ["a", "b", "c"] });
  const chosen = Array.from({ length: 6 }, () => {
    const reservation = router.reserve("m", 1)!;
    reservation.release();
    return reservation.workers[0];
  });
  assert.deepEqual(chosen, ["a", "b", "c", "a", "b", "c"]);
});

Deno.test("least_outstanding keeps its rotation when the table is swapped", () => {
  const router = routerOf({ workBasis: "requests" }, { m: ["a", "b", "c"] });
  router.reserve("m", 1)!.release();
  router.discovered(tableOf({ m: ["a", "b", "c"] }));
  assert.equal(router.reserve("m", 1)!.workers[0], "b");
});

Deno.test("least_outstanding sees no order where only rounding differs", () => {
  // 0.1 + 0.2 − 0.2 leaves a residue in floating point; a residue on a would send everything to b.
  const router = routerOf({ workBasis: "compute" }, { x: ["a"], y: ["a"], m: ["a", "b"] });
  router.report(fleetReport(["a", "b"], [
    modelReport("x", { computeSeconds: 0.1, requests: 1, rows: 1 }),
    modelReport("y", { computeSeconds: 0.2, requests: 1, rows: 1 }),
  ]));
  const [x, y] = [router.reserve("x", 1)!, router.reserve("y", 1)!];
  y.release();
  assert.equal(workOn(router, "a"), 0.1);
  x.release();
  const held = [router.reserve("m", 1)!, router.reserve("m", 1)!];
  assert.deepEqual(held.map(({ workers }) => workers[0]), ["a", "b"]);
});

Deno.test("least_outstanding charges items times what an item costs", () => {
  const router = routerOf({ workBasis: "compute" }, { m: ["a"], unseen: ["b"] });
  router.report(fleetReport(["a", "b"], [
    modelReport("m", { computeSeconds: 6, requests: 3, rows: 12 }),
  ]));
  // Two workers report 6 s for 12 rows each: half a second per item.
  router.reserve("m", 4);
  assert.equal(workOn(router, "a"), 2);
  router.reserve("unseen", 2);
  assert.equal(
    workOn(router, "b"),
    1,
    "a model without a cost has the mean of those that have one",
  );
});

Deno.test("least_outstanding gives back what it charged, though the cost has changed", () => {
  const router = routerOf({ workBasis: "compute" }, { m: ["a"] });
  router.report(
    fleetReport(["a"], [modelReport("m", { computeSeconds: 1, requests: 1, rows: 1 })]),
  );
  const reservation = router.reserve("m", 3)!;
  router.report(
    fleetReport(["a"], [modelReport("m", { computeSeconds: 901, requests: 2, rows: 2 })]),
  );
  assert.equal(workOn(router, "a"), 3);
  reservation.release();
  assert.equal(workOn(router, "a"), 0);
});

Deno.test("least_outstanding counts rows where the workers say they are, and keeps it", () => {
  const router = routerOf({ workBasis: "compute" }, { m: ["a"] });
  assert.equal(router.batchAxisOf("m"), undefined);
  router.report(fleetReport(["a"], [modelReport("m", { batchInput: "x", batchAxis: 2 })]));
  router.report(fleetReport(["a"], [modelReport("m")]));
  assert.deepEqual(router.batchAxisOf("m"), { input: "x", axis: 2 });
});

Deno.test("least_outstanding by requests never asks the workers", () => {
  assert.equal(routerOf({ workBasis: "requests" }, {}).wantsReports, false);
  assert.equal(routerOf({ workBasis: "items" }, {}).wantsReports, true);
});
