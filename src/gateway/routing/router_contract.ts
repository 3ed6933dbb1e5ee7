/** What every scheduling mode must do; each router's test runs it. */

import assert from "node:assert/strict";
import type { SchedulingConfig } from "../../config/mod.ts";
import { silentLogger } from "../../log.ts";
import type { FleetReport, ModelReport, RoutingTable, WorkerId } from "../fleet.ts";
import type { ManagedRouter, RouterFactory, RouterOptions } from "./managed_router.ts";
import type { Reservation } from "./router.ts";

/** Settings as they are when nothing is configured. */
export function schedulingConfig(values: Partial<SchedulingConfig> = {}): SchedulingConfig {
  return {
    mode: "round_robin",
    workBasis: "compute",
    rebalanceComputeSeconds: 300,
    firstRebalanceComputeSeconds: 60,
    emaHalflifeComputeSeconds: 0,
    hysteresis: 0,
    maxWorkerShare: 0.8,
    defaultReplicas: 1,
    routingFillFactor: 1,
    routingPolicy: "fill_least",
    routingFillMode: "run",
    forbidMemoryOversubscription: true,
    compactionMode: "eager",
    compactionInterval: 1,
    models: new Map(),
    ...values,
  };
}

/** Options with clocks that stand still. */
export function routerOptions(
  scheduling: Partial<SchedulingConfig> = {},
  options: Partial<RouterOptions> = {},
): RouterOptions {
  return {
    scheduling: schedulingConfig(scheduling),
    log: silentLogger,
    now: () => 0,
    unixNow: () => 0,
    ...options,
  };
}

/** A table in which these workers serve these models. */
export function tableOf(routes: Readonly<Record<string, readonly WorkerId[]>>): RoutingTable {
  return {
    routes: new Map(Object.entries(routes).map(([model, workers]) => [model, workers.toSorted()])),
    ready: [...new Set(Object.values(routes).flat())].sort(),
  };
}

/** One model's report; everything 0 but what is given. */
export function modelReport(name: string, values: Partial<ModelReport> = {}): ModelReport {
  return {
    name,
    weightBytes: 0,
    computeSeconds: 0,
    requests: 0,
    rows: 0,
    maxBatchSize: 0,
    batchInput: "",
    batchAxis: 0,
    ...values,
  };
}

/** A poll in which every worker reports the same models. */
export function fleetReport(
  workers: readonly WorkerId[],
  models: readonly ModelReport[],
  { atSeconds = 0, weightBudgetBytes = 0 } = {},
): FleetReport {
  return {
    workers: workers.map((worker) => ({ worker, discipline: "fifo", models, weightBudgetBytes })),
    atSeconds,
  };
}

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32, Tommy Ettinger, public domain). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Work in flight of a worker, 0 where the router does not look at load. */
export function workOn(router: ManagedRouter, worker: WorkerId): number {
  return router.readings().inflightWork.find((load) => load.worker === worker)?.work ?? 0;
}

const WORKERS = ["a:1", "b:1", "c:1"];

/** Runs the suite for one mode; `subject` must give routers that have seen nothing. */
export function testRouterContract(name: string, subject: RouterFactory): void {
  const start = (routes: Readonly<Record<string, readonly WorkerId[]>>) => {
    const router = subject(routerOptions());
    router.discovered(tableOf(routes));
    if (router.wantsReports) {
      router.report(fleetReport(
        tableOf(routes).ready,
        Object.keys(routes).map((model) => modelReport(model, { computeSeconds: 0.3, rows: 1 })),
      ));
    }
    return router;
  };
  const isIdle = (router: ManagedRouter) =>
    router.readings().inflightWork.every(({ work }) => work === 0) &&
    (router.readings().packing?.replicas ?? []).every(({ outstanding }) => outstanding === 0);

  Deno.test(`${name}: a model that no worker serves has no reservation`, () => {
    const router = subject(routerOptions());
    assert.equal(router.reserve("m", 1), undefined);
    router.discovered(tableOf({ other: WORKERS }));
    assert.equal(router.reserve("m", 1), undefined);
  });

  Deno.test(`${name}: a reservation lists every worker of the model once`, () => {
    const router = start({ m: WORKERS, n: ["b:1"] });
    for (let round = 0; round < 7; round++) {
      const { first, workers } = router.reserve("m", 1)!;
      assert.deepEqual(workers.toSorted(), WORKERS);
      assert.equal(first, workers[0]);
    }
    assert.deepEqual(router.reserve("n", 1)!.workers, ["b:1"]);
  });

  Deno.test(`${name}: releasing twice is releasing once`, () => {
    const router = start({ m: WORKERS });
    const [first, second] = [router.reserve("m", 2)!, router.reserve("m", 3)!];
    first.release();
    first.release();
    const before = router.readings();
    first.moveTo(first.workers[1]!);
    first.release();
    assert.deepEqual(router.readings(), before, "a reservation given back moved load");
    second.release();
    assert.ok(isIdle(router));
  });

  Deno.test(`${name}: moving takes the whole load along`, () => {
    const router = start({ m: WORKERS });
    const reservation = router.reserve("m", 5)!;
    const [first, , third] = reservation.workers;
    const load = workOn(router, first!);
    reservation.moveTo(first!);
    assert.equal(workOn(router, first!), load);
    reservation.moveTo(third!);
    assert.equal(workOn(router, first!), 0);
    assert.equal(workOn(router, third!), load);
    reservation.release();
    assert.ok(isIdle(router));
  });

  Deno.test(`${name}: a new table keeps what is in flight on the workers that stay`, () => {
    const router = start({ m: ["a:1"], n: ["b:1"] });
    const onA = router.reserve("m", 2)!;
    const onB = router.reserve("n", 2)!;
    const load = workOn(router, "a:1");
    router.discovered(tableOf({ m: ["a:1", "c:1"] }));
    assert.equal(workOn(router, "a:1"), load);
    onB.release();
    onA.release();
    assert.ok(isIdle(router));
  });

  Deno.test(`${name}: a worker that comes back still has its load`, () => {
    const router = start({ m: ["a:1"] });
    const reservation = router.reserve("m", 2)!;
    const load = workOn(router, "a:1");
    router.discovered(tableOf({}));
    router.discovered(tableOf({ m: ["a:1"] }));
    assert.equal(workOn(router, "a:1"), load);
    reservation.release();
    assert.ok(isIdle(router));
  });

  Deno.test(`${name}: a worker that is routed to while it is not ready keeps its load`, () => {
    const router = start({ m: WORKERS });
    const table = { ...tableOf({ m: WORKERS, n: WORKERS }), ready: ["a:1"] };
    router.discovered(table);
    const reservations = [1, 2, 3, 4].map((items) => router.reserve("n", items)!);
    for (const { first } of reservations) {
      router.discovered(table);
      assert.ok(router.readings().workBasis === undefined || workOn(router, first) > 0);
      const replicas = router.readings().packing?.replicas;
      const items = replicas?.reduce((sum, { outstanding }) => sum + outstanding, 0);
      assert.equal(items ?? 10, 10, "1 + 2 + 3 + 4 items are in flight");
    }
    for (const reservation of reservations) reservation.release();
    router.discovered(table);
    router.reserve("n", 1)!.release();
    assert.ok(isIdle(router));
  });

  Deno.test(`${name}: whatever happens, a drained fleet has no load left`, () => {
    const random = seededRandom(7);
    const pick = <T>(list: readonly T[]) => list[Math.floor(random() * list.length)]!;
    const router = start({ m: WORKERS, n: ["a:1", "c:1"], o: ["b:1"] });
    const tables = [
      tableOf({ m: WORKERS, n: ["a:1", "c:1"], o: ["b:1"] }),
      tableOf({ m: ["a:1", "b:1"], n: ["a:1"] }),
      tableOf({ m: [...WORKERS, "d:1"], n: ["d:1"], o: ["a:1", "b:1"] }),
      { ...tableOf({ m: WORKERS, n: ["b:1"], o: WORKERS }), ready: ["a:1"] },
      tableOf({}),
    ];
    const inFlight: Reservation[] = [];
    for (let step = 0; step < 20_000; step++) {
      const dice = random();
      if (dice < 0.5) {
        const items = dice < 0.01 ? 2 ** 62 : 1 + Math.floor(random() * 64);
        router.arrived("m");
        const reservation = router.reserve(pick(["m", "n", "o"]), items);
        if (reservation === undefined) continue;
        assert.ok(reservation.workers.length > 0);
        assert.equal(new Set(reservation.workers).size, reservation.workers.length);
        inFlight.push(reservation);
      } else if (dice < 0.9 && inFlight.length > 0) {
        const [reservation] = inFlight.splice(Math.floor(random() * inFlight.length), 1);
        if (random() < 0.3) reservation!.moveTo(pick(reservation!.workers));
        reservation!.release();
      } else if (dice < 0.91) {
        router.discovered(pick(tables));
      } else if (dice < 0.92) {
        const { ready, routes } = pick(tables);
        router.report(fleetReport(
          ready,
          [...routes.keys()].map((model) =>
            modelReport(model, { computeSeconds: step * random(), requests: step, rows: step * 3 })
          ),
          { atSeconds: step },
        ));
      }
    }
    for (const reservation of inFlight) reservation.release();
    assert.ok(isIdle(router), JSON.stringify(router.readings()));
  });
}
