/**
 * The typed configuration of the gateway, as `gateway.yml`, `REACTANT_GATEWAY_*` and flags give it.
 */

/** How the gateway chooses a worker. */
export type SchedulingMode = "round_robin" | "least_outstanding" | "lpt_packing";
/** What counts as load. */
export type WorkBasis = "compute" | "items" | "requests";
/** How ties between replicas are broken when a new run opens. */
export type RoutingPolicy = "fill_least" | "fill_rr";
/** How a model's requests are spread over its replicas. */
export type FillMode = "run" | "spread" | "inflight";
/** When workers are told to compact after a repack. */
export type CompactionMode = "off" | "eager" | "scheduled";
/** A number of replicas, or every ready worker. */
export type Replicas = number | "all";

/** What one model overrides; `undefined` inherits. */
export interface ModelSchedulingConfig {
  readonly replicas: Replicas | undefined;
  readonly fillMode: FillMode | undefined;
  readonly fillFactor: number | undefined;
}

/** The `scheduling` block. */
export interface SchedulingConfig {
  readonly mode: SchedulingMode;
  readonly workBasis: WorkBasis;
  readonly rebalanceComputeSeconds: number;
  readonly firstRebalanceComputeSeconds: number;
  /** 0: as `rebalanceComputeSeconds`. */
  readonly emaHalflifeComputeSeconds: number;
  readonly hysteresis: number;
  readonly maxWorkerShare: number;
  readonly defaultReplicas: Replicas;
  readonly routingFillFactor: number;
  readonly routingPolicy: RoutingPolicy;
  readonly routingFillMode: FillMode;
  readonly forbidMemoryOversubscription: boolean;
  readonly compactionMode: CompactionMode;
  /** Repacks between compactions; 0: never. */
  readonly compactionInterval: number;
  readonly models: ReadonlyMap<string, ModelSchedulingConfig>;
}
