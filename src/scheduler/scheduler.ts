/**
 * One device, one execution at a time. Requests wait in per-model queues; whenever the device is free a
 * discipline picks a model and the batch plan picks what to run. The scheduler is given a run function
 * and knows nothing of devices or protocols.
 */

import { NotFoundError, UnavailableError } from "../errors.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import { BatchRunner, type DispatchRecord } from "./batch_run.ts";
import { DecayClock } from "./decay_clock.ts";
import { type Discipline, type DisciplineParameters, DISCIPLINES } from "./disciplines/mod.ts";
import type { DispatchWatch } from "./dispatch_watch.ts";
import { ModelQueue, type PlannedDispatch, type QueuedWork, type Work } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { isFull, Selector } from "./selection.ts";
import { Staging, type StagingOutcome } from "./staging.ts";

/** How often what waits for models that cannot run yet is looked through for what is late or unwanted. */
const STALLED_LOOK_MS = 20;
/** Longest that a dispatch is put off while requests keep coming in that could join it. */
const MAX_GATHER_MS = 0.5;

export interface SchedulerOptions {
  readonly discipline: Discipline;
  /** `edf` drops what cannot finish in its learned time; the others only what is already late. */
  readonly shedsByCost: boolean;
  readonly parameters: DisciplineParameters;
  readonly halfLifeSeconds: number;
  readonly costAlpha: number;
  readonly maxQueueDepth: number;
  /** How long a request of a model may wait for others that could share its dispatch. Absent: not at all. */
  readonly batchWaitMs?: (model: string) => number;
  /** Milliseconds on a monotonic clock. */
  readonly now?: () => number;
  /**
   * Lets the event loop take in what has arrived. Where given, requests that are here already, but have
   * not been read yet, join a batch with room for them.
   */
  readonly nextTurn?: () => Promise<void>;
  /** Told of every dispatch that ran. */
  readonly onDispatch?: (record: DispatchRecord) => void;
  /** Looks after dispatches that do not end; nobody does by default. Whoever made it starts it. */
  readonly watch?: DispatchWatch;
  /** Told what became of each batch that was staged, by the model's name. See `overlapTransfers`. */
  readonly onStaged?: (model: string, outcome: StagingOutcome) => void;
}

/** States: running → draining (`shutdown`) → stopped. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #now: () => number;
  /** By model name. Work of several versions of a model may wait in one queue. */
  readonly #queues = new Map<string, ModelQueue>();
  /** Those with work; one that has run empty stays until it is looked at. */
  readonly #busy = new Set<ModelQueue>();
  readonly #selector: Selector;
  readonly #runner: BatchRunner;
  readonly #decay: DecayClock;
  /** Work of ours that needs the device to itself, in order; it runs before the next dispatch. */
  readonly #exclusive: (() => Promise<void>)[] = [];
  #order = 0;
  #queued = 0;
  #isDispatching = false;
  #isRunning = true;
  #staging: Staging | undefined;
  /** Requests that the last dispatch served. */
  #lastServed = 0;
  /** Who waits for the device to be idle. */
  #idle: (() => void)[] = [];
  /** Goes on where all that waits is for models that cannot run yet. */
  #resume: (() => void) | undefined;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    const decay = this.#decay = new DecayClock(options.halfLifeSeconds);
    const shared = { now: this.#now, queues: this.#queues, decay };
    this.#selector = new Selector({
      ...options,
      ...shared,
      busy: this.#busy,
      onDrop: () => this.#queued--,
      // Nobody new comes any more when the server stops.
      batchWaitMs: (model) => this.#isRunning ? options.batchWaitMs?.(model) ?? 0 : 0,
    });
    this.#runner = new BatchRunner({
      ...options,
      ...shared,
      runExclusive: (work) => this.runExclusive(work),
    });
  }

  /**
   * For devices that copy while they compute: what would run next is copied in, and what ran before is
   * copied out, while a dispatch executes. The choice of the next one is made when the execution is over,
   * on all that has happened until then, just as it is without this. Called before anything is submitted.
   */
  overlapTransfers(): void {
    this.#staging = new Staging({
      runner: this.#runner,
      now: this.#now,
      onStaged: this.#options.onStaged,
      // What is to have the device to itself finds nothing staged there.
      predict: (atMs) => this.#exclusive.length > 0 ? undefined : this.#selector.predict(atMs),
    });
  }

  /**
   * Admits a model. Where the name has a queue already, it stays with its counters and its weight, and so
   * does the work in it, which runs on the version it was prepared for.
   */
  admit(model: ScheduledModel): void {
    if (this.#queues.has(model.name)) return;
    this.#queues.set(
      model.name,
      new ModelQueue({
        name: model.name,
        maxDepth: this.#options.maxQueueDepth,
        weight: model.weight,
        byDeadline: this.#options.discipline === DISCIPLINES.edf,
      }),
    );
  }

  /** Removes a model; its queued requests fail with NOT_FOUND. */
  remove(name: string): void {
    const queue = this.#queues.get(name);
    if (!queue) return;
    this.#queues.delete(name);
    this.#busy.delete(queue);
    this.#queued -= queue.depth;
    queue.rejectAll();
    this.#resume?.();
  }

  /** Fails what waits for one version of a model, for example because its weights cannot be had. */
  reject(model: ScheduledModel, error: unknown): void {
    const queue = this.#queues.get(model.name);
    const dropped = queue?.dropDead(queue.depth, (work) => work.model === model) ?? [];
    this.#queued -= dropped.length;
    for (const work of dropped) work.reject(error);
    this.#resume?.();
  }

  /** Looks again: a model that could not run may be able to now. */
  wake(): void {
    if (this.#queued > 0) this.#wake();
  }

  /**
   * Gives queues the names of renamed models, all at once, so that names may also change places. The
   * weight is the one of the new name. What waits for a model whose name is taken over still runs.
   */
  rename(moves: readonly { readonly from: string; readonly model: ScheduledModel }[]): void {
    const moved = moves.map(({ from }) => this.#queues.get(from));
    for (const { from } of moves) this.#queues.delete(from);
    for (const [index, { model }] of moves.entries()) {
      const queue = moved[index];
      if (!queue) continue;
      const occupant = this.#queues.get(model.name);
      if (occupant) {
        queue.absorb(occupant);
        this.#busy.delete(occupant);
      }
      if (queue.depth > 0) this.#busy.add(queue);
      queue.name = model.name;
      queue.weight = model.weight;
      this.#queues.set(model.name, queue);
    }
  }

  /** A model's queue and counters. */
  queueOf(name: string): ModelQueue | undefined {
    return this.#queues.get(name);
  }

  /** Device seconds a model took of late, as `fair` shares them out; 0 for an unknown one. */
  recentCompute(name: string): number {
    return this.#queues.get(name)?.recentCompute(this.#decay.scaleAt(this.#now())) ?? 0;
  }

  /**
   * Queues prepared work and resolves with its outputs, in program order, batch padding removed.
   * @throws {UnavailableError | NotFoundError | ResourceExhaustedError | DeadlineExceededError}
   */
  submit(model: ScheduledModel, work: Work): Promise<NamedTensor[]> {
    const queue = this.#queues.get(model.name);
    if (!this.#isRunning) {
      return Promise.reject(new UnavailableError("The server is shutting down"));
    }
    if (!queue) {
      return Promise.reject(new NotFoundError(`Unknown model ${JSON.stringify(model.name)}`));
    }
    const { promise, resolve, reject } = Promise.withResolvers<NamedTensor[]>();
    const queued: QueuedWork = {
      model,
      inputs: work.inputs,
      rows: work.rows,
      variantKey: work.variantKey,
      deadlineMs: work.deadlineMs,
      isAborted: work.isAborted,
      giveUp: work.giveUp,
      isCommitted: work.isCommitted,
      targets: work.targets,
      order: this.#order++,
      enqueuedMs: this.#now(),
      resolve,
      reject,
    };
    try {
      queue.push(queued);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#queued++;
    this.#busy.add(queue);
    this.#wake();
    // Whoever has the answer may do with the inputs what they like.
    return this.#staging ? promise.finally(() => queued.staging) : promise;
  }

  /**
   * Runs `work` between dispatches, with the device to itself: warm-up, moving weights. First come, first
   * served, and before any request that waits.
   */
  runExclusive<T>(work: () => Promise<T>): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.#exclusive.push(async () => {
      try {
        resolve(await work());
      } catch (error) {
        reject(error);
      }
    });
    this.#wake();
    return promise;
  }

  /** Seeds the learned cost of a program, for example from a warm-up run. */
  seedCost(name: string, variantKey: string, size: number, seconds: number): void {
    this.#queues.get(name)?.learnCost(variantKey, size, seconds, 1);
  }

  /**
   * Stops taking work. What is queued still runs until `graceMs` is over; the rest fails UNAVAILABLE.
   * Resolves when the device is idle.
   */
  async shutdown(graceMs: number): Promise<void> {
    this.#isRunning = false;
    this.#resume?.();
    if (!this.#isDispatching) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#idle.push(resolve);
    const timer = setTimeout(() => {
      for (const queue of this.#queues.values()) {
        for (const work of queue.take(queue.depth)) {
          this.#queued--;
          work.reject(new UnavailableError("The server is shutting down"));
        }
      }
      this.#resume?.();
    }, graceMs);
    await promise;
    clearTimeout(timer);
  }

  /**
   * Starts dispatching, but not before the caller's turn of the event loop is over: requests that came in
   * one read from a socket are then all queued, and the first does not leave alone.
   */
  #wake(): void {
    this.#resume?.();
    this.#staging?.changed();
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    queueMicrotask(() => void this.#dispatchAll());
  }

  async #dispatchAll(): Promise<void> {
    try {
      for (;;) {
        if (this.#exclusive.length > 0) {
          if (this.#staging) await this.#staging.settle();
          await this.#exclusive.shift()!();
          continue;
        }
        if (this.#queued === 0) {
          const settled = this.#staging?.settle();
          if (!settled) break;
          await this.#pause(settled);
          continue;
        }
        const queued = this.#queued;
        let next = this.#selector.select();
        if (!next) {
          // Nothing to run and nothing dropped: all that waits is for models that cannot run yet, or for others
          // to join it.
          if (queued === this.#queued) await this.#stall();
          continue;
        }
        if (this.#mayGather(next)) {
          await this.#gather();
          // Chosen again, because the queue may be another than it was before the wait: nothing may
          // come between a choice and the requests that are taken for it.
          next = this.#exclusive.length > 0 ? undefined : this.#selector.select();
          if (!next) continue;
        }
        await this.#dispatch(next);
      }
    } finally {
      this.#isDispatching = false;
      for (const idle of this.#idle.splice(0)) idle();
    }
  }

  /** Waits for anything to happen; not for long, because callers leave and deadlines pass unannounced. */
  async #stall(): Promise<void> {
    void this.#staging?.settle();
    const { promise, resolve } = Promise.withResolvers<void>();
    const restMs = Math.max(0, this.#selector.waitsUntilMs - this.#now());
    const timer = setTimeout(resolve, Math.min(STALLED_LOOK_MS, restMs));
    await this.#pause(promise);
    clearTimeout(timer);
  }

  /** Waits for `event`, or for anything else to happen. */
  async #pause(event: Promise<unknown>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#resume = resolve;
    await Promise.race([event, promise]);
    this.#resume = undefined;
  }

  /** A lone caller waits for nobody, and a full batch for nothing. */
  #mayGather(choice: PlannedDispatch): boolean {
    if (!this.#options.nextTurn || isFull(choice)) return false;
    return this.#lastServed >= 2 || this.#queued >= 2;
  }

  /**
   * Waits while turns of the event loop bring requests and what would run has room for more. Requests of
   * a busy time come in several reads: with the first of them alone, a batch leaves half empty, and every
   * dispatch costs as much as several requests.
   */
  async #gather(): Promise<void> {
    const untilMs = this.#now() + MAX_GATHER_MS;
    let seen: number;
    do {
      seen = this.#order;
      await this.#options.nextTurn!();
      if (this.#exclusive.length > 0) return;
      const next = this.#selector.select();
      if (!next || isFull(next)) return;
    } while (this.#order !== seen && this.#now() < untilMs);
  }

  async #dispatch({ model, queue, plan, cost }: PlannedDispatch): Promise<void> {
    const requests = queue.take(plan.take);
    this.#queued -= requests.length;
    this.#lastServed = requests.length;
    queue.pendingCompute += cost;
    const dispatch = { model, queue, requests, plan };
    try {
      await (this.#staging?.run(dispatch, cost) ?? this.#runner.run(dispatch));
    } finally {
      queue.pendingCompute = Math.max(0, queue.pendingCompute - cost);
    }
  }
}
