/** The live state of one model's replicas. */

import type { WorkBasis } from "../../config/mod.ts";
import type { WorkerId } from "../fleet.ts";
import type { ArrivalCounter } from "../packing/demand.ts";
import type { FillPlan } from "../packing/fill_plan.ts";
import { chargeUnits, type WorkerLoad } from "./worker_load.ts";

/** One model on one worker. */
export class Replica {
  readonly load: WorkerLoad;
  /** Items in flight. */
  items = 0;
  /** Requests in flight. */
  requests = 0;
  /**
   * Requests that ended here. Counted at the end, because a try that moves on would otherwise have to
   * be taken back, and a counter must not go down.
   */
  routed = 0;
  /** Full quanta in flight; kept here so that choosing does not divide. */
  quanta = 0;

  constructor(load: WorkerLoad) {
    this.load = load;
  }

  get worker(): WorkerId {
    return this.load.worker;
  }

  add(items: number, quantum: number): void {
    this.items += items;
    this.requests++;
    this.quanta = Math.floor(this.items / quantum);
  }

  remove(items: number, quantum: number): void {
    this.requests--;
    this.items = this.requests === 0 ? 0 : this.items - items;
    this.quanta = Math.floor(this.items / quantum);
  }
}

/** One model: its replicas and where the next request goes. */
export class ModelRoute {
  readonly name: string;
  readonly arrivals: ArrivalCounter;
  /** Every replica there is or was, by worker. */
  readonly replicas = new Map<WorkerId, Replica>();
  /** The ones to choose from, sorted by worker. */
  live: readonly Replica[] = [];
  /** Workers that serve the model too, but were not given it: the last resort. */
  outside: readonly WorkerId[] = [];
  plan: FillPlan = { mode: "run", quantum: 1 };
  /** Device-seconds. */
  itemCost = 1;
  requestCost = 1;
  /** Index in `live` at which ties are broken first. */
  cursor = 0;
  /** Index in `live` of the replica whose run is open; -1: none. */
  target = -1;
  /** Items the open run has been given. */
  runItems = 0;

  constructor(name: string, arrivals: ArrivalCounter) {
    this.name = name;
    this.arrivals = arrivals;
  }

  /** Replaces the choices. The cursor stays, an open run ends. */
  setLive(live: readonly Replica[], outside: readonly WorkerId[]): void {
    this.outside = outside;
    const isSame = live.length === this.live.length &&
      live.every((replica, index) => replica === this.live[index]);
    if (isSame) return;
    this.live = live;
    if (live.length > 0) this.cursor %= live.length;
    this.endRun();
  }

  endRun(): void {
    this.target = -1;
    this.runItems = 0;
  }

  setPlan(plan: FillPlan): void {
    this.plan = plan;
    for (const replica of this.replicas.values()) {
      replica.quanta = Math.floor(replica.items / plan.quantum);
    }
  }

  /** The chosen replica, then the others by what they have in flight, then the last resort. */
  failoverOrder(first: WorkerId): WorkerId[] {
    const others = this.live.length === 1 ? [] : this.live.filter(({ worker }) => worker !== first);
    // The list is sorted by worker and sorting keeps the order of equals.
    if (others.length > 1) others.sort((a, b) => a.quanta - b.quanta || a.items - b.items);
    const workers = [first];
    for (const { worker } of others) workers.push(worker);
    for (const worker of this.outside) if (worker !== first) workers.push(worker);
    return workers;
  }
}

/** The load units of a request of `items` rows. */
export type RouteWeight = (route: ModelRoute, items: number) => number;

/** Every basis by its configured name. A request without a cost counts by the cost of the others. */
export const ROUTE_WEIGHTS = {
  compute: (route, items) => chargeUnits(items * route.itemCost),
  items: (_route, items) => chargeUnits(items),
  /** What a request of this model costs, whatever its size. */
  requests: (route) => chargeUnits(route.requestCost),
} satisfies Record<WorkBasis, RouteWeight>;
