/**
 * Runs a model on checked inputs, whoever asks: a client, or a meta model. Regular models go through
 * their hooks and the scheduler; metas through the gate and their `run`.
 */

import { DeadlineExceededError, InternalError, InvalidArgumentError } from "../errors.ts";
import type { OutputTargets, Scheduler } from "../scheduler/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import { Gate } from "./gate.ts";
import type { HookCallLimits, Scratch } from "./hooks/mod.ts";
import type { LoadedModel, PreparedInputs } from "./loaded_model.ts";
import type { MetaModel } from "./meta_model.ts";
import type { ModelRegistry } from "./model_registry.ts";
import type { ServedModel } from "./served_model.ts";

/** Scratch memory one run may have, whatever the pool: a mistaken size must not end the process. */
const MAX_SCRATCH_BYTES = 2 ** 32;

/** What a model is run on. */
export interface ModelRequest {
  /** Client inputs as the model's contract checked them. */
  readonly inputs: readonly NamedTensor[];
  /** The batch extent that was found. */
  readonly rows: number | undefined;
  /** See `Work.targets`. Only for a model without hooks. */
  readonly targets?: OutputTargets | undefined;
}

/** How it is run. */
interface ModelRun {
  readonly request: ModelRequest;
  readonly limits: HookCallLimits;
  /** See `Work.isCommitted`. */
  readonly isCommitted: boolean;
}

export interface ModelRunnerOptions {
  readonly registry: ModelRegistry<ServedModel>;
  readonly scheduler: Scheduler;
  /** Meta runs in progress at most; metas that call nothing do not count. */
  readonly metaConcurrency: number;
  /** Working memory of all meta runs together, in bytes, given out in multiples of a slot. */
  readonly scratchBytes: number;
  readonly scratchSlots: number;
  /** Told how long the hooks of a request took together; of a meta, its `run` without what it awaited. */
  readonly onHooks: (model: string, seconds: number) => void;
  /** Told how long a run of a meta waited for its place, or for scratch memory, in vain or not. */
  readonly onMetaWait: (meta: string, what: "gate" | "scratch", seconds: number) => void;
}

export class ModelRunner {
  readonly #options: ModelRunnerOptions;
  readonly #gate: Gate;
  /** Slots of scratch memory; `undefined`: no bound. */
  readonly #slots: Gate | undefined;

  constructor(options: ModelRunnerOptions) {
    this.#options = options;
    this.#gate = new Gate(options.metaConcurrency, "a place among the meta models in progress");
    const { scratchBytes, scratchSlots } = options;
    this.#slots = scratchBytes > 0 && scratchSlots > 0
      ? new Gate(scratchSlots, "scratch memory")
      : undefined;
  }

  /**
   * Runs a model, whose `usage` the caller has begun and ends. When this settles, nobody reads the inputs or
   * writes to targets any more.
   * @throws {ServerError} also at once
   */
  run(model: ServedModel, request: ModelRequest, limits: HookCallLimits): Promise<NamedTensor[]> {
    return model.kind === "meta"
      ? this.#runMeta(model, request.inputs, limits)
      : this.#runModel(model, request, limits, false);
  }

  #runModel(
    model: LoadedModel,
    request: ModelRequest,
    limits: HookCallLimits,
    isCommitted: boolean,
  ): Promise<NamedTensor[]> {
    model.weights.checkServable();
    const startMs = model.hasHooks ? performance.now() : 0;
    const prepared = model.prepare(request.inputs, request.rows, limits);
    if (prepared instanceof Promise || model.hasHooks) {
      return this.#runHooked(model, prepared, { request, limits, isCommitted, startMs });
    }
    return this.#submit(model, prepared, { request, limits, isCommitted });
  }

  async #runHooked(
    model: LoadedModel,
    prepared: PreparedInputs | Promise<PreparedInputs>,
    run: ModelRun & { readonly startMs: number },
  ): Promise<NamedTensor[]> {
    const work = await prepared;
    const queuedMs = performance.now();
    const results = await this.#submit(model, work, run);
    const ranMs = performance.now();
    const outputs = await model.finish(results, run.limits);
    const hookMs = queuedMs - run.startMs + performance.now() - ranMs;
    this.#options.onHooks(model.name, hookMs / 1000);
    return outputs;
  }

  #submit(
    model: LoadedModel,
    { inputs, rows, variantKey }: PreparedInputs,
    { request, limits, isCommitted }: ModelRun,
  ): Promise<NamedTensor[]> {
    return this.#options.scheduler.submit(model, {
      inputs,
      rows,
      variantKey,
      deadlineMs: limits.deadlineMs,
      isAborted: limits.isAborted ?? (() => false),
      giveUp: limits.giveUp,
      isCommitted,
      targets: request.targets,
    });
  }

  async #runMeta(
    meta: MetaModel,
    inputs: readonly NamedTensor[],
    limits: HookCallLimits,
  ): Promise<NamedTensor[]> {
    refuseLate(meta.name, limits);
    using _permit = meta.calls.size > 0
      ? await this.#timed(meta, "gate", () => this.#gate.enter(limits))
      : undefined;
    using stages = this.#holdStages(meta);
    let computeMs = 0;
    const away = new TimeAway();
    const startMs = performance.now();
    const outputs = await meta.run(inputs, limits, {
      callModel: async (name, tensors) => {
        const startMs = performance.now();
        using _ = away.leave();
        try {
          return await this.#callModel(meta, stages.models, name, tensors, limits);
        } finally {
          computeMs += performance.now() - startMs;
        }
      },
      scratch: async (bytes) => {
        using _ = away.leave();
        return await this.#lendScratch(meta, bytes, limits);
      },
    });
    meta.counters.requests++;
    meta.counters.computeSeconds += computeMs / 1000;
    this.#options.onHooks(meta.name, (performance.now() - startMs - away.totalMs) / 1000);
    return outputs;
  }

  async #timed<T>(
    meta: MetaModel,
    what: "gate" | "scratch",
    wait: () => Promise<T> | undefined,
  ): Promise<T | undefined> {
    const startMs = performance.now();
    try {
      return await wait();
    } finally {
      this.#options.onMetaWait(meta.name, what, (performance.now() - startMs) / 1000);
    }
  }

  async #callModel(
    meta: MetaModel,
    stages: ReadonlyMap<string, ServedModel>,
    name: string,
    tensors: readonly NamedTensor[],
    limits: HookCallLimits,
  ): Promise<NamedTensor[]> {
    const [caller, callee] = [JSON.stringify(meta.name), JSON.stringify(name.slice(0, 200))];
    if (!meta.calls.has(name)) {
      throw new InternalError(`Model ${caller} called ${callee}, which its meta.calls do not name`);
    }
    refuseLate(meta.name, limits);
    const model = stages.get(name) ?? this.#options.registry.ready(name);
    if (model.kind === "meta") {
      throw new InternalError(`Model ${caller} called ${callee}, which is itself a meta model`);
    }
    let checked;
    try {
      checked = model.contract.checkInputs(tensors);
    } catch (error) {
      // The client did not make these tensors; the glue between the stages did.
      if (!(error instanceof InvalidArgumentError)) throw error;
      throw new InternalError(`Model ${caller} called ${callee} wrongly: ${error.message}`);
    }
    model.usage.begin();
    try {
      return await this.#runModel(model, checked, limits, true);
    } finally {
      model.usage.end();
    }
  }

  /**
   * The models a meta may call, as they are now, kept until it is done: a run that calls a model twice
   * finds the same version both times, and one that calls two finds those that were there together.
   */
  #holdStages(meta: MetaModel): { models: ReadonlyMap<string, ServedModel> } & Disposable {
    const models = new Map<string, ServedModel>();
    for (const name of meta.calls) {
      const model = this.#options.registry.current(name);
      if (model) models.set(name, model);
    }
    for (const model of models.values()) model.usage.begin();
    return {
      models,
      [Symbol.dispose]: () => {
        for (const model of models.values()) model.usage.end();
      },
    };
  }

  /**
   * Lends working memory. What is bounded is the amount: every loan is memory of its own, zeroed, so
   * that no model ever sees what another one left. More than the whole pool waits until all of it is
   * free.
   */
  async #lendScratch(meta: MetaModel, bytes: number, limits: HookCallLimits): Promise<Scratch> {
    if (bytes > MAX_SCRATCH_BYTES) {
      throw new InternalError(
        `${bytes} bytes of scratch memory are more than the ${MAX_SCRATCH_BYTES} a run may have`,
      );
    }
    const { scratchBytes, scratchSlots } = this.#options;
    const slots = Math.max(1, Math.ceil(bytes / Math.floor(scratchBytes / scratchSlots)));
    const permit = await this.#timed(meta, "scratch", () => this.#slots?.enter(limits, slots));
    try {
      const buffer = new SharedArrayBuffer(bytes);
      return { buffer, [Symbol.dispose]: () => permit?.[Symbol.dispose]() };
    } catch (error) {
      permit?.[Symbol.dispose]();
      throw new InternalError(`${bytes} bytes of scratch memory cannot be had`, { cause: error });
    }
  }
}

/** How long a `run` has waited for others. What it awaits at the same time counts once. */
class TimeAway {
  #totalMs = 0;
  #open = 0;
  #sinceMs = 0;

  /** Includes what goes on. */
  get totalMs(): number {
    return this.#totalMs + (this.#open > 0 ? performance.now() - this.#sinceMs : 0);
  }

  /** Until what this gives is disposed. */
  leave(): Disposable {
    if (this.#open++ === 0) this.#sinceMs = performance.now();
    return {
      [Symbol.dispose]: () => {
        if (--this.#open === 0) this.#totalMs += performance.now() - this.#sinceMs;
      },
    };
  }
}

function refuseLate(model: string, { deadlineMs }: HookCallLimits): void {
  if (deadlineMs !== undefined && performance.now() >= deadlineMs) {
    throw new DeadlineExceededError(
      `The deadline passed before model ${JSON.stringify(model)} could go on`,
    );
  }
}
