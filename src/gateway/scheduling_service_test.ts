import assert from "node:assert/strict";
import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import type { SchedulingConfig } from "../config/mod.ts";
import { ServerError } from "../errors.ts";
import {
  decodeResponse,
  encodeMessage,
  GatewayControlService,
  methodPath,
} from "../protocol/mod.ts";
import type { CallContext } from "../transport/mod.ts";
import { ROUTERS } from "./routing/mod.ts";
import { fleetReport, modelReport, routerOptions, tableOf } from "./routing/router_contract.ts";
import { POLICY_FIELD_NAMES } from "./scheduling_changes.ts";
import { schedulingService } from "./scheduling_service.ts";

const { method } = GatewayControlService;

class Subject {
  readonly router;
  readonly methods;
  readonly abort = new AbortController();
  now = 0;

  constructor(scheduling: Partial<SchedulingConfig> = {}) {
    const options = routerOptions({ mode: "lpt_packing", ...scheduling }, {
      now: () => this.now,
      unixNow: () => 1_700_000_000 + this.now,
    });
    this.router = ROUTERS[options.scheduling.mode](options);
    this.methods = schedulingService({
      mode: options.scheduling.mode,
      control: this.router.control,
      nameOf: (worker) => worker === "b" ? "" : `worker-${worker}`,
    });
  }

  /** A poll in which these workers serve model `m`. */
  poll(workers: readonly string[], values: Parameters<typeof modelReport>[1] = {}): void {
    this.now += 10;
    this.router.discovered(tableOf({ m: workers }));
    this.router.report(fleetReport(workers, [modelReport("m", values)], {
      atSeconds: this.now,
      weightBudgetBytes: 1000,
    }));
  }

  async call<I extends DescMessage, O extends DescMessage>(
    rpc: DescMethodUnary<I, O>,
    fields: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    const handler = this.methods.get(methodPath(rpc))!;
    assert.equal(handler.kind, "unary");
    const context = { signal: this.abort.signal } as CallContext;
    const answer = await handler.handle(encodeMessage(rpc.input, fields), context);
    return decodeResponse(rpc.output, answer as readonly Uint8Array[]);
  }
}

function fails(promise: Promise<unknown>, status: string, message: RegExp): Promise<void> {
  return assert.rejects(promise, (error) => {
    assert.ok(error instanceof ServerError, String(error));
    assert.equal(error.status, status);
    assert.match(error.message, message);
    return true;
  });
}

Deno.test("scheduling service: other modes say their name and can change nothing", async () => {
  const subject = new Subject({ mode: "round_robin" });
  const status = await subject.call(method.getSchedulingStatus, {});
  assert.equal(status.mode, "round_robin");
  assert.equal(status.policy, undefined);
  // Even arguments that are wrong: the mode is checked first.
  for (
    const call of [
      subject.call(method.setSchedulingPolicy, {}),
      subject.call(method.setModelPlacement, {}),
      subject.call(method.repack, { waitSeconds: -1 }),
    ]
  ) await fails(call, "FAILED_PRECONDITION", /lpt_packing.*round_robin/);
});

Deno.test("scheduling service: status before any poll", async () => {
  const status = await new Subject().call(method.getSchedulingStatus, {});
  assert.equal(status.mode, "lpt_packing");
  assert.equal(status.policy!.rebalanceComputeSeconds, 300);
  assert.equal(status.policy!.emaHalflifeComputeSeconds, 300, "0 is resolved");
  assert.equal(status.policy!.generation, 0n);
  assert.equal(status.repack!.lastTrigger, "none");
  assert.deepEqual(status.models, []);
  assert.equal(status.warnings.length, 1);
  assert.match(status.warnings[0]!, /no repack yet/);
});

Deno.test("scheduling service: status of a running fleet", async () => {
  const subject = new Subject({
    defaultReplicas: 2,
    models: new Map([["later", { replicas: "all", fillMode: undefined, fillFactor: undefined }]]),
  });
  subject.poll(["a", "b", "c"], {
    weightBytes: 600,
    computeSeconds: 2,
    requests: 4,
    rows: 8,
    maxBatchSize: 8,
  });
  subject.router.reserve("m", 3);
  const { models, workers, repack } = await subject.call(method.getSchedulingStatus, {});
  assert.deepEqual(models.map(({ name }) => name), ["later", "m"]);
  const [later, m] = models;
  assert.equal(later!.configuredReplicas, -1n);
  assert.equal(later!.effectiveReplicas, 3n);
  assert.equal(later!.fillMode, "unknown");
  assert.equal(later!.placed, false);
  assert.equal(m!.configuredReplicas, 0n);
  assert.equal(m!.effectiveReplicas, 2n);
  assert.equal(m!.costSeconds, 0.5);
  assert.equal(m!.fillMode, "run");
  assert.equal(m!.fillQuantum, 8n);
  assert.equal(m!.weightNbytes, 600n);
  assert.deepEqual(
    m!.replicas.map(({ worker, weight, outstanding }) => [worker, weight, outstanding]),
    [["a", 0.5, 3n], ["b", 0.5, 0n]],
  );
  assert.deepEqual(m!.replicas.map(({ workerName }) => workerName), ["worker-a", ""]);
  assert.deepEqual(workers.map(({ workerName }) => workerName), ["worker-a", "", "worker-c"]);
  assert.deepEqual(
    workers.map(({ worker, ready, modelsPlaced, inflightCompute }) => [
      worker,
      ready,
      modelsPlaced,
      inflightCompute,
    ]),
    // Three items at a quarter of a second.
    [["a", true, 1n, 0.75], ["b", true, 1n, 0], ["c", true, 0n, 0]],
  );
  assert.equal(workers[0]!.assignedWeightBytes, 600n);
  assert.equal(workers[0]!.weightBudgetBytes, 1000n);
  assert.equal(repack!.lastTrigger, "startup");
  assert.equal(repack!.lastModelsPlaced, 1n);
  assert.equal(repack!.lastRepackUnixSeconds, 1_700_000_010);
});

Deno.test("scheduling service: the policy changes by mask, all or nothing", async () => {
  const subject = new Subject();
  const answer = await subject.call(method.setSchedulingPolicy, {
    updateMask: ["hysteresis", "default_replicas", "compaction_interval"],
    policy: { hysteresis: 0.25, defaultReplicas: -1n, compactionInterval: 4n, routingPolicy: "x" },
  });
  assert.equal(answer.persisted, false);
  assert.equal(answer.applied!.hysteresis, 0.25);
  assert.equal(answer.applied!.defaultReplicas, -1n);
  assert.equal(answer.applied!.compactionInterval, 4n);
  assert.equal(answer.applied!.routingPolicy, "fill_least", "not in the mask");
  assert.equal(answer.applied!.generation, 1n);
  await fails(
    subject.call(method.setSchedulingPolicy, {
      updateMask: ["hysteresis", "routing_fill_factor"],
      policy: { hysteresis: 0.5, routingFillFactor: 0 },
    }),
    "INVALID_ARGUMENT",
    /routing_fill_factor must be a number above 0, got "0"/,
  );
  const { policy } = await subject.call(method.getSchedulingStatus, {});
  assert.equal(policy!.hysteresis, 0.25);
  assert.equal(policy!.generation, 1n);
});

Deno.test("scheduling service: every field of the mask can be set", async () => {
  const subject = new Subject();
  const policy = {
    rebalanceComputeSeconds: 12,
    firstRebalanceComputeSeconds: 3,
    hysteresis: 0.1,
    emaHalflifeComputeSeconds: 7,
    defaultReplicas: 2n,
    routingPolicy: "fill_rr",
    workBasis: "items",
    routingFillFactor: 2.5,
    routingFillMode: "spread",
    compactionMode: "scheduled",
    compactionInterval: 0n,
    forbidMemoryOversubscription: false,
  };
  const { applied } = await subject.call(method.setSchedulingPolicy, {
    updateMask: [...POLICY_FIELD_NAMES],
    policy,
  });
  const { $typeName: _, generation: __, ...values } = applied!;
  assert.deepEqual(values, policy);
});

Deno.test("scheduling service: what the policy refuses", async () => {
  const subject = new Subject();
  const set = (name: string, policy: Record<string, unknown>) =>
    subject.call(method.setSchedulingPolicy, { updateMask: [name], policy });
  await fails(
    subject.call(method.setSchedulingPolicy, { policy: {} }),
    "INVALID_ARGUMENT",
    /empty/,
  );
  await fails(
    subject.call(method.setSchedulingPolicy, { updateMask: ["hysteresis"] }),
    "INVALID_ARGUMENT",
    /policy is not set/,
  );
  await fails(set("colour", {}), "INVALID_ARGUMENT", /"colour".*rebalance_compute_seconds/);
  for (const name of ["mode", "scheduling_mode", "max_worker_share", "endpoints", "listen"]) {
    await fails(set(name, {}), "INVALID_ARGUMENT", /restart/);
  }
  await fails(set("default_replicas", {}), "INVALID_ARGUMENT", /default_replicas must be/);
  await fails(set("default_replicas", { defaultReplicas: -2n }), "INVALID_ARGUMENT", /got "-2"/);
  await fails(set("hysteresis", { hysteresis: 1 }), "INVALID_ARGUMENT", /below 1/);
  await fails(set("hysteresis", { hysteresis: NaN }), "INVALID_ARGUMENT", /hysteresis/);
  await fails(set("rebalance_compute_seconds", {}), "INVALID_ARGUMENT", /above 0/);
  await fails(
    set("routing_policy", { routingPolicy: "least_outstanding" }),
    "INVALID_ARGUMENT",
    /scheduling\.mode/,
  );
  await fails(set("routing_fill_mode", {}), "INVALID_ARGUMENT", /run, spread, inflight/);
});

Deno.test("scheduling service: warnings of a policy change", async () => {
  const subject = new Subject();
  subject.poll(["a"], { computeSeconds: 0 });
  subject.poll(["a"], { computeSeconds: 50 });
  const change = (name: string, policy: Record<string, unknown>) =>
    subject.call(method.setSchedulingPolicy, { updateMask: [name], policy });
  const reached = await change("first_rebalance_compute_seconds", {
    firstRebalanceComputeSeconds: 40,
  });
  assert.match(reached.warnings.join(), /50\.0 s.*new budget of 40 s/);
  subject.poll(["a"], { computeSeconds: 100 });
  const late = await change("first_rebalance_compute_seconds", {
    firstRebalanceComputeSeconds: 30,
  });
  assert.match(late.warnings.join(), /no longer applies/);
  const half = await change("ema_halflife_compute_seconds", {});
  assert.match(half.warnings.join(), /half-life/);
  assert.equal(half.applied!.emaHalflifeComputeSeconds, 300, "0 is as the budget");
  const parked = await change("routing_fill_mode", { routingFillMode: "inflight" });
  assert.match(parked.warnings.join(), /inflight/);
  const status = await subject.call(method.getSchedulingStatus, {});
  assert.match(status.warnings.join(), /routing_fill_mode.*inflight/);
});

Deno.test("scheduling service: a model's placement", async () => {
  const subject = new Subject();
  subject.poll(["a", "b"], { maxBatchSize: 8, weightBytes: 10 });
  const set = (fields: MessageInitShape<typeof method.setModelPlacement.input>) =>
    subject.call(method.setModelPlacement, { fillFactor: -1, ...fields });
  const both = await set({ name: "m", replicas: -1n, fillMode: "spread", fillFactor: 0.5 });
  assert.equal(both.configuredReplicas, -1n);
  assert.equal(both.effectiveReplicas, 2n);
  assert.equal(both.fillMode, "spread");
  assert.equal(both.fillQuantum, 4n);
  assert.match(both.warnings.join("\n"), /next repack/);
  const kept = await set({ name: "m", replicas: 5n });
  assert.equal(kept.fillMode, "spread", "an empty fill_mode keeps it");
  assert.equal(kept.fillQuantum, 4n, "a negative fill_factor keeps it");
  assert.equal(kept.configuredReplicas, 5n);
  assert.equal(kept.effectiveReplicas, 2n);
  assert.match(kept.warnings.join("\n"), /5 replicas are more than the 2 ready workers/);
  const cleared = await set({ name: "m", replicas: 0n, fillMode: "inherit", fillFactor: 0 });
  assert.equal(cleared.configuredReplicas, 0n);
  assert.equal(cleared.effectiveReplicas, 1n);
  assert.equal(cleared.fillMode, "run");
  assert.equal(cleared.fillQuantum, 8n);
  assert.equal(subject.router.control!.modelPolicies.size, 0);
});

Deno.test("scheduling service: what a placement refuses and warns of", async () => {
  const subject = new Subject();
  subject.poll(["a", "b"], { maxBatchSize: 8, weightBytes: 1200 });
  const set = (fields: MessageInitShape<typeof method.setModelPlacement.input>) =>
    subject.call(method.setModelPlacement, { fillFactor: -1, ...fields });
  await fails(set({}), "INVALID_ARGUMENT", /name is empty/);
  await fails(set({ name: "x", replicas: -7n }), "NOT_FOUND", /"x".*allow_unknown_model/);
  await fails(set({ name: "m", replicas: -2n }), "INVALID_ARGUMENT", /replicas must be.*"-2"/);
  await fails(set({ name: "m", fillMode: "all" }), "INVALID_ARGUMENT", /fill_mode must be/);
  await fails(set({ name: "m", fillFactor: NaN }), "INVALID_ARGUMENT", /fill_factor must be/);
  const unknown = await set({ name: "x", replicas: 1n, allowUnknownModel: true });
  assert.match(unknown.warnings.join("\n"), /no ready worker serves/);
  assert.equal(unknown.fillMode, "unknown");
  const heavy = await set({ name: "m", replicas: 2n, fillMode: "inflight" });
  assert.match(heavy.warnings.join("\n"), /worker a may be given 1200.*\n?.*worker b/);
  assert.match(heavy.warnings.join("\n"), /inflight/);
});

Deno.test("scheduling service: concurrent placements lose nothing", async () => {
  const subject = new Subject();
  subject.poll(["a", "b"], { maxBatchSize: 8 });
  await Promise.all([
    subject.call(method.setModelPlacement, { name: "m", replicas: 2n, fillFactor: -1 }),
    subject.call(method.setModelPlacement, {
      name: "n",
      replicas: -1n,
      fillFactor: 3,
      allowUnknownModel: true,
    }),
  ]);
  assert.deepEqual([...subject.router.control!.modelPolicies.keys()].sort(), ["m", "n"]);
  assert.equal(subject.router.control!.generation, 2);
});

Deno.test("scheduling service: repack without waiting is queued", async () => {
  const subject = new Subject();
  const answer = await subject.call(method.repack, {});
  assert.equal(answer.sequence, 1n);
  assert.equal(answer.completed, false);
  assert.match(answer.warnings.join(), /queued/);
  assert.equal(subject.router.control!.isRepackPending, true);
  subject.poll(["a"]);
  assert.equal(subject.router.control!.isRepackPending, false);
});

Deno.test("scheduling service: repacks that wait share one and say what it did", async () => {
  const subject = new Subject();
  subject.poll(["a"]);
  const waiting = [
    subject.call(method.repack, { waitSeconds: 60 }),
    subject.call(method.repack, { waitSeconds: 500 }),
  ];
  subject.poll(["a"]);
  const [first, second] = await Promise.all(waiting);
  assert.deepEqual([first!.sequence, second!.sequence], [1n, 2n]);
  for (const answer of [first!, second!]) {
    assert.equal(answer.completed, true);
    assert.equal(answer.completedSequence, 2n);
    assert.equal(answer.repack!.lastTrigger, "operator");
    assert.equal(answer.repack!.repackCount, 2n);
  }
  assert.match(second!.warnings.join(), /cut from 500 to 120/);
});

Deno.test("scheduling service: a wait ends with its time or its caller", async () => {
  const subject = new Subject();
  subject.poll(["a"]);
  const late = await subject.call(method.repack, { waitSeconds: 0.01 });
  assert.equal(late.completed, false);
  assert.ok(late.waitedSeconds > 0);
  const left = subject.call(method.repack, { waitSeconds: 100 });
  subject.abort.abort();
  await assert.rejects(left);
});

Deno.test("scheduling service: what a repack refuses", async () => {
  const subject = new Subject();
  await fails(subject.call(method.repack, { waitSeconds: -1 }), "INVALID_ARGUMENT", /at least 0/);
  await fails(subject.call(method.repack, { waitSeconds: NaN }), "INVALID_ARGUMENT", /NaN/);
  await fails(
    subject.call(method.repack, { waitSeconds: 1 }),
    "UNAVAILABLE",
    /No worker was ready/,
  );
  assert.equal(subject.router.control!.isRepackPending, false);
});
