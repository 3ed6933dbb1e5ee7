/** What the gateway needs around a router: how one is made, and the figures it shows. */

import type { SchedulingConfig, WorkBasis } from "../../config/mod.ts";
import type { Logger } from "../../log.ts";
import type { CompactionOrder, SchedulingControl } from "../packing/control_types.ts";
import type { WorkerId } from "../fleet.ts";
import type { Router } from "./router.ts";

/** What a router is made from. */
export interface RouterOptions {
  readonly scheduling: SchedulingConfig;
  readonly log: Logger;
  /** Monotonic seconds, any origin; the clock of `FleetReport.atSeconds`. */
  readonly now: () => number;
  /** Seconds since 1970, for what is shown to people. */
  readonly unixNow: () => number;
  /**
   * Told after a repack which workers should compact. Must not throw; the sending, with its failures,
   * is the receiver's. Only `lpt_packing` calls it.
   */
  readonly compact?: (orders: readonly CompactionOrder[]) => void;
}

/** A router with its gauges and, where the mode has one, its control. */
export interface ManagedRouter extends Router {
  /** The live figures behind the `gateway_*` metrics, computed at the call. */
  readings(): RouterReadings;
  /** What operators may see and change; `undefined` in modes without placement. */
  readonly control: SchedulingControl | undefined;
}

/** Makes a router. */
export type RouterFactory = (options: RouterOptions) => ManagedRouter;

/** The figures of one router. */
export interface RouterReadings {
  /** What `inflightWork` counts; `undefined` when the mode does not look at load. */
  readonly workBasis: WorkBasis | undefined;
  /** `gateway_worker_inflight_work`: exactly 0 for an idle worker. */
  readonly inflightWork: readonly { readonly worker: WorkerId; readonly work: number }[];
  /** Set under `lpt_packing` only. */
  readonly packing: PackingReadings | undefined;
}

/** The series that exist under `lpt_packing` only. */
export interface PackingReadings {
  /** Every pair that is placed or was; `weight` is 0 once it no longer is. */
  readonly replicas: readonly {
    readonly model: string;
    readonly worker: WorkerId;
    /** `gateway_placement_weight`. */
    readonly weight: number;
    /** `gateway_replica_outstanding`, items. */
    readonly outstanding: number;
    /** `gateway_replica_routed_total`, requests; only grows. */
    readonly routedTotal: number;
  }[];
  readonly models: readonly {
    readonly model: string;
    /** `gateway_model_replicas`; 0 once unplaced. */
    readonly replicas: number;
    /** `gateway_model_utilization`, as of the last repack. */
    readonly utilization: number;
    /** `gateway_model_fill_quantum`, items. */
    readonly fillQuantum: number;
  }[];
  /** `gateway_repacks_total` by trigger. */
  readonly repacks: ReadonlyMap<string, number>;
}
