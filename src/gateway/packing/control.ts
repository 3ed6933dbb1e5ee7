/** What operators see and change of a packing fleet, computed from the live state when it is asked for. */

import type { ModelSchedulingConfig, Replicas } from "../../config/mod.ts";
import type { Logger } from "../../log.ts";
import type { WorkerId } from "../fleet.ts";
import type { ModelRoute } from "../routing/replicas.ts";
import type { WorkerLoads } from "../routing/worker_load.ts";
import type {
  ModelPackingStatus,
  ModelPlacementOutcome,
  RepackStatus,
  SchedulingControl,
  WorkerPackingStatus,
} from "./control_types.ts";
import { effectiveReplicas } from "./pack.ts";
import type { PackingPlanner } from "./planner.ts";
import type { LivePolicy, ModelPolicyChange, SchedulingPolicy } from "./policy.ts";

/** What the control works on; the router is it. */
export interface PackingSubject {
  readonly policy: SchedulingPolicy;
  readonly planner: PackingPlanner;
  readonly routes: ReadonlyMap<string, ModelRoute>;
  readonly loads: WorkerLoads;
  serves(model: string): boolean;
  /** Makes a changed policy act. */
  refresh(): void;
}

/** The control of `lpt_packing`. */
export class PackingControl implements SchedulingControl {
  readonly #subject: PackingSubject;
  readonly #log: Logger;

  constructor(subject: PackingSubject, log: Logger) {
    this.#subject = subject;
    this.#log = log;
  }

  get policy(): LivePolicy {
    return this.#subject.policy.live;
  }

  get modelPolicies(): ReadonlyMap<string, ModelSchedulingConfig> {
    return this.#subject.policy.models;
  }

  get generation(): number {
    return this.#subject.policy.generation;
  }

  get repack(): RepackStatus {
    return this.#subject.planner.status;
  }

  get readyWorkers(): readonly WorkerId[] {
    return this.#subject.planner.ready;
  }

  get isRepackPending(): boolean {
    const { schedule } = this.#subject.planner;
    return schedule.requested > schedule.completed;
  }

  models(): ModelPackingStatus[] {
    const { planner, policy } = this.#subject;
    const names = new Set([
      ...planner.placement.keys(),
      ...policy.models.keys(),
      ...planner.costs.models.keys(),
    ]);
    return [...names].sort().map((name) => this.#modelStatus(name));
  }

  workers(): WorkerPackingStatus[] {
    const { planner, loads } = this.#subject;
    const ready = new Set(planner.ready);
    return planner.assigned().map(({ worker, weightBytes, budgetBytes, models }) => ({
      worker,
      isReady: ready.has(worker),
      modelsPlaced: models,
      inflightWork: loads.workOf(worker),
      assignedWeightBytes: weightBytes,
      weightBudgetBytes: budgetBytes,
    }));
  }

  warnings(): string[] {
    const { planner, policy } = this.#subject;
    const warnings = inflightWarnings(policy);
    if (planner.status.count === 0) {
      warnings.push(
        "no repack yet: models go to every worker that serves them until the first poll",
      );
    }
    return warnings.sort();
  }

  serves(model: string): boolean {
    return this.#subject.serves(model);
  }

  changePolicy(changes: Partial<LivePolicy>): string[] {
    const { policy, planner } = this.#subject;
    const before = policy.live;
    policy.change(changes);
    const after = policy.live;
    for (const key of Object.keys(changes) as (keyof LivePolicy)[]) {
      this.#log.info("Changed a scheduling setting", {
        setting: key,
        before: before[key],
        after: after[key],
        generation: policy.generation,
      });
    }
    this.#subject.refresh();
    const warnings: string[] = [];
    const { accumulated, isFirstTickRepackDone } = planner.schedule;
    const isBudgetNew = changes.rebalanceComputeSeconds !== undefined ||
      changes.firstRebalanceComputeSeconds !== undefined;
    const threshold = planner.schedule.threshold(after);
    if (isBudgetNew && accumulated >= threshold) {
      warnings.push(
        `the fleet has computed ${
          accumulated.toFixed(1)
        } s since the last repack, which reaches the ` +
          `new budget of ${threshold} s: the next poll repacks`,
      );
    }
    if (changes.firstRebalanceComputeSeconds !== undefined && isFirstTickRepackDone) {
      warnings.push(
        "first_rebalance_compute_seconds no longer applies: the first repack by compute is done",
      );
    }
    if (changes.emaHalflifeComputeSeconds !== undefined) {
      warnings.push("the new half-life acts from now on; averages so far are not computed again");
    }
    if (changes.routingFillMode === "inflight" && before.routingFillMode !== "inflight") {
      warnings.push(INFLIGHT_WARNING);
    }
    return warnings;
  }

  changeModel(model: string, change: ModelPolicyChange): ModelPlacementOutcome {
    const { policy, planner } = this.#subject;
    const before = policy.models.get(model);
    policy.changeModel(model, change);
    const after = policy.models.get(model);
    this.#log.info("Changed the placement of a model", {
      model,
      before: before ?? "as the fleet",
      after: after ?? "as the fleet",
      generation: policy.generation,
    });
    this.#subject.refresh();
    const warnings: string[] = [];
    const ready = planner.ready.length;
    const wanted = policy.replicasOf(model);
    if (wanted !== "all" && ready > 0 && wanted > ready) {
      warnings.push(
        `${wanted} replicas are more than the ${ready} ready workers; ${ready} it will be`,
      );
    }
    if (!this.serves(model)) warnings.push("no ready worker serves this model yet");
    if (after?.fillMode === "inflight" && before?.fillMode !== "inflight") {
      warnings.push(INFLIGHT_WARNING);
    }
    warnings.push(...this.#oversubscriptions(model));
    warnings.push("a changed number of replicas takes effect at the next repack");
    const maxBatchSize = planner.costs.models.get(model)?.maxBatchSize;
    const plan = policy.fillPlanOf(model, maxBatchSize);
    return {
      configuredReplicas: after?.replicas,
      effectiveReplicas: this.#effective(wanted),
      fillMode: maxBatchSize === undefined ? undefined : plan.mode,
      fillQuantum: plan.quantum,
      warnings,
    };
  }

  requestRepack(): number {
    const sequence = this.#subject.planner.schedule.request();
    this.#log.info("An operator asks for a repack", { sequence });
    return sequence;
  }

  whenRepacked(sequence: number): Promise<void> {
    return this.#subject.planner.schedule.whenCompleted(sequence);
  }

  #modelStatus(name: string): ModelPackingStatus {
    const { planner, policy, routes } = this.#subject;
    const facts = planner.costs.models.get(name);
    const plan = policy.fillPlanOf(name, facts?.maxBatchSize);
    const placed = planner.placement.get(name) ?? [];
    const { arrivalRate, utilization } = planner.demandOf(name);
    return {
      name,
      configuredReplicas: policy.models.get(name)?.replicas,
      effectiveReplicas: this.#effective(policy.replicasOf(name)),
      replicas: placed.map((worker) => {
        const replica = routes.get(name)?.replicas.get(worker);
        return {
          worker,
          weight: 1 / placed.length,
          outstanding: replica?.items ?? 0,
          routedTotal: replica?.routed ?? 0,
        };
      }),
      utilization,
      arrivalRate,
      costSeconds: facts?.requestCost ?? 0,
      maxBatchSize: facts?.maxBatchSize ?? 0,
      fillMode: facts === undefined ? undefined : plan.mode,
      fillQuantum: plan.quantum,
      weightBytes: facts?.weightBytes ?? 0,
      isPlaced: placed.length > 0,
      isDrifted: planner.drifted.has(name),
    };
  }

  /** As many as asked for while the size of the fleet is not known. */
  #effective(replicas: Replicas): number {
    const workers = this.#subject.planner.members.length;
    if (workers > 0) return effectiveReplicas(replicas, workers);
    return replicas === "all" ? 0 : replicas;
  }

  /** An estimate: the model on the workers with the least other weights. */
  #oversubscriptions(model: string): string[] {
    const { planner, policy } = this.#subject;
    const bytes = planner.costs.models.get(model)?.weightBytes ?? 0;
    const placed = planner.placement.get(model) ?? [];
    const others = planner.assigned()
      .map(({ worker, weightBytes, budgetBytes }) => ({
        worker,
        budgetBytes,
        total: weightBytes + (placed.includes(worker) ? 0 : bytes),
      }))
      .sort((a, b) => a.total - b.total || (a.worker < b.worker ? -1 : 1));
    return others
      .slice(0, effectiveReplicas(policy.replicasOf(model), others.length))
      .filter(({ total, budgetBytes }) => budgetBytes > 0 && total > budgetBytes)
      .map(({ worker, total, budgetBytes }) =>
        `worker ${worker} may be given ${total} bytes of weights, over its budget of ${budgetBytes}`
      );
  }
}

const INFLIGHT_WARNING =
  "fill mode inflight parks a model on one replica while its requests in flight stay between 2 and " +
  "its quantum; run or spread share them out";

/** One warning for the fleet and one per model that uses `inflight`. */
export function inflightWarnings(policy: SchedulingPolicy): string[] {
  const warnings = policy.live.routingFillMode === "inflight"
    ? [`scheduling.routing_fill_mode: ${INFLIGHT_WARNING}`]
    : [];
  for (const [model, { fillMode }] of policy.models) {
    if (fillMode === "inflight") {
      warnings.push(`model ${JSON.stringify(model)}: ${INFLIGHT_WARNING}`);
    }
  }
  return warnings.sort();
}
