/**
 * Makes models of bundles: read, compile, evaluate hooks, take the weights into care, warm up. Nothing here is visible to
 * requests; what is made is put in place elsewhere.
 */

import type { ServerConfig } from "../config/mod.ts";
import { type Bundle, loadBundle } from "../bundle/mod.ts";
import { BundleError, InternalError, messageOf, ServerError } from "../errors.ts";
import type { Logger } from "../log.ts";
import {
  type Backend,
  type CompileSettings,
  compileSettings,
  type ExecutableCache,
  type WeightStore,
} from "../runtime/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import type { HookFailure, WorkerLoss } from "./hooks/mod.ts";
import { Limiter } from "./limiter.ts";
import { type BuiltProgram, LoadedModel } from "./loaded_model.ts";
import { MetaModel } from "./meta_model.ts";
import type { ServedModel } from "./served_model.ts";
import { SharedPool } from "./shared_pool.ts";

/** Bundles are bounded too, not only compilations: each holds its uploads. */
const MAX_CONCURRENT_LOADS = 8;

export interface LoaderOptions {
  readonly config: ServerConfig;
  readonly backend: Backend;
  readonly executableCache: ExecutableCache | undefined;
  readonly weights: WeightStore;
  readonly scheduler: Scheduler;
  readonly logger: Logger;
  /** Once true, no more warm-up runs are begun. */
  readonly isStopping: () => boolean;
  /** Told when a hook worker had to be ended. */
  readonly onHookWorkerLost: (model: string, reason: WorkerLoss) => void;
  /** Told of every request that failed through a hook. */
  readonly onHookFailure: (model: string, reason: HookFailure) => void;
}

/** What a dispatch of one program was measured to cost. */
export interface MeasuredCost {
  readonly variantKey: string;
  readonly size: number;
  readonly seconds: number;
}

/** A model nobody knows of yet. Whoever receives it owns it. */
export interface MadeModel {
  readonly model: ServedModel;
  /** Of programs that were not in use before. */
  readonly costs: readonly MeasuredCost[];
}

export class ModelLoader {
  readonly #options: LoaderOptions;
  readonly #loads = new Limiter(MAX_CONCURRENT_LOADS);
  readonly #compilers: Limiter;
  readonly #compileSettings: CompileSettings;
  readonly #programs = new SharedPool<BuiltProgram>(({ program }) => program[Symbol.dispose]());

  constructor(options: LoaderOptions) {
    const { compileParallelism } = options.config.runtime;
    this.#options = options;
    const { config, backend, logger } = options;
    this.#compileSettings = compileSettings(config.runtime, backend, logger);
    this.#compilers = new Limiter(
      compileParallelism || Math.max(1, navigator.hardwareConcurrency >> 1),
    );
  }

  /** Reads a bundle; its warnings are logged. The caller owns it. @throws {BundleError} */
  async read(directory: string, name: string): Promise<Bundle> {
    const bundle = await loadBundle(directory, name);
    for (const warning of bundle.warnings) this.#options.logger.warn(warning, { model: name });
    return bundle;
  }

  /**
   * Makes a model of a bundle, of which it takes ownership, also when it fails. What another version has
   * on the device already is shared with it.
   * @param onRead called when all its files have been read; rejects to give up
   * @throws {BundleError}
   */
  make(bundle: Bundle, onRead: () => Promise<void>): Promise<MadeModel> {
    return this.#loads.run(() => this.#make(bundle, onRead));
  }

  async #make(bundle: Bundle, onRead: () => Promise<void>): Promise<MadeModel> {
    const { config, backend, executableCache, weights, scheduler } = this.#options;
    const hookOptions = {
      hooks: { ...config.hooks, size: hookWorkers(config) },
      logger: this.#options.logger,
      onHookWorkerLost: this.#options.onHookWorkerLost,
      onHookFailure: this.#options.onHookFailure,
      onRead,
    };
    if (bundle.kind === "meta") {
      return { model: await MetaModel.load(bundle, hookOptions), costs: [] };
    }
    const policy = config.scheduler.models.get(bundle.name);
    const model = await LoadedModel.load(bundle, {
      ...hookOptions,
      backend,
      executableCache,
      compileSettings: this.#compileSettings,
      compile: (work) => this.#compilers.run(work),
      programs: this.#programs,
      weights,
      floor: policy?.residency,
      // Of the queue's front alone: what came for a newer version could keep the one before it waiting.
      isWanted: (model) => scheduler.queueOf(model.name)?.front?.model === model,
      onWeightsLost: (lost, error) => scheduler.reject(lost, weightsLost(lost.name, error)),
      weight: policy?.weight ?? 1,
      maxRows: policy?.maxBatchSize,
    });
    try {
      return { model, costs: await this.#warmUp(model) };
    } catch (error) {
      model[Symbol.dispose]();
      throw new BundleError(bundle.name, messageOf(error), { cause: error });
    }
  }

  /**
   * Two runs of every new program. The first tells how much device memory it needs besides weights, where
   * the device can tell, the second what it costs. A failure is only logged: the zeros may be input the
   * model cannot take.
   * @throws what bringing its weights to the device throws
   */
  async #warmUp(model: LoadedModel): Promise<MeasuredCost[]> {
    const { scheduler, logger, isStopping } = this.#options;
    const costs: MeasuredCost[] = [];
    const programs = [...model.newPrograms()];
    // Before it is anyone's turn, so that nobody waits for it.
    if (programs.length > 0) await model.weights.load();
    for (const { variantKey, size } of programs) {
      if (isStopping()) break;
      try {
        await scheduler.runExclusive(() =>
          model.weights.measure(async () => void await model.warmUp(variantKey, size))
        );
        const seconds = await scheduler.runExclusive(() => model.warmUp(variantKey, size));
        costs.push({ variantKey, size, seconds });
      } catch (error) {
        const reason = messageOf(error);
        logger.warn("a program failed on zeros", { model: model.name, variantKey, size, reason });
      }
    }
    await model.weights.settle(this.#options.weights.isExternallyManaged);
    return costs;
  }
}

/** What requests are told that waited for weights in vain. */
function weightsLost(model: string, error: unknown): ServerError {
  if (error instanceof ServerError) return error;
  const reason = messageOf(error).slice(0, 500);
  return new InternalError(
    `The weights of model ${JSON.stringify(model)} could not be brought to the device: ${reason}`,
    { cause: error },
  );
}

/** Hook workers per model: the configured thread share, or half the processors. */
function hookWorkers(config: ServerConfig): number {
  const threads = config.runtime.workerThreads || navigator.hardwareConcurrency;
  return Math.min(8, Math.max(1, threads >> 1));
}
