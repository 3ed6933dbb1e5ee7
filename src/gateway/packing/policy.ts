/** The scheduling settings in force, which operators may change while requests run. */

import type { ModelSchedulingConfig, Replicas, SchedulingConfig } from "../../config/mod.ts";
import { type FillPlan, fillQuantum, UNKNOWN_FILL_PLAN } from "./fill_plan.ts";

/** The settings that can change at run time. */
export type LivePolicy = Omit<SchedulingConfig, "mode" | "maxWorkerShare" | "models">;

/** Changes to one model; a field that is absent keeps what it was. */
export interface ModelPolicyChange {
  /** `undefined` removes the override. */
  readonly replicas?: Replicas | undefined;
  readonly fillMode?: ModelSchedulingConfig["fillMode"];
  readonly fillFactor?: number | undefined;
}

const INHERIT_ALL: ModelSchedulingConfig = {
  replicas: undefined,
  fillMode: undefined,
  fillFactor: undefined,
};

/**
 * What was configured, and every change since. All changes are made at once and in one step of the event
 * loop, so none is lost and nobody sees half of one.
 */
export class SchedulingPolicy {
  #live: LivePolicy;
  readonly #models: Map<string, ModelSchedulingConfig>;
  #generation = 0;

  constructor(config: SchedulingConfig) {
    this.#live = resolveHalflife(config);
    this.#models = new Map(config.models);
  }

  get live(): LivePolicy {
    return this.#live;
  }

  /** Counts accepted changes; 0: as configured. */
  get generation(): number {
    return this.#generation;
  }

  /** Models with an override of their own. */
  get models(): ReadonlyMap<string, ModelSchedulingConfig> {
    return this.#models;
  }

  /** A half-life of 0 becomes the rebalance budget, the new one if that changes too. */
  change(changes: Partial<LivePolicy>): void {
    this.#live = resolveHalflife({ ...this.#live, ...changes });
    this.#generation++;
  }

  changeModel(name: string, change: ModelPolicyChange): void {
    const next = { ...INHERIT_ALL, ...this.#models.get(name), ...change };
    const isEmpty = Object.values(next).every((value) => value === undefined);
    if (isEmpty) this.#models.delete(name);
    else this.#models.set(name, next);
    this.#generation++;
  }

  /** What a model asks for, before the fleet's size limits it. */
  replicasOf(name: string): Replicas {
    return this.#models.get(name)?.replicas ?? this.#live.defaultReplicas;
  }

  /** `undefined` for `maxBatchSize`: no poll has shown the model. */
  fillPlanOf(name: string, maxBatchSize: number | undefined): FillPlan {
    if (maxBatchSize === undefined) return UNKNOWN_FILL_PLAN;
    const own = this.#models.get(name);
    return {
      mode: own?.fillMode ?? this.#live.routingFillMode,
      quantum: fillQuantum(own?.fillFactor ?? this.#live.routingFillFactor, maxBatchSize),
    };
  }
}

function resolveHalflife(config: LivePolicy): LivePolicy {
  return config.emaHalflifeComputeSeconds > 0
    ? config
    : { ...config, emaHalflifeComputeSeconds: config.rebalanceComputeSeconds };
}
