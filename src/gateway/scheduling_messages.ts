/** The scheduling state as `GatewayControlService` says it. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Replicas } from "../config/mod.ts";
import type {
  GetSchedulingStatusResponseSchema,
  ModelSchedulingStatusSchema,
  RepackStatusSchema,
  SchedulingPolicySchema,
  WorkerSchedulingStatusSchema,
} from "../protocol/mod.ts";
import type {
  ModelPackingStatus,
  RepackStatus,
  SchedulingControl,
  WorkerPackingStatus,
} from "./packing/mod.ts";
import { ALL_REPLICAS } from "./scheduling_changes.ts";

/** The friendly name of the worker at an address; empty when it has none. */
export type WorkerNames = (worker: string) => string;

/** Everything there is to say. */
export function statusMessage(
  mode: string,
  control: SchedulingControl,
  nameOf: WorkerNames,
): MessageInitShape<typeof GetSchedulingStatusResponseSchema> {
  return {
    mode,
    policy: policyMessage(control),
    repack: repackMessage(control.repack),
    models: control.models().map((model) => modelMessage(model, nameOf)),
    workers: control.workers().map((worker) => workerMessage(worker, nameOf)),
    warnings: control.warnings(),
  };
}

/** The complete policy in force. */
export function policyMessage(
  control: SchedulingControl,
): MessageInitShape<typeof SchedulingPolicySchema> {
  const { policy } = control;
  return {
    rebalanceComputeSeconds: policy.rebalanceComputeSeconds,
    firstRebalanceComputeSeconds: policy.firstRebalanceComputeSeconds,
    hysteresis: policy.hysteresis,
    emaHalflifeComputeSeconds: policy.emaHalflifeComputeSeconds,
    defaultReplicas: replicasValue(policy.defaultReplicas),
    routingPolicy: policy.routingPolicy,
    routingFillFactor: policy.routingFillFactor,
    routingFillMode: policy.routingFillMode,
    compactionMode: policy.compactionMode,
    compactionInterval: BigInt(policy.compactionInterval),
    forbidMemoryOversubscription: policy.forbidMemoryOversubscription,
    generation: BigInt(control.generation),
    workBasis: policy.workBasis,
  };
}

/** The repack block. */
export function repackMessage(repack: RepackStatus): MessageInitShape<typeof RepackStatusSchema> {
  const { last } = repack;
  return {
    lastRepackUnixSeconds: last?.unixSeconds ?? 0,
    lastRepackWallElapsedSeconds: last?.wallElapsedSeconds ?? 0,
    lastRepackComputeSeconds: last?.computeSeconds ?? 0,
    lastTrigger: last?.trigger ?? "none",
    lastModelsPlaced: BigInt(last?.modelsPlaced ?? 0),
    lastModelsMoved: BigInt(last?.modelsMoved ?? 0),
    repackCount: BigInt(repack.count),
    computeAccumulatedSeconds: repack.computeAccumulatedSeconds,
    activeThresholdSeconds: repack.activeThresholdSeconds,
    firstTickRepackDone: repack.isFirstTickRepackDone,
    lastTickUnixSeconds: repack.lastTickUnixSeconds,
    repacksSinceCompaction: BigInt(repack.repacksSinceCompaction),
    operatorRepacksRequested: BigInt(repack.operatorRequested),
    operatorRepacksCompleted: BigInt(repack.operatorCompleted),
  };
}

/** A count, -1 for every ready worker, 0 for no override. */
export function replicasValue(replicas: Replicas | undefined): bigint {
  return replicas === "all" ? ALL_REPLICAS : BigInt(replicas ?? 0);
}

function modelMessage(
  model: ModelPackingStatus,
  nameOf: WorkerNames,
): MessageInitShape<typeof ModelSchedulingStatusSchema> {
  return {
    name: model.name,
    configuredReplicas: replicasValue(model.configuredReplicas),
    effectiveReplicas: BigInt(model.effectiveReplicas),
    replicas: model.replicas.map(({ worker, weight, outstanding, routedTotal }) => ({
      worker,
      weight,
      outstanding: BigInt(outstanding),
      routedTotal: BigInt(routedTotal),
      workerName: nameOf(worker),
    })),
    utilization: model.utilization,
    arrivalRate: model.arrivalRate,
    costSeconds: model.costSeconds,
    maxBatch: BigInt(model.maxBatchSize),
    fillMode: model.fillMode ?? "unknown",
    fillQuantum: BigInt(model.fillQuantum),
    weightNbytes: BigInt(model.weightBytes),
    placed: model.isPlaced,
    drifted: model.isDrifted,
  };
}

function workerMessage(
  worker: WorkerPackingStatus,
  nameOf: WorkerNames,
): MessageInitShape<typeof WorkerSchedulingStatusSchema> {
  const { assignedWeightBytes, weightBudgetBytes } = worker;
  return {
    worker: worker.worker,
    ready: worker.isReady,
    modelsPlaced: BigInt(worker.modelsPlaced),
    inflightCompute: worker.inflightWork,
    assignedWeightBytes: BigInt(assignedWeightBytes),
    weightBudgetBytes: BigInt(weightBudgetBytes),
    oversubscribed: weightBudgetBytes > 0 && assignedWeightBytes > weightBudgetBytes,
    workerName: nameOf(worker.worker),
  };
}
