/** Adds up what several workers counted of the same models. */

import { create } from "@bufbuild/protobuf";
import {
  type InferBatchStatistics,
  type InferStatistics,
  InferStatisticsSchema,
  type ModelStatistics,
  ModelStatisticsSchema,
  type StatisticDuration,
  StatisticDurationSchema,
} from "../protocol/mod.ts";

/** One entry per model and version, sorted; the last inference is that of whoever had it last. */
export function sumStatistics(all: Iterable<ModelStatistics>): ModelStatistics[] {
  const sums = new Map<string, ModelStatistics>();
  for (const statistics of all) {
    const key = `${statistics.name}\u0000${statistics.version}`;
    const sum = sums.get(key);
    sums.set(key, sum === undefined ? statistics : add(sum, statistics));
  }
  return [...sums.entries()].sort(([a], [b]) => a < b ? -1 : 1).map(([, sum]) => sum);
}

function add(a: ModelStatistics, b: ModelStatistics): ModelStatistics {
  return create(ModelStatisticsSchema, {
    name: a.name,
    version: a.version,
    lastInference: a.lastInference > b.lastInference ? a.lastInference : b.lastInference,
    inferenceCount: a.inferenceCount + b.inferenceCount,
    executionCount: a.executionCount + b.executionCount,
    inferenceStats: addInference(a.inferenceStats, b.inferenceStats),
    batchStats: addBatches([...a.batchStats, ...b.batchStats]),
    memoryUsage: [...a.memoryUsage, ...b.memoryUsage],
    responseStats: { ...a.responseStats, ...b.responseStats },
  });
}

const DURATIONS = [
  "success",
  "fail",
  "queue",
  "computeInput",
  "computeInfer",
  "computeOutput",
  "cacheHit",
  "cacheMiss",
] as const;

function addInference(
  a: InferStatistics | undefined,
  b: InferStatistics | undefined,
): InferStatistics | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const sum = create(InferStatisticsSchema);
  for (const key of DURATIONS) sum[key] = addDuration(a[key], b[key]);
  return sum;
}

function addBatches(all: readonly InferBatchStatistics[]): InferBatchStatistics[] {
  const sums = new Map<bigint, InferBatchStatistics>();
  for (const batch of all) {
    const sum = sums.get(batch.batchSize);
    sums.set(
      batch.batchSize,
      sum === undefined ? batch : {
        ...sum,
        computeInput: addDuration(sum.computeInput, batch.computeInput),
        computeInfer: addDuration(sum.computeInfer, batch.computeInfer),
        computeOutput: addDuration(sum.computeOutput, batch.computeOutput),
      },
    );
  }
  return [...sums.values()].sort((a, b) => Number(a.batchSize - b.batchSize));
}

function addDuration(
  a: StatisticDuration | undefined,
  b: StatisticDuration | undefined,
): StatisticDuration | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return create(StatisticDurationSchema, { count: a.count + b.count, ns: a.ns + b.ns });
}
