/** `lpt_packing`: every model has few workers, chosen by the planner; its requests fill them in batches. */

import type { WorkBasis } from "../../config/mod.ts";
import type { FleetReport, RoutingTable, WorkerId } from "../fleet.ts";
import { inflightWarnings, PackingControl, type PackingSubject } from "../packing/control.ts";
import type { SchedulingControl } from "../packing/control_types.ts";
import { PackingPlanner } from "../packing/planner.ts";
import { SchedulingPolicy } from "../packing/policy.ts";
import { FILL_CHOICES } from "./fill_modes.ts";
import type { ManagedRouter, RouterOptions, RouterReadings } from "./managed_router.ts";
import { packingReadings } from "./packing_readings.ts";
import { substitutes } from "./substitutes.ts";
import { ModelRoute, Replica, ROUTE_WEIGHTS, type RouteWeight } from "./replicas.ts";
import type { BatchAxis, Reservation } from "./router.ts";
import { WorkerLoads } from "./worker_load.ts";

/** More rows than any request has; a larger claim would only spoil the sums. */
const MAX_ITEMS = 2 ** 31;
const DEFAULT_MAX_WORKER_SHARE = 0.8;

/**
 * Joins the plan with what is in flight. A model that is served but not placed yet goes to all of its
 * workers; one whose placed workers have all gone has as many substitutes, until they return or it is
 * placed again.
 */
export class LptPackingRouter implements ManagedRouter, PackingSubject {
  readonly wantsReports = true;
  readonly control: SchedulingControl;
  readonly policy: SchedulingPolicy;
  readonly planner: PackingPlanner;
  readonly routes = new Map<string, ModelRoute>();
  readonly loads = new WorkerLoads();
  #table: RoutingTable = { routes: new Map(), ready: [] };
  #basis: WorkBasis;
  #weigh: RouteWeight;
  #isByLoad: boolean;

  constructor(options: RouterOptions) {
    const { scheduling, log } = options;
    this.policy = new SchedulingPolicy(scheduling);
    this.planner = new PackingPlanner({
      policy: this.policy,
      log,
      now: options.now,
      unixNow: options.unixNow,
      compact: options.compact ?? (() => {}),
    });
    this.control = new PackingControl(this, log);
    this.#basis = scheduling.workBasis;
    this.#weigh = ROUTE_WEIGHTS[this.#basis];
    this.#isByLoad = scheduling.routingPolicy === "fill_least";
    if (scheduling.maxWorkerShare !== DEFAULT_MAX_WORKER_SHARE) {
      log.warn(
        "scheduling.max_worker_share is advisory and changes nothing; use replicas to split a model",
        {
          max_worker_share: scheduling.maxWorkerShare,
        },
      );
    }
    for (const warning of inflightWarnings(this.policy)) log.warn(warning);
  }

  batchAxisOf(model: string): BatchAxis | undefined {
    return this.planner.costs.models.get(model)?.batchAxis;
  }

  arrived(model: string): void {
    // Names that nobody serves are not counted: they would make the table grow without bound.
    const route = this.routes.get(model);
    if (route !== undefined) route.arrivals.count++;
  }

  reserve(model: string, items: number): Reservation | undefined {
    const route = this.routes.get(model);
    if (route === undefined || route.live.length === 0) return undefined;
    const counted = items < MAX_ITEMS ? items : MAX_ITEMS;
    const index = route.live.length === 1
      ? 0
      : FILL_CHOICES[route.plan.mode](route, counted, this.#isByLoad);
    return new Placed(this, route, {
      replica: route.live[index]!,
      items: counted,
      units: this.#weigh(route, counted),
    });
  }

  discovered(table: RoutingTable): void {
    this.#table = table;
    this.#rebuild();
  }

  report(report: FleetReport): void {
    const hasMoved = this.planner.tick(report);
    if (hasMoved) { for (const route of this.routes.values()) route.endRun(); }
    this.refresh();
  }

  /** Brings every route up to date with the plan and the policy. */
  refresh(): void {
    const { live } = this.policy;
    this.#basis = live.workBasis;
    this.#weigh = ROUTE_WEIGHTS[live.workBasis];
    this.#isByLoad = live.routingPolicy === "fill_least";
    this.#rebuild();
  }

  serves(model: string): boolean {
    return (this.#table.routes.get(model)?.length ?? 0) > 0;
  }

  /** The replica of a model on a worker, which may be one that it was not given. */
  replicaOf(route: ModelRoute, worker: WorkerId): Replica {
    let replica = route.replicas.get(worker);
    if (replica === undefined) {
      route.replicas.set(worker, replica = new Replica(this.loads.of(worker)));
    }
    return replica;
  }

  readings(): RouterReadings {
    return packingReadings(this, this.#basis);
  }

  #rebuild(): void {
    const { placement, costs } = this.planner;
    for (const [name, serving] of this.#table.routes) {
      let route = this.routes.get(name);
      if (route === undefined) {
        this.routes.set(name, route = new ModelRoute(name, this.planner.demand.counterOf(name)));
      }
      const planned = placement.get(name) ?? [];
      const placed = planned.filter((worker) => serving.includes(worker));
      const workers = placed.length > 0
        ? placed
        : planned.length > 0
        ? substitutes(name, serving, planned.length)
        : serving;
      route.setLive(
        workers.map((worker) => this.replicaOf(route, worker)),
        workers === serving ? [] : serving.filter((worker) => !workers.includes(worker)),
      );
      route.setPlan(this.policy.fillPlanOf(name, costs.models.get(name)?.maxBatchSize));
      route.itemCost = costs.itemCostOf(name);
      route.requestCost = costs.requestCostOf(name);
    }
    this.#forget();
  }

  /** Drops what is idle and belongs to workers or models that have left. */
  #forget(): void {
    const { placement, demand } = this.planner;
    // A worker may be routed to while it is not ready: one missed probe does not take its routes.
    const ready = new Set([...this.#table.ready, ...[...this.#table.routes.values()].flat()]);
    for (const [name, route] of this.routes) {
      if (!this.#table.routes.has(name)) route.setLive([], []);
      const placed = placement.get(name);
      for (const [worker, { requests }] of route.replicas) {
        const isWanted = requests > 0 || ready.has(worker) || placed?.includes(worker) === true;
        if (!isWanted) route.replicas.delete(worker);
      }
      const isServed = this.#table.routes.has(name) || placed !== undefined;
      if (!isServed && [...route.replicas.values()].every(({ requests }) => requests === 0)) {
        this.routes.delete(name);
        demand.forget(name);
      }
    }
    const kept = new Set(ready);
    // A load is shared by the replicas on its worker, so it lives as long as any of them.
    for (const { replicas } of this.routes.values()) {
      for (const worker of replicas.keys()) kept.add(worker);
    }
    this.loads.retain(kept);
  }
}

/** What a request was charged, and where. */
interface Charged {
  readonly replica: Replica;
  readonly items: number;
  readonly units: number;
}

class Placed implements Reservation {
  readonly first: WorkerId;
  readonly #router: LptPackingRouter;
  readonly #route: ModelRoute;
  readonly #items: number;
  readonly #units: number;
  #replica: Replica | undefined;
  #workers: readonly WorkerId[] | undefined;

  constructor(router: LptPackingRouter, route: ModelRoute, { replica, items, units }: Charged) {
    this.first = replica.worker;
    this.#router = router;
    this.#route = route;
    this.#items = items;
    this.#units = units;
    this.#replica = replica;
    this.#add(replica);
  }

  /** Made when it is asked for: most requests need only the first. */
  get workers(): readonly WorkerId[] {
    return this.#workers ??= this.#route.failoverOrder(this.first);
  }

  moveTo(worker: WorkerId): void {
    const from = this.#replica;
    if (from === undefined || from.worker === worker) return;
    this.#remove(from);
    this.#replica = this.#router.replicaOf(this.#route, worker);
    this.#add(this.#replica);
  }

  release(): void {
    if (this.#replica === undefined) return;
    this.#remove(this.#replica);
    this.#replica.routed++;
    this.#replica = undefined;
  }

  #add(replica: Replica): void {
    replica.add(this.#items, this.#route.plan.quantum);
    replica.load.add(this.#units);
  }

  #remove(replica: Replica): void {
    replica.remove(this.#items, this.#route.plan.quantum);
    replica.load.remove(this.#units);
  }
}
