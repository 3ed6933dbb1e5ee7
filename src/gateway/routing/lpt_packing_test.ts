import assert from "node:assert/strict";
import type { SchedulingConfig } from "../../config/mod.ts";
import { LptPackingRouter } from "./lpt_packing.ts";
import {
  fleetReport,
  modelReport,
  routerOptions,
  tableOf,
  testRouterContract,
  workOn,
} from "./router_contract.ts";
import type { Reservation } from "./router.ts";

testRouterContract("lpt_packing", (options) => new LptPackingRouter(options));
testRouterContract("lpt_packing with two replicas", (options) =>
  new LptPackingRouter({
    ...options,
    scheduling: { ...options.scheduling, defaultReplicas: 2, workBasis: "items" },
  }));
for (const mode of ["spread", "inflight"] as const) {
  testRouterContract(`lpt_packing filling by ${mode}`, (options) =>
    new LptPackingRouter({
      ...options,
      scheduling: { ...options.scheduling, defaultReplicas: "all", routingFillMode: mode },
    }));
}

/** A router that has placed model `m`, of batch 8, on the first `replicas` workers. */
function packed(replicas: number, scheduling: Partial<SchedulingConfig> = {}, maxBatchSize = 8) {
  const workers = ["a", "b", "c", "d"].slice(0, replicas);
  const router = new LptPackingRouter(routerOptions({ defaultReplicas: "all", ...scheduling }));
  router.discovered(tableOf({ m: workers }));
  router.report(fleetReport(workers, [modelReport("m", { maxBatchSize })]));
  return router;
}

function routedOf(router: LptPackingRouter): number[] {
  return router.readings().packing!.replicas.map(({ routedTotal }) => routedTotal);
}

/** Keeps `concurrency` requests of one item in flight; the oldest ends first. */
function closedLoop(router: LptPackingRouter, concurrency: number, requests: number): void {
  const inFlight: Reservation[] = [];
  for (let request = 0; request < requests; request++) {
    if (inFlight.length === concurrency) inFlight.shift()!.release();
    inFlight.push(router.reserve("m", 1)!);
  }
  for (const reservation of inFlight) reservation.release();
}

for (const mode of ["run", "spread"] as const) {
  for (const policy of ["fill_least", "fill_rr"] as const) {
    Deno.test(`${mode}, ${policy}: every replica gets traffic, within one quantum of even`, () => {
      for (const replicas of [2, 3, 4]) {
        for (let concurrency = 1; concurrency <= 24; concurrency++) {
          const router = packed(replicas, { routingFillMode: mode, routingPolicy: policy });
          closedLoop(router, concurrency, 960);
          const routed = routedOf(router);
          const spread = Math.max(...routed) - Math.min(...routed);
          assert.ok(
            spread <= 8,
            `${replicas} replicas, ${concurrency} in flight: routed ${routed}`,
          );
        }
      }
    });
  }
}

Deno.test("run gives a replica one quantum in a row, whether in small requests or large ones", () => {
  const small = packed(2, { routingFillFactor: 4 });
  const chosen = Array.from({ length: 64 }, () => small.reserve("m", 1)!.workers[0]);
  assert.deepEqual(chosen, [...Array(32).fill("a"), ...Array(32).fill("b")]);
  const large = packed(2, { routingFillFactor: 4 });
  assert.equal(large.reserve("m", 32)!.workers[0], "a");
  assert.equal(large.reserve("m", 32)!.workers[0], "b");
});

Deno.test("run closes a run of 32 after 16 + 8 + 8", () => {
  const router = packed(2, { routingFillFactor: 4 });
  const chosen = [16, 8, 8, 1].map((items) => router.reserve("m", items)!.workers[0]);
  assert.deepEqual(chosen, ["a", "a", "a", "b"]);
});

Deno.test("run rotates exactly when the batch is unknown", () => {
  const router = packed(3, {}, 0);
  const chosen = Array.from({ length: 6 }, () => {
    const reservation = router.reserve("m", 1)!;
    reservation.release();
    return reservation.workers[0];
  });
  assert.deepEqual(chosen, ["a", "b", "c", "a", "b", "c"]);
});

Deno.test("run opens where the whole worker has less to do, fill_rr where the turn is", () => {
  for (const [routingPolicy, expected] of [["fill_least", "b"], ["fill_rr", "a"]] as const) {
    const router = new LptPackingRouter(
      routerOptions({ defaultReplicas: "all", routingPolicy, workBasis: "items" }),
    );
    router.discovered(tableOf({ m: ["a", "b"], other: ["a"] }));
    router.report({
      atSeconds: 0,
      workers: [
        {
          worker: "a",
          discipline: "fifo",
          weightBudgetBytes: 0,
          models: [modelReport("m"), modelReport("other")],
        },
        { worker: "b", discipline: "fifo", weightBudgetBytes: 0, models: [modelReport("m")] },
      ],
    });
    router.reserve("other", 5);
    assert.equal(router.reserve("m", 1)!.workers[0], expected, routingPolicy);
  }
});

Deno.test("inflight keeps everything on one replica while two are in flight", () => {
  const router = packed(2, { routingFillMode: "inflight" });
  closedLoop(router, 2, 200);
  assert.deepEqual(routedOf(router).toSorted((a, b) => a - b), [0, 200]);
});

Deno.test("failover goes to the placed replicas by what they have in flight, then to the others", () => {
  const router = new LptPackingRouter(routerOptions({
    models: new Map([["m", {
      replicas: 3,
      fillMode: "spread",
      fillFactor: undefined,
    }]]),
  }));
  router.discovered(tableOf({ m: ["a", "b", "c", "d"] }));
  router.report(fleetReport(["a", "b", "c", "d"], [modelReport("m", { maxBatchSize: 4 })]));
  assert.equal(router.reserve("m", 9)!.workers[0], "a");
  assert.equal(router.reserve("m", 2)!.workers[0], "b");
  // Least in flight is c; then b with nothing full, then a with two full quanta; d was not given it.
  assert.deepEqual(router.reserve("m", 1)!.workers, ["c", "b", "a", "d"]);
});

Deno.test("a moved request counts where it ended, and no counter goes down", () => {
  const router = packed(2);
  const reservation = router.reserve("m", 3)!;
  reservation.moveTo("b");
  const outstanding = () =>
    router.readings().packing!.replicas.map(({ outstanding }) => outstanding);
  assert.deepEqual(outstanding(), [0, 3]);
  assert.deepEqual(routedOf(router), [0, 0]);
  reservation.release();
  assert.deepEqual(routedOf(router), [0, 1]);
  assert.deepEqual(outstanding(), [0, 0]);
});

Deno.test("a repack ends the open run and keeps the cursor", () => {
  const router = packed(3);
  assert.equal(router.reserve("m", 1)!.workers[0], "a");
  router.control.requestRepack();
  router.report(fleetReport(["a", "b", "c"], [modelReport("m", { maxBatchSize: 8 })]));
  assert.equal(router.reserve("m", 1)!.workers[0], "b");
});

Deno.test("a changed fill mode acts at once and keeps the batch axis", () => {
  const router = new LptPackingRouter(routerOptions({ defaultReplicas: "all" }));
  router.discovered(tableOf({ m: ["a", "b"] }));
  router.report(fleetReport(["a", "b"], [
    modelReport("m", { maxBatchSize: 8, batchInput: "x", batchAxis: 1 }),
  ]));
  const first = router.reserve("m", 1)!;
  assert.equal(router.reserve("m", 1)!.workers[0], first.workers[0], "the run is open");
  router.control.changeModel("m", { fillMode: "spread" });
  assert.notEqual(router.reserve("m", 1)!.workers[0], first.workers[0]);
  assert.deepEqual(router.batchAxisOf("m"), { input: "x", axis: 1 });
});

Deno.test("a model that is not placed yet goes to every worker that serves it", () => {
  const router = new LptPackingRouter(routerOptions());
  router.discovered(tableOf({ m: ["a", "b", "c"] }));
  const chosen = Array.from({ length: 3 }, () => router.reserve("m", 1)!.workers[0]);
  assert.deepEqual(chosen, ["a", "b", "c"]);
});

Deno.test("a model whose placed worker has gone goes to the others, and back when it returns", () => {
  const router = new LptPackingRouter(routerOptions());
  const [both, rest] = [tableOf({ m: ["a", "b"] }), tableOf({ m: ["b"] })];
  router.discovered(both);
  router.report(fleetReport(["a", "b"], [modelReport("m")]));
  assert.deepEqual(router.reserve("m", 1)!.workers, ["a", "b"]);
  router.discovered(rest);
  assert.deepEqual(router.reserve("m", 1)!.workers, ["b"]);
  router.discovered(both);
  assert.deepEqual(router.reserve("m", 1)!.workers, ["a", "b"]);
});

Deno.test("models of a worker that has gone have one substitute each, not all", () => {
  const workers = ["a", "b", "c", "d"];
  const router = new LptPackingRouter(routerOptions());
  const names = Array.from({ length: 12 }, (_, index) => `m${index}`);
  const table = (workers: string[]) => tableOf(Object.fromEntries(names.map((m) => [m, workers])));
  router.discovered(table(workers));
  router.report(fleetReport(workers, names.map((name) => modelReport(name, { weightBytes: 1 }))));
  const home = new Map(names.map((name) => [name, router.reserve(name, 1)!.first]));
  router.discovered(table(workers.slice(1)));
  for (const name of names) {
    const chosen = new Set(Array.from({ length: 4 }, () => router.reserve(name, 1)!.first));
    assert.equal(chosen.size, 1);
    if (home.get(name) !== "a") assert.ok(chosen.has(home.get(name)!));
    assert.equal(router.reserve(name, 1)!.workers.length, 3, "the others stay as a last resort");
  }
});

Deno.test("by requests, a request counts its model's cost whatever its size", () => {
  const router = new LptPackingRouter(routerOptions({ workBasis: "requests" }));
  router.discovered(tableOf({ m: ["a"], new: ["b"] }));
  router.report(
    fleetReport(["a", "b"], [modelReport("m", { computeSeconds: 4, requests: 2, rows: 8 })]),
  );
  router.reserve("m", 100);
  assert.equal(workOn(router, "a"), 2);
});

Deno.test("readings: what was placed and no longer is has weight 0", () => {
  const router = new LptPackingRouter(routerOptions({ workBasis: "items" }));
  router.discovered(tableOf({ m: ["a", "b"] }));
  router.report(fleetReport(["a", "b"], [modelReport("m", { maxBatchSize: 4 })]));
  router.reserve("m", 2);
  const { packing, inflightWork } = router.readings();
  assert.deepEqual(packing!.models, [
    { model: "m", replicas: 1, utilization: 0, fillQuantum: 4 },
  ]);
  assert.deepEqual(
    packing!.replicas.map(({ worker, weight, outstanding }) => [worker, weight, outstanding]),
    [["a", 1, 2], ["b", 0, 0]],
  );
  assert.deepEqual(inflightWork, [{ worker: "a", work: 2 }], "b hosts nothing");
  assert.equal(packing!.repacks.get("startup"), 1);
  assert.equal(packing!.repacks.get("membership"), 0);
});
