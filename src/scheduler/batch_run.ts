/**
 * One dispatch, from requests taken to requests answered: assembles the batch, runs it, books what it took
 * and cuts the results apart. Where a batch fails, its requests run one by one. A batch may be assembled,
 * and its inputs copied, before its requests are taken.
 */

import { MemoryPool, type NamedTensor } from "../tensor/mod.ts";
import { concatRows, RowCutter } from "./batch_assembly.ts";
import { type BatchPlan, planBatch } from "./batch_plan.ts";
import type { DecayClock } from "./decay_clock.ts";
import type { DispatchWatch } from "./dispatch_watch.ts";
import type { ModelQueue, OutputTargets, QueuedWork } from "./queue.ts";
import type {
  RunOptions,
  RunOutcome,
  ScheduledModel,
  StagedInputs,
  StageSeconds,
} from "./scheduled_model.ts";
import { whyDropped } from "./selection.ts";

/** Inputs of finished batches whose memory is kept for later ones. */
const MAX_IDLE_BATCHES = 8;

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
  /** Looks after dispatches that do not end. */
  readonly watch?: DispatchWatch;
  /** Runs work with the device to itself, as soon as it is free. Not awaited: dispatches wait for it. */
  readonly runExclusive: (work: () => Promise<void>) => Promise<void>;
}

/** A batch whose inputs are copied to the device while another one runs; its requests may yet be others'. */
export interface StagedBatch {
  readonly model: ScheduledModel;
  readonly requests: readonly QueuedWork[];
  readonly size: number;
  /** In host memory, assembled. */
  readonly inputs: readonly NamedTensor[];
  readonly device: StagedInputs;
}

/** What was chosen to run, its requests taken from their queue. */
export interface Dispatch {
  readonly model: ScheduledModel;
  readonly queue: ModelQueue;
  readonly requests: readonly QueuedWork[];
  readonly plan: BatchPlan;
  /** Its inputs, where they are on their way to the device already. */
  readonly staged?: StagedBatch | undefined;
  /** See `RunOptions`. */
  readonly after?: Promise<unknown> | undefined;
  /** Told that the device is free while outputs are still copied. Absent: it all happens as one. */
  readonly onExecuted?: (() => void) | undefined;
}

/** Runs the dispatches of one device. */
export class BatchRunner {
  readonly #options: BatchRunnerOptions;
  /** Of batches that are assembled. */
  readonly #memory = new MemoryPool({ maxPieces: MAX_IDLE_BATCHES });

  constructor(options: BatchRunnerOptions) {
    this.#options = options;
  }

  /** Runs a dispatch and answers it, one way or the other. */
  async run(dispatch: Dispatch): Promise<void> {
    const { requests, onExecuted } = dispatch;
    let hasLeft = false;
    const leave = onExecuted && (() => {
      hasLeft = true;
      onExecuted();
    });
    try {
      await this.#runBatch({ ...dispatch, onExecuted: leave });
    } catch (error) {
      if (requests.length === 1) {
        requests[0]!.reject(error);
        return;
      }
      if (hasLeft) void this.#options.runExclusive(() => this.#runEach(dispatch));
      else await this.#runEach(dispatch);
    }
  }

  /**
   * Assembles a batch ahead of its turn and has its inputs copied. Its requests stay in their queue.
   * @throws what the model throws
   */
  stage(
    model: ScheduledModel,
    requests: readonly QueuedWork[],
    { size }: BatchPlan,
  ): StagedBatch {
    const { variantKey } = requests[0]!;
    const inputs = this.#assemble(model, requests, size);
    let device: StagedInputs;
    try {
      device = model.stage!({ variantKey, size, inputs });
    } catch (error) {
      this.#reuse(inputs, requests);
      throw error;
    }
    const first = requests[0]!;
    if (inputs.some((input, at) => input === first.inputs[at])) first.staging = device.copied;
    return { model, requests, size, inputs, device };
  }

  /** Gives back what was staged; settles when that is done. Not of a batch that is given to `run`. */
  async release({ device, inputs, requests }: StagedBatch): Promise<void> {
    device.release();
    await device.copied;
    this.#reuse(inputs, requests);
  }

  /** One request must not fail its neighbours: each gets a dispatch of its own. */
  async #runEach({ model, queue, requests, plan }: Dispatch): Promise<void> {
    for (const work of requests) {
      // The dispatches before this one took their time.
      const isLate = work.deadlineMs !== undefined && this.#options.now() >= work.deadlineMs;
      if (work.isAborted() || isLate) {
        work.reject(whyDropped(work, queue.name));
        continue;
      }
      try {
        const sizes = model.sizes(work.variantKey) ?? [plan.size];
        const alone = planBatch([work], { sizes, isCoalescable: false, maxRows: undefined });
        await this.#runBatch({ model, queue, requests: [work], plan: alone });
      } catch (own) {
        work.reject(own);
      }
    }
  }

  async #runBatch(dispatch: Dispatch): Promise<void> {
    const { model, queue, requests, plan: { size }, staged, onExecuted } = dispatch;
    const { variantKey } = requests[0]!;
    const startMs = this.#options.now();
    const inputs = staged?.inputs ?? this.#assemble(model, requests, size);
    let waitMs = 0;
    /** Once it is booked. */
    let computeSeconds: number | undefined;
    const book = () => computeSeconds ??= this.#book(dispatch, startMs + waitMs);
    const watched = this.#options.watch?.begin(queue.name, requests);
    const options: RunOptions = {
      targets: targetsOf(requests, size),
      after: dispatch.after,
      onWaiting: watched && (() => watched.isWaiting = true),
      onWait: (seconds) => {
        waitMs = 1000 * seconds;
        if (watched) watched.isWaiting = false;
      },
      onExecuted: onExecuted && (() => {
        book();
        onExecuted();
      }),
    };
    let outcome: RunOutcome;
    try {
      // At once, whatever of it has to wait: else the weights could leave between the choice and this.
      outcome = await (staged?.device.run(options) ??
        model.run({ variantKey, size, inputs, ...options }));
    } catch (error) {
      if (computeSeconds === undefined) {
        const spent = this.#measure(startMs + waitMs);
        queue.charge(spent.seconds, spent.scale);
      }
      throw error;
    } finally {
      if (watched) this.#options.watch!.end(watched);
    }
    const { outputs, stages } = outcome;
    const spentSeconds = book();
    this.#options.onDispatch?.({
      model: queue.name,
      size,
      rows: rowsOf(requests),
      queueSeconds: requests.map((work) => (startMs - work.enqueuedMs) / 1000),
      computeSeconds: spentSeconds,
      stages,
    });
    this.#reuse(inputs, requests, outputs);
    const cutters = outputs.map((output, index) => {
      const axis = model.outputBatchAxes[index];
      return axis === undefined || size === 0 ? undefined : new RowCutter(output, axis);
    });
    for (const work of requests) {
      const own = new Array<NamedTensor>(outputs.length);
      for (let index = 0; index < own.length; index++) {
        own[index] = cutters[index]?.next(work.rows) ?? outputs[index]!;
      }
      work.resolve(own);
    }
  }

  /** The device is done with a dispatch. @returns what it took */
  #book({ queue, requests, plan: { size } }: Dispatch, startMs: number): number {
    const { seconds, scale } = this.#measure(startMs);
    queue.record({
      variantKey: requests[0]!.variantKey,
      size,
      rows: rowsOf(requests),
      requests: requests.length,
      computeSeconds: seconds,
      scale,
      costAlpha: this.#options.costAlpha,
    });
    return seconds;
  }

  /** Device time since `startMs`, and the `DecayClock`'s scale now. */
  #measure(startMs: number): { seconds: number; scale: number } {
    const { queues, decay } = this.#options;
    const nowMs = this.#options.now();
    decay.restart(nowMs, (scale) => {
      for (const each of queues.values()) each.rescale(scale);
    });
    // What the device says it waited is of another clock's reading.
    return { seconds: Math.max(0, nowMs - startMs) / 1000, scale: decay.scaleAt(nowMs) };
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
    outputs: readonly NamedTensor[] = [],
  ): void {
    const own = taken[0]!.inputs;
    for (let index = 0; index < inputs.length; index++) {
      const { data } = inputs[index]!;
      if (inputs[index] === own[index]) continue;
      if (outputs.some((output) => output.data.buffer === data.buffer)) continue;
      // What is not a request's own was taken from there.
      this.#memory.giveBack(data as Uint8Array<ArrayBuffer>);
    }
  }
}

function rowsOf(requests: readonly QueuedWork[]): number {
  let rows = 0;
  for (const work of requests) rows += work.rows;
  return rows;
}

/** Where outputs may go as they are: a request that fills its batch alone may say so. */
function targetsOf(
  taken: readonly QueuedWork[],
  size: number,
): OutputTargets | undefined {
  const only = taken.length === 1 ? taken[0]! : undefined;
  return only && (size === 0 || only.rows === size) ? only.targets : undefined;
}
