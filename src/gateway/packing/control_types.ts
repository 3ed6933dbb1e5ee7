/** What operators may see and change of a packing fleet. */

import type { FillMode, ModelSchedulingConfig, Replicas } from "../../config/mod.ts";
import type { WorkerId } from "../fleet.ts";
import type { LivePolicy, ModelPolicyChange } from "./policy.ts";

/** One worker that should free its device memory and load these models again. */
export interface CompactionOrder {
  readonly worker: WorkerId;
  /** Empty under `eager`. */
  readonly reloadModels: readonly string[];
}

/**
 * Why models were placed anew: at the first poll, because the compute budget was used up, because an
 * operator asked, or because workers joined or left.
 */
export type RepackTrigger = "startup" | "compute" | "operator" | "membership";

/** The last repack and what leads to the next one. Compute in device-seconds of the whole fleet. */
export interface RepackStatus {
  /** `undefined` before the first. */
  readonly last: RepackFacts | undefined;
  readonly count: number;
  readonly computeAccumulatedSeconds: number;
  readonly activeThresholdSeconds: number;
  /** Whether the first repack by compute has happened. */
  readonly isFirstTickRepackDone: boolean;
  /** 0 before the first. */
  readonly lastTickUnixSeconds: number;
  readonly repacksSinceCompaction: number;
  readonly operatorRequested: number;
  readonly operatorCompleted: number;
}

/** One repack. */
export interface RepackFacts {
  readonly unixSeconds: number;
  readonly wallElapsedSeconds: number;
  readonly computeSeconds: number;
  readonly trigger: RepackTrigger;
  readonly modelsPlaced: number;
  readonly modelsMoved: number;
}

/** One replica of a model, placed. */
export interface ReplicaStatus {
  readonly worker: WorkerId;
  readonly weight: number;
  /** Items in flight. */
  readonly outstanding: number;
  /** Requests. */
  readonly routedTotal: number;
}

/** One model. */
export interface ModelPackingStatus {
  readonly name: string;
  /** `undefined`: no override. */
  readonly configuredReplicas: Replicas | undefined;
  readonly effectiveReplicas: number;
  readonly replicas: readonly ReplicaStatus[];
  readonly utilization: number;
  /** Requests per second. */
  readonly arrivalRate: number;
  /** Device-seconds per request. */
  readonly costSeconds: number;
  readonly maxBatchSize: number;
  /** `undefined`: no poll has shown the model. */
  readonly fillMode: FillMode | undefined;
  readonly fillQuantum: number;
  readonly weightBytes: number;
  readonly isPlaced: boolean;
  /** Not every worker has it, so it is spread over those that do. */
  readonly isDrifted: boolean;
}

/** One worker. */
export interface WorkerPackingStatus {
  readonly worker: WorkerId;
  readonly isReady: boolean;
  readonly modelsPlaced: number;
  /** In the units of the work basis. */
  readonly inflightWork: number;
  readonly assignedWeightBytes: number;
  /** 0: unconstrained. */
  readonly weightBudgetBytes: number;
}

/** What a change of one model's settings came to. */
export interface ModelPlacementOutcome {
  readonly configuredReplicas: Replicas | undefined;
  readonly effectiveReplicas: number;
  readonly fillMode: FillMode | undefined;
  readonly fillQuantum: number;
  readonly warnings: readonly string[];
}

/** The control of a mode with placement. Everything is synchronous and in memory. */
export interface SchedulingControl {
  readonly policy: LivePolicy;
  /** Overrides by model. */
  readonly modelPolicies: ReadonlyMap<string, ModelSchedulingConfig>;
  /** Counts accepted changes. */
  readonly generation: number;
  readonly repack: RepackStatus;
  /** Workers that answered the last poll. */
  readonly readyWorkers: readonly WorkerId[];
  /** Whether an operator waits for a repack: the next poll should come early. */
  readonly isRepackPending: boolean;
  /** Sorted by name. */
  models(): ModelPackingStatus[];
  /** Sorted by name. */
  workers(): WorkerPackingStatus[];
  /** What an operator should know, sorted. */
  warnings(): string[];
  /** Whether any ready worker serves the model. */
  serves(model: string): boolean;
  /** Applies values that have been checked. Returns warnings. */
  changePolicy(changes: Partial<LivePolicy>): string[];
  /** Fill changes act at once, the number of replicas at the next repack. */
  changeModel(model: string, change: ModelPolicyChange): ModelPlacementOutcome;
  /** Asks for a repack with the next poll; the answer is its sequence number. */
  requestRepack(): number;
  /** Resolves when the repack with this sequence number, or a later one, is done. */
  whenRepacked(sequence: number): Promise<void>;
}
