/** Per-model totals behind Triton's `ModelStatistics`: kept as numbers, made a message when asked. */

import { create } from "@bufbuild/protobuf";
import {
  type InferBatchStatistics,
  InferBatchStatisticsSchema,
  InferStatisticsSchema,
  type ModelStatistics,
  ModelStatisticsSchema,
  StatisticDurationSchema,
} from "../protocol/mod.ts";
import type { StageSeconds } from "../runtime/mod.ts";

class Total {
  count = 0;
  seconds = 0;

  add(seconds: number, count = 1): void {
    this.count += count;
    this.seconds += seconds;
  }

  message() {
    return create(StatisticDurationSchema, {
      count: BigInt(this.count),
      ns: BigInt(Math.round(this.seconds * 1e9)),
    });
  }
}

/**
 * Totals of one model name. As in Triton, `inferenceCount` counts rows and `executionCount` dispatches,
 * and the stage durations are those of the dispatch a request took part in.
 */
export class InferTotals {
  #inferenceCount = 0;
  #executionCount = 0;
  #lastInferenceMs = 0;
  readonly #success = new Total();
  readonly #fail = new Total();
  readonly #queue = new Total();
  readonly #input = new Total();
  readonly #execute = new Total();
  readonly #output = new Total();
  readonly #batches = new Map<number, { input: Total; execute: Total; output: Total }>();

  /** One request ended, successfully or not, `seconds` after it was received. */
  requestEnded(isSuccess: boolean, seconds: number): void {
    (isSuccess ? this.#success : this.#fail).add(seconds);
    this.#lastInferenceMs = Date.now();
  }

  /** One dispatch ran. */
  dispatched(dispatch: {
    size: number;
    rows: number;
    queueSeconds: readonly number[];
    stages: StageSeconds;
  }): void {
    const { stages } = dispatch;
    const requests = dispatch.queueSeconds.length;
    this.#executionCount++;
    this.#inferenceCount += dispatch.rows;
    for (const seconds of dispatch.queueSeconds) this.#queue.add(seconds);
    this.#input.add(stages.input * requests, requests);
    this.#execute.add(stages.execute * requests, requests);
    this.#output.add(stages.output * requests, requests);
    const size = Math.max(1, dispatch.size);
    let batch = this.#batches.get(size);
    if (!batch) {
      batch = { input: new Total(), execute: new Total(), output: new Total() };
      this.#batches.set(size, batch);
    }
    batch.input.add(stages.input);
    batch.execute.add(stages.execute);
    batch.output.add(stages.output);
  }

  message(name: string): ModelStatistics {
    return create(ModelStatisticsSchema, {
      name,
      lastInference: BigInt(this.#lastInferenceMs),
      inferenceCount: BigInt(this.#inferenceCount),
      executionCount: BigInt(this.#executionCount),
      inferenceStats: create(InferStatisticsSchema, {
        success: this.#success.message(),
        fail: this.#fail.message(),
        queue: this.#queue.message(),
        computeInput: this.#input.message(),
        computeInfer: this.#execute.message(),
        computeOutput: this.#output.message(),
        cacheHit: new Total().message(),
        cacheMiss: new Total().message(),
      }),
      batchStats: [...this.#batches].sort(([a], [b]) => a - b).map((
        [size, { input, execute, output }],
      ): InferBatchStatistics =>
        create(InferBatchStatisticsSchema, {
          batchSize: BigInt(size),
          computeInput: input.message(),
          computeInfer: execute.message(),
          computeOutput: output.message(),
        })
      ),
    });
  }
}
