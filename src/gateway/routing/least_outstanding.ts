/** `least_outstanding`: a request goes where the least work is in flight. */

import type { SchedulingConfig } from "../../config/mod.ts";
import type { FleetReport, RoutingTable, WorkerId } from "../fleet.ts";
import type { ManagedRouter, RouterOptions, RouterReadings } from "./managed_router.ts";
import { RotationPool, type Rotations } from "./rotations.ts";
import type { BatchAxis, Reservation } from "./router.ts";
import { WORK_WEIGHTS, type WorkWeight } from "./work_weight.ts";
import { WorkCosts } from "./work_costs.ts";
import { type WorkerLoad, WorkerLoads } from "./worker_load.ts";

interface Candidates {
  rotations: Rotations;
  /** In the order of the rotations; made when the model is first asked for. */
  loads: readonly WorkerLoad[] | undefined;
  /** Where the search starts: behind the last choice, so that ties rotate. */
  next: number;
}

/**
 * The least loaded worker over all models; among equals, the first one behind the model's last choice.
 * The others follow in rotation for failover. Bases: see `WORK_WEIGHTS`; `requests` never asks the
 * workers for anything.
 */
export class LeastOutstandingRouter implements ManagedRouter {
  readonly wantsReports: boolean;
  readonly control = undefined;
  readonly #scheduling: SchedulingConfig;
  readonly #halflife: number;
  readonly #weigh: WorkWeight;
  readonly #costs = new WorkCosts();
  readonly #loads = new WorkerLoads();
  #models = new Map<string, Candidates>();

  constructor({ scheduling, log }: RouterOptions) {
    this.#scheduling = scheduling;
    this.#halflife = scheduling.emaHalflifeComputeSeconds || scheduling.rebalanceComputeSeconds;
    this.#weigh = WORK_WEIGHTS[scheduling.workBasis];
    this.wantsReports = scheduling.workBasis !== "requests";
    log.info("Routing by least outstanding work", { work_basis: scheduling.workBasis });
  }

  batchAxisOf(model: string): BatchAxis | undefined {
    return this.#costs.models.get(model)?.batchAxis;
  }

  arrived(_model: string): void {}

  reserve(model: string, items: number): Reservation | undefined {
    const candidates = this.#models.get(model);
    if (candidates === undefined) return undefined;
    const loads = candidates.loads ??= candidates.rotations.workers
      .map((worker) => this.#loads.of(worker));
    const count = loads.length;
    let chosen = candidates.next;
    let least = loads[chosen]!.units;
    for (let step = 1, index = chosen; step < count && least > 0; step++) {
      index = index + 1 === count ? 0 : index + 1;
      const { units } = loads[index]!;
      if (units < least) {
        least = units;
        chosen = index;
      }
    }
    candidates.next = chosen + 1 === count ? 0 : chosen + 1;
    return new Charge(
      candidates.rotations.from(chosen),
      loads[chosen]!,
      this.#weigh(model, items, this.#costs),
      this.#loads,
    );
  }

  discovered(table: RoutingTable): void {
    this.#loads.retain(new Set(table.ready));
    const pool = new RotationPool();
    const models = new Map<string, Candidates>();
    for (const [model, workers] of table.routes) {
      if (workers.length === 0) continue;
      const rotations = pool.of(workers);
      const before = this.#models.get(model);
      const next = before === undefined
        ? 0
        : rotations.indexAtOrAfter(before.rotations.workers[before.next]!);
      models.set(model, { rotations, loads: undefined, next });
    }
    this.#models = models;
  }

  report(report: FleetReport): void {
    this.#costs.observe(report, this.#halflife);
  }

  readings(): RouterReadings {
    return {
      workBasis: this.#scheduling.workBasis,
      inflightWork: this.#loads.readings(),
      packing: undefined,
    };
  }
}

/** A choice and what it was charged. */
class Charge implements Reservation {
  readonly workers: readonly WorkerId[];
  #load: WorkerLoad | undefined;
  readonly #units: number;
  readonly #loads: WorkerLoads;

  constructor(
    workers: readonly WorkerId[],
    load: WorkerLoad,
    units: number,
    loads: WorkerLoads,
  ) {
    this.workers = workers;
    this.#load = load;
    this.#units = units;
    this.#loads = loads;
    load.add(units);
  }

  get first(): WorkerId {
    return this.workers[0]!;
  }

  moveTo(worker: WorkerId): void {
    if (this.#load === undefined || this.#load.worker === worker) return;
    this.#load.remove(this.#units);
    this.#load = this.#loads.of(worker);
    this.#load.add(this.#units);
  }

  release(): void {
    this.#load?.remove(this.#units);
    this.#load = undefined;
  }
}
