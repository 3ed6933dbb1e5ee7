/**
 * One dispatch, from requests taken to requests answered: assembles the batch, runs it, books what it took
 * and cuts the results apart. Where a batch fails, its requests run one by one.
 */

import type { NamedTensor } from "../tensor/mod.ts";
import { concatRows, sliceRows } from "./batch_assembly.ts";
import { type BatchPlan, planBatch } from "./batch_plan.ts";
import type { DecayClock } from "./decay_clock.ts";
import type { ModelQueue, QueuedWork } from "./queue.ts";
import type { ScheduledModel, StageSeconds } from "./scheduled_model.ts";

export interface DispatchRecord {
  readonly model: string;
  readonly size: number;
  readonly rows: number;
  /** From entering the queue to the start of the dispatch, one per request served. */
  readonly queueSeconds: readonly number[];
  readonly computeSeconds: number;
  readonly stages: StageSeconds;
}

export interface BatchRunnerOptions {
  /** Weight of a new measurement in a learned cost. */
  readonly costAlpha: number;
  /** Milliseconds on a monotonic clock. */
  readonly now: () => number;
  readonly queues: ReadonlyMap<string, ModelQueue>;
  readonly decay: DecayClock;
  /** Told of every dispatch that ran. */
  readonly onDispatch?: (record: DispatchRecord) => void;
}

/** Runs the dispatches of one device. */
export class BatchRunner {
  readonly #options: BatchRunnerOptions;
  /** When the device was last done with a dispatch. */
  #freeSinceMs = -Infinity;

  constructor(options: BatchRunnerOptions) {
    this.#options = options;
  }

  /** Runs what was taken from a queue and answers it, one way or the other. */
  async run(
    model: ScheduledModel,
    queue: ModelQueue,
    taken: readonly QueuedWork[],
    plan: BatchPlan,
  ): Promise<void> {
    try {
      await this.#runBatch(model, queue, taken, plan.size);
    } catch (error) {
      if (taken.length === 1) {
        taken[0]!.reject(error);
        return;
      }
      // One request must not fail its neighbours: each gets a dispatch of its own.
      for (const work of taken) {
        try {
          const sizes = model.sizes(work.variantKey) ?? [plan.size];
          const alone = planBatch([work], { sizes, isCoalescable: false, maxRows: undefined });
          await this.#runBatch(model, queue, [work], alone.size);
        } catch (own) {
          work.reject(own);
        }
      }
    }
  }

  async #runBatch(
    model: ScheduledModel,
    queue: ModelQueue,
    taken: readonly QueuedWork[],
    size: number,
  ): Promise<void> {
    const { queues, decay, costAlpha, onDispatch } = this.#options;
    const { variantKey } = taken[0]!;
    const startMs = this.#options.now();
    const inputs = this.#assemble(model, taken, size);
    const targets = targetsOf(taken, size);
    const { outputs, stages, waitSeconds = 0 } = await model.run({
      variantKey,
      size,
      inputs,
      targets,
    });
    const endMs = this.#options.now();
    // Time before the device was done with the dispatch before is that one's, not this one's.
    const computeSeconds = (endMs - Math.max(startMs + 1000 * waitSeconds, this.#freeSinceMs)) /
      1000;
    this.#freeSinceMs = endMs;
    decay.restart(endMs, (scale) => {
      for (const each of queues.values()) each.rescale(scale);
    });
    const rows = taken.reduce((total, work) => total + work.rows, 0);
    queue.record({
      variantKey,
      size,
      rows,
      requests: taken.length,
      computeSeconds,
      scale: decay.scaleAt(endMs),
      costAlpha,
    });
    onDispatch?.({
      model: queue.name,
      size,
      rows,
      queueSeconds: taken.map((work) => (startMs - work.enqueuedMs) / 1000),
      computeSeconds,
      stages,
    });
    let from = 0;
    for (const work of taken) {
      const own = outputs.map((output, index) => {
        const axis = model.outputBatchAxes[index];
        if (axis === undefined || size === 0) return output;
        return compact(sliceRows(output, axis, from, work.rows), output);
      });
      from += work.rows;
      work.resolve(own);
    }
  }

  #assemble(
    model: ScheduledModel,
    taken: readonly QueuedWork[],
    size: number,
  ): readonly NamedTensor[] {
    const first = taken[0]!;
    if (size === 0) return first.inputs;
    return first.inputs.map((input, index) => {
      const axis = model.inputBatchAxes[index];
      if (axis === undefined) return input;
      return concatRows(taken.map((work) => work.inputs[index]!), axis, size);
    });
  }
}

/** Where outputs may go as they are: a request that fills its batch alone may say so. */
function targetsOf(
  taken: readonly QueuedWork[],
  size: number,
): ReadonlyMap<string, Uint8Array> | undefined {
  const only = taken.length === 1 ? taken[0]! : undefined;
  return only && (size === 0 || only.rows === size) ? only.targets : undefined;
}

/** A small slice of a large batch is copied, so that one slow reader does not keep the batch alive. */
function compact(slice: NamedTensor, whole: NamedTensor): NamedTensor {
  if (slice === whole || slice.data.length * 4 > whole.data.length || slice.data.length > 65536) {
    return slice;
  }
  return { ...slice, data: slice.data.slice() };
}
