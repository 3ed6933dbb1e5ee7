/**
 * The plan of a packing fleet: takes in polls, learns demand and cost, decides when to place models anew
 * and where. It knows nothing of requests in flight; the router asks it for the placement.
 */

import type { Logger } from "../../log.ts";
import type { FleetReport, WorkerId } from "../fleet.ts";
import { WorkCosts } from "../routing/work_costs.ts";
import { compactionOrders } from "./compaction.ts";
import type { CompactionOrder, RepackFacts, RepackStatus, RepackTrigger } from "./control_types.ts";
import { Demand } from "./demand.ts";
import { Members } from "./members.ts";
import {
  pack,
  type PackedWorker,
  type PackInput,
  packNewcomers,
  type PackResult,
  type Placement,
} from "./pack.ts";
import type { SchedulingPolicy } from "./policy.ts";
import { RepackSchedule } from "./repack_schedule.ts";

export interface PlannerOptions {
  readonly policy: SchedulingPolicy;
  readonly log: Logger;
  /** Monotonic seconds. */
  readonly now: () => number;
  readonly unixNow: () => number;
  readonly compact: (orders: readonly CompactionOrder[]) => void;
}

/** The demand of one model as the last repack saw it. */
export interface ModelDemand {
  readonly arrivalRate: number;
  /** Arrival rate times cost; 0 while either is unknown. */
  readonly utilization: number;
}

const NO_DEMAND: ModelDemand = { arrivalRate: 0, utilization: 0 };
/** Repack before joining has come to rest when the fleet has grown or shrunk by this factor. */
const UNSETTLED_GROWTH = 2;
/**
 * Least hysteresis when workers join or leave: what has to move moves, and a worker that restarts does
 * not reshuffle the whole fleet twice.
 */
const MEMBERSHIP_HYSTERESIS = 0.25;

/** The moving state behind a placement. One `tick` per poll. */
export class PackingPlanner {
  readonly costs = new WorkCosts();
  readonly demand: Demand;
  readonly schedule = new RepackSchedule();
  /** How often each trigger has repacked; all are there from the start, as counters should be. */
  readonly repacks = new Map<RepackTrigger, number>(
    (["startup", "compute", "operator", "membership"] as const).map((trigger) => [trigger, 0]),
  );
  readonly #options: PlannerOptions;
  readonly #members: Members;
  #placement: Placement = new Map();
  #drifted: ReadonlySet<string> = new Set();
  #packedMembers: readonly WorkerId[] = [];
  #ready: readonly WorkerId[] = [];
  #demands: ReadonlyMap<string, ModelDemand> = new Map();
  #last: RepackFacts | undefined;
  #lastRepackAtSeconds: number;
  #lastTickUnixSeconds = 0;
  #repacksSinceCompaction = 0;

  constructor(options: PlannerOptions) {
    this.#options = options;
    this.#members = new Members(options.log);
    this.#lastRepackAtSeconds = options.now();
    this.demand = new Demand(options.now());
  }

  /** The workers of every model that is placed, drifted models included. */
  get placement(): Placement {
    return this.#placement;
  }

  /** Models that not every worker has. */
  get drifted(): ReadonlySet<string> {
    return this.#drifted;
  }

  /** Workers that answered the last poll, sorted. */
  get ready(): readonly WorkerId[] {
    return this.#ready;
  }

  /** Workers that are packed: ready ones, and those that missed only a poll or two. Sorted. */
  get members(): readonly WorkerId[] {
    return this.#members.workers;
  }

  get status(): RepackStatus {
    return {
      last: this.#last,
      count: this.schedule.count,
      computeAccumulatedSeconds: this.schedule.accumulated,
      activeThresholdSeconds: this.schedule.threshold(this.#options.policy.live),
      isFirstTickRepackDone: this.schedule.isFirstTickRepackDone,
      lastTickUnixSeconds: this.#lastTickUnixSeconds,
      repacksSinceCompaction: this.#repacksSinceCompaction,
      operatorRequested: this.schedule.requested,
      operatorCompleted: this.schedule.completed,
    };
  }

  demandOf(model: string): ModelDemand {
    return this.#demands.get(model) ?? NO_DEMAND;
  }

  /** What the placement puts on every member, by the weights last reported; sorted. */
  assigned(): { worker: WorkerId; weightBytes: number; budgetBytes: number; models: number }[] {
    return this.#members.reports.map(({ worker, weightBudgetBytes }) => {
      let weightBytes = 0;
      let models = 0;
      for (const [model, workers] of this.#placement) {
        if (!workers.includes(worker)) continue;
        weightBytes += this.costs.models.get(model)?.weightBytes ?? 0;
        models++;
      }
      return { worker, weightBytes, budgetBytes: weightBudgetBytes, models };
    });
  }

  /** Takes in one poll. Returns whether the placement is another one now. */
  tick(report: FleetReport): boolean {
    const { policy, unixNow } = this.#options;
    const { live } = policy;
    const requested = this.schedule.requested;
    this.#members.observe(report);
    this.#ready = report.workers.map(({ worker }) => worker).sort();
    this.costs.observe(report, live.emaHalflifeComputeSeconds);
    this.#lastTickUnixSeconds = unixNow();
    const members = this.#members.workers;
    if (members.length === 0) return false;
    const growth = members.length / Math.max(1, this.#packedMembers.length);
    const trigger = this.schedule.due({
      fleetCompute: this.costs.fleetCompute,
      hasOtherMembers: members.join() !== this.#packedMembers.join(),
      isMembershipSettled: !this.#members.hasChanged || growth >= UNSETTLED_GROWTH ||
        growth <= 1 / UNSETTLED_GROWTH,
    }, live);
    if (trigger === undefined) return this.#placeNewcomers();
    this.#repack(trigger, members);
    this.schedule.done(trigger, requested);
    return true;
  }

  #repack(trigger: RepackTrigger, members: readonly WorkerId[]): void {
    const { policy, now, unixNow } = this.#options;
    const nowSeconds = now();
    const computeSeconds = this.schedule.accumulated;
    const { common, drifted } = this.#sortModels();
    this.#updateDemand(trigger, nowSeconds);
    const before = this.#placement;
    const { hysteresis } = policy.live;
    const result = pack({
      ...this.#packInput(common, before),
      hysteresis: trigger === "membership"
        ? Math.max(hysteresis, MEMBERSHIP_HYSTERESIS)
        : hysteresis,
    });
    this.#placement = new Map([...result.placement, ...drifted]);
    this.#drifted = new Set(drifted.keys());
    this.#packedMembers = members;
    this.#last = {
      unixSeconds: unixNow(),
      wallElapsedSeconds: nowSeconds - this.#lastRepackAtSeconds,
      computeSeconds,
      trigger,
      modelsPlaced: this.#placement.size,
      modelsMoved: result.moved.length,
    };
    this.#lastRepackAtSeconds = nowSeconds;
    this.repacks.set(trigger, (this.repacks.get(trigger) ?? 0) + 1);
    this.#logRepack(this.#last, result);
    // At the start nothing has been placed that could now be in the way.
    if (trigger !== "startup") this.#compact(before);
  }

  /** Models that came up or went since the last poll are placed or dropped; nothing else moves. */
  #placeNewcomers(): boolean {
    const { common, drifted } = this.#sortModels();
    const isKnown = (model: string) => this.#placement.has(model) && !this.#drifted.has(model);
    const isSame = common.every(isKnown) && drifted.size === this.#drifted.size &&
      common.length + drifted.size === this.#placement.size &&
      [...drifted].every(([model, workers]) =>
        this.#drifted.has(model) && this.#placement.get(model)?.join() === workers.join()
      );
    if (isSame) return false;
    const before = this.#placement;
    const settled = new Map(
      [...before].filter(([model]) => !this.#drifted.has(model) && !drifted.has(model)),
    );
    this.#placement = new Map([...packNewcomers(this.#packInput(common, settled)), ...drifted]);
    this.#drifted = new Set(drifted.keys());
    this.#options.log.info("Placed models that came or went between repacks", {
      models_added: [...this.#placement.keys()].filter((model) => !before.has(model)).length,
      models_removed: [...before.keys()].filter((model) => !this.#placement.has(model)).length,
      models_drifted: this.#drifted.size,
    });
    return true;
  }

  /** Which models every member has, and where the others are. */
  #sortModels(): { common: string[]; drifted: Map<string, WorkerId[]> } {
    const holders = new Map<string, WorkerId[]>();
    const { reports } = this.#members;
    for (const { worker, models } of reports) {
      for (const { name } of models) {
        const workers = holders.get(name);
        if (workers === undefined) holders.set(name, [worker]);
        else workers.push(worker);
      }
    }
    const common: string[] = [];
    const drifted = new Map<string, WorkerId[]>();
    for (const [model, workers] of holders) {
      if (workers.length === reports.length) common.push(model);
      else drifted.set(model, workers);
    }
    return { common, drifted };
  }

  #packInput(models: readonly string[], previous: Placement): PackInput {
    const { policy } = this.#options;
    return {
      models: models.map((name) => ({
        name,
        utilization: this.demandOf(name).utilization,
        weightBytes: this.costs.models.get(name)?.weightBytes ?? 0,
        replicas: policy.replicasOf(name),
      })),
      workers: this.#members.reports
        .map(({ worker, weightBudgetBytes }) => ({ worker, budgetBytes: weightBudgetBytes })),
      previous,
      hysteresis: policy.live.hysteresis,
      forbidMemoryOversubscription: policy.live.forbidMemoryOversubscription,
    };
  }

  #updateDemand(trigger: RepackTrigger, nowSeconds: number): void {
    const { live } = this.#options.policy;
    const fleetCompute = this.costs.fleetCompute;
    const moment = { nowSeconds, fleetCompute, halflife: live.emaHalflifeComputeSeconds };
    // A repack that comes early only looks: the requests counted so far go on counting.
    const isFull = this.demand.windowCompute(fleetCompute) >= this.schedule.threshold(live);
    const rates = trigger === "compute" || isFull
      ? this.demand.commit(moment)
      : this.demand.rates(moment);
    this.#demands = new Map(
      [...rates].map(([model, arrivalRate]) => {
        const cost = this.costs.models.get(model)?.requestCost ?? 0;
        return [model, { arrivalRate, utilization: Math.max(0, arrivalRate * cost) }];
      }),
    );
  }

  #compact(before: Placement): void {
    const { policy: { live }, compact } = this.#options;
    if (live.compactionMode === "off" || live.compactionInterval <= 0) return;
    this.#repacksSinceCompaction++;
    const orders = compactionOrders({
      mode: live.compactionMode,
      interval: live.compactionInterval,
      repacks: this.#repacksSinceCompaction,
      before,
      after: this.#placement,
      workers: this.#ready,
    });
    if (orders.length === 0) return;
    this.#repacksSinceCompaction = 0;
    compact(orders);
  }

  #logRepack(facts: RepackFacts, result: PackResult): void {
    const { log, policy } = this.#options;
    log.info("Placed the models", {
      trigger: facts.trigger,
      models_placed: facts.modelsPlaced,
      models_moved: facts.modelsMoved,
      models_held: result.held,
      models_repaired: result.repaired,
      largest_improvement: Number(result.largestImprovement.toFixed(4)),
      hysteresis: policy.live.hysteresis,
      compute_seconds: Number(facts.computeSeconds.toFixed(3)),
      wall_seconds: Number(facts.wallElapsedSeconds.toFixed(3)),
    });
    for (const worker of result.workers) this.#warnOfOverfill(worker);
    if (this.#drifted.size > 0) {
      log.warn("Some models are not on every worker; they are spread over those that have them", {
        models: [...this.#drifted].sort().slice(0, 10),
        count: this.#drifted.size,
      });
    }
  }

  #warnOfOverfill({ worker, isOversubscribed, weightBytes, budgetBytes }: PackedWorker): void {
    if (!isOversubscribed) return;
    this.#options.log.warn(
      "A worker is given more weights than its budget holds; they will be loaded again and again",
      { worker, assigned_bytes: weightBytes, budget_bytes: budgetBytes },
    );
  }
}
