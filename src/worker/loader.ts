/**
 * Fills the registry: finds the bundles, loads them side by side, and admits each as soon as it can
 * serve. A bundle that cannot be loaded is recorded with its reason and stops no other.
 */

import type { ServerConfig } from "../config/mod.ts";
import { loadBundle, scanRepository } from "../bundle/mod.ts";
import { BundleError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend } from "../runtime/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import { formatSpec } from "../tensor/mod.ts";
import { Limiter } from "./limiter.ts";
import { LoadedModel, type LoadOptions } from "./loaded_model.ts";
import type { ModelRegistry } from "./model_registry.ts";

/** Bound on one hook call of a request without a deadline. */
const HOOK_CALL_TIMEOUT_MS = 60_000;
/** Bound on evaluating a hook file. */
const HOOK_LOAD_TIMEOUT_MS = 30_000;

export interface LoaderOptions {
  readonly config: ServerConfig;
  readonly registry: ModelRegistry<LoadedModel>;
  readonly scheduler: Scheduler;
  readonly logger: Logger;
  /** Told of every bundle that could not be loaded. */
  readonly onFailure: (model: string) => void;
  /** Told of every model, before it is admitted. */
  readonly onLoaded: (model: LoadedModel) => void;
  /** Told when a hook worker had to be ended. */
  readonly onHookWorkerLost: (model: string, reason: string) => void;
}

/** A bundle that waits to be loaded. */
export interface PendingBundle {
  readonly name: string;
  readonly directory: string;
}

/**
 * Looks through the model folders; every bundle is announced to the registry, so that from here on each
 * name answers with its state.
 */
export async function announceBundles(options: LoaderOptions): Promise<PendingBundle[]> {
  const { config, registry, logger } = options;
  const scan = await scanRepository(config.modelDirs, config.modelsInclude);
  for (const { root, reason } of scan.rootFailures) {
    logger.error("A model folder cannot be read", { folder: root, reason });
  }
  for (const { name, error } of scan.failures) fail(options, name, error);
  const known = new Set([...scan.found, ...scan.failures].map(({ name }) => name));
  for (const name of config.modelsInclude) {
    if (!known.has(name)) logger.warn("A model to include is in no model folder", { model: name });
  }
  for (const { name } of scan.found) registry.beginLoading(name);
  if (known.size === 0) {
    logger.warn("No bundle found: nothing to serve", { folders: config.modelDirs });
  }
  return [...scan.found];
}

/** Loads every announced bundle; resolves when each is ready or failed. Never rejects for a bundle. */
export async function loadBundles(
  pending: readonly PendingBundle[],
  backend: Backend,
  options: LoaderOptions,
): Promise<void> {
  const { config } = options;
  const compilers = new Limiter(
    config.runtime.compileParallelism || Math.max(1, navigator.hardwareConcurrency >> 1),
  );
  // Bundles themselves are bounded too: each holds its weights file and its uploads.
  const loads = new Limiter(8);
  await Promise.all(
    pending.map(({ name, directory }) =>
      loads.run(() => loadOne(name, directory, backend, compilers, options))
    ),
  );
}

async function loadOne(
  name: string,
  directory: string,
  backend: Backend,
  compilers: Limiter,
  options: LoaderOptions,
): Promise<void> {
  const { config, registry, scheduler, logger } = options;
  const startMs = performance.now();
  try {
    const bundle = await loadBundle(directory, name);
    for (const warning of bundle.warnings) logger.warn(warning, { model: name });
    if (bundle.kind === "meta") {
      bundle[Symbol.dispose]();
      throw new BundleError(name, "it is a meta model, a kind this version cannot run");
    }
    const policy = config.scheduler.models.get(name);
    const loadOptions: LoadOptions = {
      backend,
      compileSettings: config.runtime.autotune ? {} : { autotuneLevel: 0 },
      compile: (work) => compilers.run(work),
      hookWorkers: hookWorkers(config),
      hookCallTimeoutMs: HOOK_CALL_TIMEOUT_MS,
      hookLoadTimeoutMs: HOOK_LOAD_TIMEOUT_MS,
      weight: policy?.weight ?? 1,
      maxRows: policy?.maxBatchSize,
      onHookWorkerLost: options.onHookWorkerLost,
    };
    const model = await LoadedModel.load(bundle, loadOptions);
    options.onLoaded(model);
    scheduler.admit(model);
    registry.setReady(name, model);
    const { clientInputs, clientOutputs } = model.bundle.manifest;
    logger.info("model loaded", {
      model: name,
      inputs: clientInputs.map((tensor) => `${tensor.name}: ${formatSpec(tensor)}`),
      outputs: clientOutputs.map((tensor) => `${tensor.name}: ${formatSpec(tensor)}`),
      batchSizes: model.allSizes.filter((size) => size > 0),
      weightBytes: model.weightBytes,
      seconds: Math.round(performance.now() - startMs) / 1000,
    });
  } catch (error) {
    fail(options, name, error);
  }
}

function fail({ registry, logger, onFailure }: LoaderOptions, name: string, error: unknown): void {
  registry.setFailed(name, messageOf(error));
  onFailure(name);
  // A bundle's own fault is told by its message; only a defect of ours needs the stack.
  if (error instanceof BundleError) {
    logger.error("model not loaded", { model: name, reason: error.message });
  } else {
    logger.error("model not loaded", { model: name, error });
  }
}

/** Hook workers per model: the configured thread share, or half the processors. */
function hookWorkers(config: ServerConfig): number {
  const threads = config.runtime.workerThreads || navigator.hardwareConcurrency;
  return Math.min(8, Math.max(1, threads >> 1));
}
