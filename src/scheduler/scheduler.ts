/**
 * One device, one execution at a time. Requests wait in per-model queues; whenever the device is free a
 * discipline picks a model and the batch plan picks what to run. The scheduler is given a run function
 * and knows nothing of devices or protocols.
 */

import {
  CancelledError,
  DeadlineExceededError,
  NotFoundError,
  UnavailableError,
} from "../errors.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import { concatRows, sliceRows } from "./batch_assembly.ts";
import { type BatchPlan, planBatch } from "./batch_plan.ts";
import {
  type Candidate,
  type Discipline,
  type DisciplineParameters,
  DISCIPLINES,
  type Totals,
} from "./disciplines/mod.ts";
import { ModelQueue, type QueuedWork, type Work } from "./queue.ts";

/** Cost of a dispatch before any was measured, in seconds. */
export const DEFAULT_COST_SECONDS = 0.01;

/** What one dispatch spent in each stage, in seconds. */
export interface StageSeconds {
  /** Host to device. */
  readonly input: number;
  readonly execute: number;
  /** Device to host. */
  readonly output: number;
}

/** What the scheduler must know of a model. */
export interface ScheduledModel {
  readonly name: string;
  readonly isCoalescable: boolean;
  /** Cap on rows coalesced into one dispatch. */
  readonly maxRows: number | undefined;
  readonly weight: number;
  /** Compiled sizes of a variant, ascending (`[0]`: one unsized program); `undefined`: not compiled. */
  sizes(variantKey: string): readonly number[] | undefined;
  /** Wire index of the batch axis of each program input; used only when coalescable. */
  readonly inputBatchAxes: readonly (number | undefined)[];
  /** The same for program outputs, in order; `undefined`: the output is given to every request whole. */
  readonly outputBatchAxes: readonly (number | undefined)[];
  /** Runs one program on assembled inputs, in program order, and gives its outputs in order. */
  run(
    dispatch: { variantKey: string; size: number; inputs: readonly NamedTensor[] },
  ): Promise<{ outputs: NamedTensor[]; stages: StageSeconds }>;
}

export interface SchedulerOptions {
  readonly discipline: Discipline;
  /** `edf` drops what cannot finish in its learned time; the others only what is already late. */
  readonly shedsByCost: boolean;
  readonly parameters: DisciplineParameters;
  readonly halfLifeSeconds: number;
  readonly costAlpha: number;
  readonly maxQueueDepth: number;
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number;
  /** Told of every dispatch that ran. */
  readonly onDispatch?: (record: DispatchRecord) => void;
}

export interface DispatchRecord {
  readonly model: string;
  readonly size: number;
  readonly rows: number;
  /** From entering the queue to the start of the dispatch, one per request served. */
  readonly queueSeconds: readonly number[];
  readonly computeSeconds: number;
  readonly stages: StageSeconds;
}

/** One model's next dispatch, if it is chosen. */
interface Choice {
  readonly model: ScheduledModel;
  readonly queue: ModelQueue;
  readonly plan: BatchPlan;
}

/** States: running → draining (`shutdown`) → stopped. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #now: () => number;
  readonly #models = new Map<string, { model: ScheduledModel; queue: ModelQueue }>();
  /** Work of ours that needs the device to itself, in order; it runs before the next dispatch. */
  readonly #exclusive: (() => Promise<void>)[] = [];
  #order = 0;
  #queued = 0;
  #isDispatching = false;
  #isRunning = true;
  #idle: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Admits a model; an older one of the same name is replaced and its queue goes over to the new one. */
  admit(model: ScheduledModel): void {
    const known = this.#models.get(model.name);
    if (known) {
      known.model = model;
      known.queue.weight = model.weight;
      return;
    }
    const queue = new ModelQueue({
      name: model.name,
      maxDepth: this.#options.maxQueueDepth,
      weight: model.weight,
    });
    this.#models.set(model.name, { model, queue });
  }

  /** Removes a model; its queued requests fail with NOT_FOUND. */
  remove(name: string): void {
    const known = this.#models.get(name);
    if (!known) return;
    this.#models.delete(name);
    this.#queued -= known.queue.depth;
    known.queue.rejectAll();
  }

  /** A model's queue and counters. */
  queueOf(name: string): ModelQueue | undefined {
    return this.#models.get(name)?.queue;
  }

  /**
   * Queues prepared work and resolves with its outputs, in program order, batch padding removed.
   * @throws {UnavailableError | NotFoundError | ResourceExhaustedError | DeadlineExceededError}
   */
  submit(name: string, work: Work): Promise<NamedTensor[]> {
    const known = this.#models.get(name);
    if (!this.#isRunning) {
      return Promise.reject(new UnavailableError("The server is shutting down"));
    }
    if (!known) return Promise.reject(new NotFoundError(`Unknown model ${JSON.stringify(name)}`));
    const { promise, resolve, reject } = Promise.withResolvers<NamedTensor[]>();
    try {
      known.queue.push({
        inputs: work.inputs,
        rows: work.rows,
        variantKey: work.variantKey,
        deadlineMs: work.deadlineMs,
        isAborted: work.isAborted,
        isCommitted: work.isCommitted,
        order: this.#order++,
        enqueuedMs: this.#now(),
        resolve,
        reject,
      });
    } catch (error) {
      return Promise.reject(error);
    }
    this.#queued++;
    if (!this.#isDispatching) void this.#dispatchAll();
    return promise;
  }

  /**
   * Runs `work` between dispatches, with the device to itself: warm-up, moving weights. First come, first
   * served, and before any request that waits.
   */
  runExclusive<T>(work: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#exclusive.push(() => work().then(resolve, reject));
    if (!this.#isDispatching) void this.#dispatchAll();
    return promise;
  }

  /** Seeds the learned cost of a program, for example from a warm-up run. */
  seedCost(name: string, variantKey: string, size: number, seconds: number): void {
    this.#models.get(name)?.queue.learnCost(variantKey, size, seconds, 1);
  }

  /**
   * Stops taking work. What is queued still runs until `graceMs` is over; the rest fails UNAVAILABLE.
   * Resolves when the device is idle.
   */
  async shutdown(graceMs: number): Promise<void> {
    this.#isRunning = false;
    if (!this.#isDispatching) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#idle = resolve;
    const timer = setTimeout(() => {
      for (const { queue } of this.#models.values()) {
        for (const work of queue.take(queue.depth)) {
          this.#queued--;
          work.reject(new UnavailableError("The server is shutting down"));
        }
      }
    }, graceMs);
    await promise;
    clearTimeout(timer);
  }

  async #dispatchAll(): Promise<void> {
    this.#isDispatching = true;
    try {
      while (this.#queued > 0 || this.#exclusive.length > 0) {
        const exclusive = this.#exclusive.shift();
        if (exclusive) {
          await exclusive();
          continue;
        }
        const next = this.#select();
        if (next) await this.#dispatch(next.model, next.queue, next.plan);
      }
    } finally {
      this.#isDispatching = false;
      this.#idle?.();
    }
  }

  /** The model and batch to run now; drops dead work on the way. */
  #select(): Choice | undefined {
    const nowMs = this.#now();
    let choices: Choice[] = [];
    for (const { model, queue } of this.#models.values()) {
      if (queue.depth === 0) continue;
      const front = this.#liveFront(model, queue, nowMs);
      const plan = front && this.#plan(model, queue, front);
      if (plan) choices.push({ model, queue, plan });
    }
    if (choices.length < 2) return choices[0];
    let { discipline } = this.#options;
    const committed = choices.filter(({ queue }) => queue.hasCommitted);
    if (committed.length > 0) {
      choices = committed;
      discipline = DISCIPLINES.fifo;
    }
    const candidates = choices.map((choice) => this.#candidate(choice, nowMs));
    const chosen = discipline(candidates, this.#totals(nowMs), this.#options.parameters);
    return choices[candidates.indexOf(chosen)];
  }

  #candidate({ queue, plan }: Choice, nowMs: number): Candidate {
    const front = queue.front!;
    return {
      name: queue.name,
      frontOrder: front.order,
      earliestDeadline: this.#options.shedsByCost ? earliestDeadline(queue) : Infinity,
      weight: queue.weight,
      recentCompute: queue.recentCompute(nowMs, this.#options.halfLifeSeconds),
      plannedCost: queue.costs.get(front.variantKey)?.get(plan.size) ?? DEFAULT_COST_SECONDS,
    };
  }

  /** Sums over every model, idle ones too: what a fair share is taken of. */
  #totals(nowMs: number): Totals {
    let weight = 0;
    let recentCompute = 0;
    for (const { queue } of this.#models.values()) {
      weight += queue.weight;
      recentCompute += queue.recentCompute(nowMs, this.#options.halfLifeSeconds);
    }
    return { weight, recentCompute };
  }

  #plan(model: ScheduledModel, queue: ModelQueue, front: QueuedWork): BatchPlan | undefined {
    const sizes = model.sizes(front.variantKey);
    try {
      if (!sizes) throw new NotFoundError(`Model ${JSON.stringify(model.name)} lost a variant`);
      return planBatch(queue, {
        sizes,
        isCoalescable: model.isCoalescable,
        maxRows: model.maxRows,
        costs: queue.costs.get(front.variantKey),
      });
    } catch (error) {
      // Requests are checked before they are queued, so this is a model swapped for one with other
      // sizes: the front request alone is answered, and the loop goes on.
      queue.take(1);
      this.#queued--;
      front.reject(error);
      return undefined;
    }
  }

  /**
   * The oldest request worth running. Among those that could be part of the next batch, what is
   * cancelled, late, or (`edf`) cannot finish in time is rejected.
   */
  #liveFront(model: ScheduledModel, queue: ModelQueue, nowMs: number): QueuedWork | undefined {
    const isDead = (work: QueuedWork) => {
      if (work.isAborted()) return true;
      if (work.deadlineMs === undefined) return false;
      const margin = this.#options.shedsByCost && !work.isCommitted
        ? 1000 * (minimumCost(queue, work.variantKey) ?? DEFAULT_COST_SECONDS)
        : 0;
      return nowMs + margin >= work.deadlineMs;
    };
    while (queue.front) {
      const largest = model.sizes(queue.front.variantKey)?.at(-1) ?? 1;
      const dead = queue.dropDead(model.isCoalescable ? Math.max(1, largest) : 1, isDead);
      if (dead.length === 0) break;
      for (const work of dead) {
        this.#queued--;
        work.reject(
          work.isAborted() ? new CancelledError("The caller went away") : new DeadlineExceededError(
            `The deadline passed while the request waited for model ${JSON.stringify(queue.name)}`,
          ),
        );
      }
    }
    return queue.front;
  }

  async #dispatch(model: ScheduledModel, queue: ModelQueue, plan: BatchPlan): Promise<void> {
    const taken = queue.take(plan.take);
    this.#queued -= taken.length;
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
    const { variantKey } = taken[0]!;
    const startMs = this.#now();
    const inputs = this.#assemble(model, taken, size);
    const { outputs, stages } = await model.run({ variantKey, size, inputs });
    const endMs = this.#now();
    const rows = taken.reduce((total, work) => total + work.rows, 0);
    queue.record({
      variantKey,
      size,
      rows,
      requests: taken.length,
      computeSeconds: (endMs - startMs) / 1000,
      nowMs: endMs,
      halfLifeSeconds: this.#options.halfLifeSeconds,
      costAlpha: this.#options.costAlpha,
    });
    this.#options.onDispatch?.({
      model: model.name,
      size,
      rows,
      queueSeconds: taken.map((work) => (startMs - work.enqueuedMs) / 1000),
      computeSeconds: (endMs - startMs) / 1000,
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

/** A small slice of a large batch is copied, so that one slow reader does not keep the batch alive. */
function compact(slice: NamedTensor, whole: NamedTensor): NamedTensor {
  if (slice === whole || slice.data.length * 4 > whole.data.length || slice.data.length > 65536) {
    return slice;
  }
  return { ...slice, data: slice.data.slice() };
}

function earliestDeadline(queue: ModelQueue): number {
  let earliest = Infinity;
  for (const work of queue) {
    if (work.deadlineMs !== undefined && work.deadlineMs < earliest) earliest = work.deadlineMs;
  }
  return earliest;
}

/** The least time any dispatch of the variant was learned to take. */
function minimumCost(queue: ModelQueue, variantKey: string): number | undefined {
  const costs = queue.costs.get(variantKey);
  return costs && costs.size > 0 ? Math.min(...costs.values()) : undefined;
}
