import assert from "node:assert/strict";
import { schedulingConfig } from "../routing/router_contract.ts";
import { fillQuantum } from "./fill_plan.ts";
import { SchedulingPolicy } from "./policy.ts";

Deno.test("fillQuantum() is the factor times the batch, halves to even, at least 1", () => {
  assert.equal(fillQuantum(1, 8), 8);
  assert.equal(fillQuantum(0.5, 5), 2);
  assert.equal(fillQuantum(0.5, 7), 4);
  assert.equal(fillQuantum(1.5, 3), 4);
  assert.equal(fillQuantum(0.01, 8), 1);
  assert.equal(fillQuantum(4, 0), 1);
});

Deno.test("policy: a model's block without replicas means the default", () => {
  const policy = new SchedulingPolicy(schedulingConfig({
    defaultReplicas: 3,
    models: new Map([["m", { replicas: undefined, fillMode: "spread", fillFactor: 2 }]]),
  }));
  assert.equal(policy.replicasOf("m"), 3);
  assert.deepEqual(policy.fillPlanOf("m", 8), { mode: "spread", quantum: 16 });
  assert.deepEqual(policy.fillPlanOf("n", 8), { mode: "run", quantum: 8 });
  assert.deepEqual(policy.fillPlanOf("m", undefined), { mode: "run", quantum: 1 });
});

Deno.test("policy: a half-life of 0 becomes the budget, once", () => {
  const policy = new SchedulingPolicy(schedulingConfig({ rebalanceComputeSeconds: 50 }));
  assert.equal(policy.live.emaHalflifeComputeSeconds, 50);
  policy.change({ rebalanceComputeSeconds: 80 });
  assert.equal(policy.live.emaHalflifeComputeSeconds, 50);
  policy.change({ rebalanceComputeSeconds: 90, emaHalflifeComputeSeconds: 0 });
  assert.equal(policy.live.emaHalflifeComputeSeconds, 90);
  assert.equal(policy.generation, 2);
});

Deno.test("policy: changes to a model add up, and an empty override goes away", () => {
  const policy = new SchedulingPolicy(schedulingConfig());
  policy.changeModel("m", { replicas: 2 });
  policy.changeModel("m", { fillMode: "spread" });
  assert.deepEqual(policy.models.get("m"), {
    replicas: 2,
    fillMode: "spread",
    fillFactor: undefined,
  });
  policy.changeModel("m", { replicas: undefined, fillMode: undefined });
  assert.equal(policy.models.has("m"), false);
});
