/** What is simulated: one fleet, one load, several ways of routing. */

import type { SchedulingConfig } from "../../src/config/mod.ts";
import type { RunOptions } from "./fleet.ts";

/** A way of routing. */
export interface Scenario {
  readonly name: string;
  readonly scheduling: SchedulingConfig;
  /** Where it differs from the common fleet. */
  readonly fleet?: Partial<typeof FLEET>;
}

/** The fleet and its load; the same for every scenario. */
export const FLEET: Omit<RunOptions, "seed" | "scheduling"> = {
  workers: 64,
  models: 500,
  zipfExponent: 1,
  requestsPerSecond: 6000,
  seconds: 90,
  warmUpSeconds: 30,
  windowSeconds: 10,
  pollSeconds: 10,
  driftSeconds: 15,
  driftSwaps: 3,
  budgetBytes: 80e9,
  loadBytesPerSecond: 12e9,
};

/** More than any run computes. */
const NEVER = 1e12;

/** Every scenario, in the order of the table. */
export const SCENARIOS: readonly Scenario[] = [
  { name: "round_robin", scheduling: scheduling({ mode: "round_robin" }) },
  { name: "least_outstanding", scheduling: scheduling({ mode: "least_outstanding" }) },
  {
    name: "round_robin, loading is free",
    scheduling: scheduling({ mode: "round_robin" }),
    fleet: { loadBytesPerSecond: Infinity },
  },
  { name: "lpt_packing, 1 replica", scheduling: scheduling({ defaultReplicas: 1 }) },
  { name: "lpt_packing, 4 replicas", scheduling: scheduling({ defaultReplicas: 4 }) },
  { name: "lpt_packing, 8 replicas", scheduling: scheduling({ defaultReplicas: 8 }) },
  {
    name: "8 replicas, hysteresis 0.1",
    scheduling: scheduling({ defaultReplicas: 8, hysteresis: 0.1 }),
  },
  {
    name: "8 replicas, hysteresis 0.3",
    scheduling: scheduling({ defaultReplicas: 8, hysteresis: 0.3 }),
  },
  {
    name: "8 replicas, fill mode spread",
    scheduling: scheduling({ defaultReplicas: 8, hysteresis: 0.1, routingFillMode: "spread" }),
  },
  {
    name: "8 replicas, hysteresis 0.1, no drift",
    scheduling: scheduling({ defaultReplicas: 8, hysteresis: 0.1 }),
    fleet: { driftSwaps: 0 },
  },
  {
    name: "8 replicas, packed only once",
    scheduling: scheduling({ defaultReplicas: 8, rebalanceComputeSeconds: NEVER }),
  },
];

function scheduling(values: Partial<SchedulingConfig>): SchedulingConfig {
  return {
    mode: "lpt_packing",
    workBasis: "compute",
    rebalanceComputeSeconds: 300,
    firstRebalanceComputeSeconds: 60,
    emaHalflifeComputeSeconds: 300,
    hysteresis: 0,
    maxWorkerShare: 0.8,
    defaultReplicas: 1,
    routingFillFactor: 1,
    routingPolicy: "fill_least",
    routingFillMode: "run",
    forbidMemoryOversubscription: true,
    compactionMode: "off",
    compactionInterval: 0,
    models: new Map(),
    ...values,
  };
}
