/**
 * Fills the registry: finds the bundles, loads them side by side, and admits each as soon as it can
 * serve. A bundle that cannot be loaded is recorded with its reason and stops no other.
 */

import type { ServerConfig } from "../config/mod.ts";
import { type Bundle, findNestedMetas, loadBundle, scanRepository } from "../bundle/mod.ts";
import { BundleError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, ExecutableCache } from "../runtime/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import { formatSpec } from "../tensor/mod.ts";
import { Limiter } from "./limiter.ts";
import { LoadedModel, type LoadOptions } from "./loaded_model.ts";
import { MetaModel } from "./meta_model.ts";
import type { ModelRegistry } from "./model_registry.ts";
import type { ServedModel } from "./served_model.ts";

/** Bound on one hook call of a request without a deadline. */
const HOOK_CALL_TIMEOUT_MS = 60_000;
/** Bound on evaluating a hook file. */
const HOOK_LOAD_TIMEOUT_MS = 30_000;
const MAX_CONCURRENT_LOADS = 8;

export interface LoaderOptions {
  readonly config: ServerConfig;
  readonly registry: ModelRegistry<ServedModel>;
  readonly scheduler: Scheduler;
  readonly logger: Logger;
  /** Told of every bundle that could not be loaded. */
  readonly onFailure: (model: string) => void;
  /** Told of every model, before it is admitted. */
  readonly onLoaded: (model: ServedModel) => void;
  /** Once true, models that have not begun to load are left alone. */
  readonly isStopping: () => boolean;
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
  device: { backend: Backend; executableCache: ExecutableCache | undefined },
  options: LoaderOptions,
): Promise<void> {
  const { config } = options;
  const compilers = new Limiter(
    config.runtime.compileParallelism || Math.max(1, navigator.hardwareConcurrency >> 1),
  );
  const shared = {
    ...device,
    compileSettings: config.runtime.autotune ? {} : { autotuneLevel: 0 },
    compile: <T>(work: () => Promise<T>) => compilers.run(work),
    hooks: {
      size: hookWorkers(config),
      callTimeoutMs: HOOK_CALL_TIMEOUT_MS,
      loadTimeoutMs: HOOK_LOAD_TIMEOUT_MS,
    },
    onHookWorkerLost: options.onHookWorkerLost,
  };
  const read = await Promise.all(pending.map((found) => readOne(found, options)));
  const bundles = checkMetas(read.filter((bundle) => bundle !== undefined), options);
  // Bundles themselves are bounded too: each holds its uploads.
  const loads = new Limiter(MAX_CONCURRENT_LOADS);
  await Promise.all(bundles.map((bundle) => loads.run(() => loadOne(bundle, shared, options))));
}

async function readOne(
  { name, directory }: PendingBundle,
  options: LoaderOptions,
): Promise<Bundle | undefined> {
  try {
    const bundle = await loadBundle(directory, name);
    for (const warning of bundle.warnings) options.logger.warn(warning, { model: name });
    return bundle;
  } catch (error) {
    fail(options, name, error);
    return undefined;
  }
}

/** Refuses metas that call metas; a callee that is not here may be elsewhere, which is worth a line. */
function checkMetas(bundles: readonly Bundle[], options: LoaderOptions): Bundle[] {
  const nested = findNestedMetas(bundles);
  for (const { name, error } of nested) fail(options, name, error);
  const names = new Set(bundles.map(({ name }) => name));
  return bundles.filter((bundle) => {
    if (nested.some(({ name }) => name === bundle.name)) {
      bundle[Symbol.dispose]();
      return false;
    }
    for (const callee of bundle.manifest.calls) {
      if (names.has(callee)) continue;
      const fields = { model: bundle.name, callee };
      options.logger.warn("a meta model calls a model that is not here", fields);
    }
    return true;
  });
}

async function loadOne(
  bundle: Bundle,
  shared: Omit<LoadOptions, "weight" | "maxRows">,
  options: LoaderOptions,
): Promise<void> {
  const { config, registry, scheduler, logger } = options;
  const { name } = bundle;
  const startMs = performance.now();
  try {
    if (options.isStopping()) {
      bundle[Symbol.dispose]();
      return;
    }
    let model: ServedModel;
    if (bundle.kind === "meta") {
      model = await MetaModel.load(bundle, shared);
    } else {
      const policy = config.scheduler.models.get(name);
      model = await LoadedModel.load(bundle, {
        ...shared,
        weight: policy?.weight ?? 1,
        maxRows: policy?.maxBatchSize,
      });
      scheduler.admit(model);
      await warmUp(model, options);
    }
    options.onLoaded(model);
    registry.setReady(name, model);
    const { clientInputs, clientOutputs } = bundle.manifest;
    logger.info("model loaded", {
      model: name,
      inputs: clientInputs.map((tensor) => `${tensor.name}: ${formatSpec(tensor)}`),
      outputs: clientOutputs.map((tensor) => `${tensor.name}: ${formatSpec(tensor)}`),
      ...(model.kind === "meta" ? { calls: [...model.calls] } : {
        batchSizes: model.allSizes.filter((size) => size > 0),
        weightBytes: model.weightBytes,
        programs: model.programTotals.count,
        programsCached: model.programTotals.cached,
        programSeconds: Math.round(model.programTotals.seconds * 1e6) / 1e6,
      }),
      seconds: Math.round(performance.now() - startMs) / 1000,
    });
  } catch (error) {
    fail(options, name, error);
  }
}

/**
 * Two runs of every program, the second of which seeds its learned cost. A failure is only logged: the
 * zeros may be input the model cannot take.
 */
async function warmUp(
  model: LoadedModel,
  { scheduler, logger, isStopping }: LoaderOptions,
): Promise<void> {
  for (const { variantKey, size } of model.programs()) {
    if (isStopping()) return;
    try {
      await scheduler.runExclusive(() => model.warmUp(variantKey, size));
      const seconds = await scheduler.runExclusive(() => model.warmUp(variantKey, size));
      scheduler.seedCost(model.name, variantKey, size, seconds);
    } catch (error) {
      const reason = messageOf(error);
      logger.warn("a program failed on zeros", { model: model.name, variantKey, size, reason });
    }
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
