/**
 * One dispatch, from requests taken to requests answered: assembles the batch, runs it, books what it took
 * and cuts the results apart. Where a batch fails, its requests run one by one.
 */

import type { NamedTensor } from "../tensor/mod.ts";
import { BatchMemory, concatRows, RowCutter } from "./batch_assembly.ts";
import { type BatchPlan, planBatch } from "./batch_plan.ts";
import type { DecayClock } from "./decay_clock.ts";
import type { ModelQueue, QueuedWork } from "./queue.ts";
import type { ScheduledModel, StageSeconds } from "./scheduled_model.ts";
import { whyDropped } from "./selection.ts";

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
  readonly #memory = new BatchMemory();

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
        // The dispatches before this one took their time.
        const isLate = work.deadlineMs !== undefined && this.#options.now() >= work.deadlineMs;
        if (work.isAborted() || isLate) {
          work.reject(whyDropped(work, queue.name));
          continue;
        }
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
    let rows = 0;
    for (const work of taken) rows += work.rows;
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
    this.#reuse(inputs, taken, outputs);
    const cutters = outputs.map((output, index) => {
      const axis = model.outputBatchAxes[index];
      return axis === undefined || size === 0 ? undefined : new RowCutter(output, axis);
    });
    for (const work of taken) {
      const own = new Array<NamedTensor>(outputs.length);
      for (let index = 0; index < own.length; index++) {
        own[index] = cutters[index]?.next(work.rows) ?? outputs[index]!;
      }
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
      return concatRows(taken.map((work) => work.inputs[index]!), axis, size, this.#memory);
    });
  }

  /** The device has let go of the memory that was filled for it. */
  #reuse(
    inputs: readonly NamedTensor[],
    taken: readonly QueuedWork[],
    outputs: readonly NamedTensor[],
  ): void {
    const own = taken[0]!.inputs;
    for (let index = 0; index < inputs.length; index++) {
      const { data } = inputs[index]!;
      if (inputs[index] === own[index]) continue;
      if (outputs.some((output) => output.data.buffer === data.buffer)) continue;
      this.#memory.giveBack(data);
    }
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
