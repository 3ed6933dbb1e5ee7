import assert from "node:assert/strict";
import type { SchedulingConfig } from "../../config/mod.ts";
import { silentLogger } from "../../log.ts";
import type { FleetReport, ModelReport } from "../fleet.ts";
import { fleetReport, modelReport, schedulingConfig } from "../routing/router_contract.ts";
import type { CompactionOrder } from "./control_types.ts";
import { PackingPlanner } from "./planner.ts";
import { SchedulingPolicy } from "./policy.ts";

/** A planner with a clock that its polls set, ten seconds apart. */
class Subject {
  readonly policy: SchedulingPolicy;
  readonly planner: PackingPlanner;
  readonly orders: CompactionOrder[][] = [];
  now = 0;

  constructor(scheduling: Partial<SchedulingConfig> = {}) {
    this.policy = new SchedulingPolicy(schedulingConfig({
      mode: "lpt_packing",
      rebalanceComputeSeconds: 100,
      firstRebalanceComputeSeconds: 10,
      ...scheduling,
    }));
    this.planner = new PackingPlanner({
      policy: this.policy,
      log: silentLogger,
      now: () => this.now,
      unixNow: () => 1_000_000 + this.now,
      compact: (orders) => this.orders.push([...orders]),
    });
  }

  /** One poll, ten seconds later; every worker reports the same. */
  tick(workers: readonly string[], models: readonly ModelReport[]): boolean {
    return this.tickReport(fleetReport(workers, models));
  }

  tickReport(report: FleetReport): boolean {
    this.now += 10;
    return this.planner.tick({ ...report, atSeconds: this.now });
  }

  get trigger() {
    return this.planner.status.last?.trigger;
  }
}

const used = (computeSeconds: number) =>
  modelReport("m", { computeSeconds, requests: computeSeconds, rows: computeSeconds });

Deno.test("planner: packs at the first poll, then by the first budget, then by the other", () => {
  const subject = new Subject();
  const { planner } = subject;
  assert.equal(planner.status.last, undefined);
  assert.ok(subject.tick(["a"], [used(1000)]), "whatever the workers computed before is no budget");
  assert.equal(subject.trigger, "startup");
  assert.equal(planner.status.activeThresholdSeconds, 10);
  assert.ok(!subject.tick(["a"], [used(1009)]));
  assert.equal(planner.status.computeAccumulatedSeconds, 9);
  assert.ok(subject.tick(["a"], [used(1010)]));
  assert.equal(subject.trigger, "compute");
  assert.equal(planner.status.last!.computeSeconds, 10);
  assert.equal(planner.status.last!.wallElapsedSeconds, 20);
  assert.equal(planner.status.activeThresholdSeconds, 100);
  assert.ok(!subject.tick(["a"], [used(1109)]));
  assert.ok(subject.tick(["a"], [used(1110)]));
  assert.deepEqual(Object.fromEntries(planner.repacks), {
    startup: 1,
    compute: 2,
    operator: 0,
    membership: 0,
  });
});

Deno.test("planner: without a first budget the other one counts from the start", () => {
  const subject = new Subject({ firstRebalanceComputeSeconds: 0 });
  subject.tick(["a"], [used(0)]);
  assert.equal(subject.planner.status.activeThresholdSeconds, 100);
});

Deno.test("planner: an idle fleet never repacks", () => {
  const subject = new Subject();
  subject.tick(["a"], [used(5)]);
  for (let poll = 0; poll < 100; poll++) assert.ok(!subject.tick(["a"], [used(5)]));
  assert.equal(subject.planner.status.count, 1);
});

Deno.test("planner: operators share the next repack, which leaves the first budget alone", async () => {
  const subject = new Subject();
  const { schedule } = subject.planner;
  subject.tick(["a"], [used(0)]);
  const [first, second] = [schedule.request(), schedule.request()];
  const waited = Promise.all([schedule.whenCompleted(first), schedule.whenCompleted(second)]);
  assert.equal(schedule.completed, 0);
  assert.ok(subject.tick(["a"], [used(1)]));
  await waited;
  assert.equal(subject.trigger, "operator");
  assert.equal(schedule.completed, second);
  assert.equal(subject.planner.status.count, 2);
  assert.equal(subject.planner.status.isFirstTickRepackDone, false);
  assert.ok(!subject.tick(["a"], [used(1)]), "one repack answers both");
});

Deno.test("planner: an operator's repack waits until somebody answers", () => {
  const subject = new Subject();
  subject.tick(["a"], [used(0)]);
  const late = new Subject();
  late.planner.schedule.request();
  assert.ok(!late.tick([], []));
  assert.equal(late.planner.schedule.completed, 0);
  assert.ok(late.tick(["a"], [used(0)]));
  assert.equal(late.planner.schedule.completed, 1);
});

Deno.test("planner: an operator's repack loses no arrivals that were counted", () => {
  const subject = new Subject();
  const { planner } = subject;
  subject.tick(["a"], [used(0)]);
  planner.demand.counterOf("m").count = 30;
  planner.schedule.request();
  subject.tick(["a"], [used(1)]);
  // 30 requests in 20 s; nothing was known before, so this is what the repack sees.
  assert.equal(planner.demandOf("m").arrivalRate, 1.5);
  planner.demand.counterOf("m").count += 30;
  subject.tick(["a"], [used(12)]);
  assert.equal(subject.trigger, "compute");
  assert.equal(planner.demandOf("m").arrivalRate, 2, "60 requests in 30 s");
  assert.equal(planner.demand.counterOf("m").count, 0);
});

Deno.test("planner: demand is averaged over compute", () => {
  const subject = new Subject({ emaHalflifeComputeSeconds: 100 });
  const { planner } = subject;
  subject.tick(["a"], [used(0)]);
  planner.demand.counterOf("m").count = 40;
  subject.tick(["a"], [used(10)]);
  assert.equal(planner.demandOf("m").arrivalRate, 2, "40 in 20 s, the first sample as it is");
  planner.demand.counterOf("m").count = 60;
  subject.tick(["a"], [used(110)]);
  assert.equal(planner.demandOf("m").arrivalRate, 4, "one halflife: halfway from 2 to 6");
  assert.equal(planner.demandOf("m").utilization, 4, "a request costs one second");
});

Deno.test("planner: a worker that misses a poll stays, and brings no spurious repack back", () => {
  const subject = new Subject();
  subject.tick(["a", "b"], [used(100_000), modelReport("n")]);
  const { placement } = subject.planner;
  assert.ok(!subject.tick(["a"], [used(100_000), modelReport("n")]));
  assert.equal(subject.planner.placement, placement);
  assert.deepEqual(subject.planner.ready, ["a"]);
  assert.deepEqual(subject.planner.members, ["a", "b"]);
  assert.ok(!subject.tick(["a", "b"], [used(100_001), modelReport("n")]));
  assert.equal(subject.planner.status.count, 1);
});

Deno.test("planner: a worker that stays away is packed without", () => {
  const models = [used(5), modelReport("n")];
  const spread = new Subject({ defaultReplicas: "all" });
  spread.tick(["a", "b"], models);
  let polls = 0;
  while (!spread.tick(["a"], models)) assert.ok(++polls < 10);
  assert.equal(spread.trigger, "membership");
  assert.deepEqual([...spread.planner.placement.values()], [["a"], ["a"]]);
});

Deno.test("planner: workers that join are packed when joining has come to rest", () => {
  const subject = new Subject({ defaultReplicas: "all" });
  const models = [used(0)];
  subject.tick(["a", "b", "c", "d"], models);
  assert.ok(!subject.tick(["a", "b", "c", "d", "e"], models));
  assert.ok(!subject.tick(["a", "b", "c", "d", "e", "f"], models), "still joining");
  assert.ok(subject.tick(["a", "b", "c", "d", "e", "f"], models));
  assert.equal(subject.trigger, "membership");
  assert.equal(subject.planner.placement.get("m")!.length, 6);
  const doubled = new Subject({ defaultReplicas: "all" });
  doubled.tick(["a"], models);
  assert.ok(doubled.tick(["a", "b"], models), "twice the fleet is not waited for");
});

Deno.test("planner: a worker that leaves and returns moves little but its own models", () => {
  const subject = new Subject();
  const workers = ["a", "b", "c", "d", "e", "f", "g", "h"];
  const models = Array.from(
    { length: 80 },
    (_, index) => modelReport(`m${index}`, { weightBytes: 10 + (index * 37) % 91 }),
  );
  const poll = (members: readonly string[]) =>
    subject.tickReport(fleetReport(members, models, { weightBudgetBytes: 2000 }));
  poll(workers);
  const before = subject.planner.placement;
  const homeless = [...before].filter(([, [worker]]) => worker === "c").length;
  while (subject.trigger !== "membership") poll(workers.filter((worker) => worker !== "c"));
  const without = subject.planner.placement;
  assert.ok([...without.values()].every((places) => !places.includes("c")));
  const moved = subject.planner.status.last!.modelsMoved;
  assert.ok(moved >= homeless && moved <= 2 * homeless, `${moved} moved, ${homeless} had to`);
  for (let polls = 0; subject.planner.members.length < 8 || polls < 2; polls++) {
    poll(workers);
  }
  const back = subject.planner.status.last!;
  assert.equal(back.trigger, "membership");
  const onC = [...subject.planner.placement.values()].filter((places) => places.includes("c"));
  assert.ok(onC.length > 0, "the returned worker has nothing to do");
  assert.ok(back.modelsMoved <= 20, `${back.modelsMoved} of 80 models moved`);
});

Deno.test("planner: workers with discipline fair are left out", () => {
  const subject = new Subject({ defaultReplicas: "all" });
  const { workers } = fleetReport(["a", "b"], [used(0)]);
  subject.tickReport({
    atSeconds: 0,
    workers: workers.map((worker) => ({
      ...worker,
      discipline: worker.worker === "b" ? "fair" : "edf",
    })),
  });
  assert.deepEqual(subject.planner.placement.get("m"), ["a"]);
});

Deno.test("planner: models that not every worker has go to all that have them", () => {
  const subject = new Subject();
  const [both, onlyA] = [modelReport("both"), modelReport("only")];
  const report = (worker: string, models: ModelReport[]) => ({
    worker,
    discipline: "fifo",
    weightBudgetBytes: 0,
    models,
  });
  subject.tickReport({
    atSeconds: 0,
    workers: [report("a", [both, onlyA]), report("b", [both, onlyA]), report("c", [both])],
  });
  assert.deepEqual(subject.planner.placement.get("only"), ["a", "b"]);
  assert.deepEqual([...subject.planner.drifted], ["only"]);
  // It comes to the third worker too: now it is placed like any other, without a repack.
  assert.ok(subject.tick(["a", "b", "c"], [both, onlyA]));
  assert.equal(subject.planner.placement.get("only")!.length, 1);
  assert.equal(subject.planner.drifted.size, 0);
  assert.equal(subject.planner.status.count, 1);
});

Deno.test("planner: a new model is placed at once, one that is gone is dropped", () => {
  const subject = new Subject();
  subject.tick(["a", "b"], [used(0)]);
  assert.ok(subject.tick(["a", "b"], [used(0), modelReport("new")]));
  assert.equal(subject.planner.placement.get("new")!.length, 1);
  assert.ok(!subject.tick(["a", "b"], [used(0), modelReport("new")]));
  assert.ok(subject.tick(["a", "b"], [used(0)]));
  assert.deepEqual([...subject.planner.placement.keys()], ["m"]);
  assert.equal(subject.planner.status.count, 1);
});

Deno.test("planner: changed replicas wait for the next repack", () => {
  const subject = new Subject();
  subject.tick(["a", "b"], [used(0)]);
  subject.policy.changeModel("m", { replicas: 2 });
  assert.ok(!subject.tick(["a", "b"], [used(0)]));
  assert.deepEqual(subject.planner.placement.get("m"), ["a"]);
  subject.planner.schedule.request();
  subject.tick(["a", "b"], [used(0)]);
  assert.deepEqual(subject.planner.placement.get("m"), ["a", "b"]);
});

Deno.test("planner: workers whose models changed are told to compact, every so many repacks", () => {
  const subject = new Subject({ compactionMode: "scheduled", compactionInterval: 2 });
  const models = [modelReport("m"), modelReport("n")];
  const repack = () => {
    subject.planner.schedule.request();
    subject.tick(["a", "b", "c"], models);
  };
  subject.tick(["a", "b", "c"], models);
  repack();
  assert.equal(subject.orders.length, 0, "the start does not count, and this is the first of two");
  const [home] = subject.planner.placement.get("n")!;
  subject.policy.changeModel("n", { replicas: 2 });
  repack();
  const gained = subject.planner.placement.get("n")!.filter((worker) => worker !== home);
  assert.equal(gained.length, 1);
  assert.deepEqual(subject.orders, [[{ worker: gained[0]!, reloadModels: ["n"] }]]);
  assert.equal(subject.planner.status.repacksSinceCompaction, 0);
  repack();
  repack();
  assert.equal(subject.orders.length, 1, "nothing changed since");
  assert.equal(subject.planner.status.repacksSinceCompaction, 2);
});

Deno.test("planner: eager compaction leaves loading to the requests, off says nothing", () => {
  for (const [compactionMode, expected] of [["eager", 1], ["off", 0]] as const) {
    const subject = new Subject({ compactionMode });
    subject.tick(["a", "b"], [modelReport("m")]);
    subject.policy.changeModel("m", { replicas: 2 });
    subject.planner.schedule.request();
    subject.tick(["a", "b"], [modelReport("m")]);
    assert.equal(subject.orders.length, expected);
    if (expected > 0) assert.deepEqual(subject.orders, [[{ worker: "b", reloadModels: [] }]]);
  }
});
