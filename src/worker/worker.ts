/**
 * One worker process: one device, the whole KServe V2 surface on one port, metrics and health on
 * another. This file wires the parts and owns their lifetimes.
 *
 * States: starting (ports open, models loading) → ready → draining (SIGTERM, SIGINT) → stopped.
 */

import { readFileSync } from "node:fs";
import { setImmediate } from "node:timers";
import manifest from "../../deno.json" with { type: "json" };
import { exitNow, getAffinity, setProcessAffinity } from "../../ffi/libc/mod.ts";
import { BUSY_ADDRESS_SECONDS, whileBusy } from "../busy_address.ts";
import { formatHostPort, type Origins, parseCpuList, type ServerConfig } from "../config/mod.ts";
import { ConfigError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { ParentLink } from "../parent_link.ts";
import { type DeviceMemoryReading, gpuLabel, serveHttp, WorkerMetrics } from "../metrics/mod.ts";
import {
  ControlService,
  file_inference_grpc_service,
  file_reactant_control_control,
  GRPCInferenceService,
} from "../protocol/mod.ts";
import {
  type Backend,
  type ExecutableCache,
  findDevice,
  openBackend,
  openExecutableCache,
  ProcessMemory,
  type WeightStore,
} from "../runtime/mod.ts";
import { DISCIPLINES, DispatchWatch, Scheduler, type SchedulerOptions } from "../scheduler/mod.ts";
import {
  type GrpcServer,
  healthMethods,
  HealthStatus,
  type MethodTable,
  reflectionMethods,
  serveGrpc,
} from "../transport/mod.ts";
import { ignoreStraySignals, nextStopSignal } from "../stop_signals.ts";
import { Admission } from "./admission.ts";
import { warnOfIneffectiveSettings } from "./ineffective_settings.ts";
import { controlService } from "./control_service.ts";
import { readDeviceMemory } from "./device_memory.ts";
import { automaticCompaction, openWeightStore } from "./device_weights.ts";
import { inferenceService } from "./inference_service.ts";
import { ModelLoader } from "./loader.ts";
import { LogOutput } from "./log_output.ts";
import { ModelRegistry } from "./model_registry.ts";
import { ModelRunner } from "./model_runner.ts";
import { type LifecycleObserver, ModelLifecycle } from "./reload.ts";
import { announceSnapshot, snapshots } from "./reload_snapshot.ts";
import { regularModels, type ServedModel } from "./served_model.ts";
import { SharedMemory } from "./shared_memory.ts";
import { InferTotals } from "./statistics.ts";
import { Watcher } from "./watcher.ts";

export interface WorkerOptions {
  readonly config: ServerConfig;
  readonly workerName: string;
  readonly logger: Logger;
  /** Where each setting came from, for error messages. */
  readonly origins: Origins;
  /** To the supervisor, which is told how far this worker is; it leaves when the supervisor is gone. */
  readonly link?: ParentLink | undefined;
}

/** How long a slow reader of the log may take for the last lines. */
const LAST_LINES_MS = 500;
/**
 * How long models that are still loading may take to be done. Nobody will ask for them, and whoever stops
 * a container waits for ten seconds and no longer.
 */
const LOADS_END_MS = 2000;
/** How long a dispatch in progress may take to end when the time for everything else is over. */
const DISPATCH_END_MS = 2000;
/** How long calls in progress may take once nobody supervises this process any more. */
const ORPHAN_GRACE_SECONDS = 3;

/**
 * Serves until a stop signal, then drains; resolves with the exit code.
 * @throws {ConfigError} when a port, a certificate or the device cannot be had
 */
export async function runWorker(options: WorkerOptions): Promise<number> {
  const { config, workerName, link } = options;
  const output = new LogOutput({
    onLoss: (lines) => logger.warn("nobody read the log, lines were dropped", { lines }),
  });
  const logger = options.logger.to((line) => output.line(line));
  warnOfIneffectiveSettings(config.runtime.backend, options.origins, logger);
  using stop = nextStopSignal({ isSupervised: link !== undefined });
  using _stray = ignoreStraySignals((message) => logger.warn(message));
  await using stack = new AsyncDisposableStack();
  stack.defer(() => output.drain(LAST_LINES_MS));

  const registry = stack.use(new ModelRegistry<ServedModel>());
  const regions = stack.use(new SharedMemory());
  const admission = new Admission(config.endpoints.maxConcurrentRequests);
  const totals = new Map<string, InferTotals>();
  const state = {
    backend: undefined as Backend | undefined,
    executableCache: undefined as ExecutableCache | undefined,
    weights: undefined as WeightStore | undefined,
    /** Absent while there is no device. */
    readMemory: undefined as (() => Promise<DeviceMemoryReading>) | undefined,
    /** As of the latest scrape. */
    memory: undefined as DeviceMemoryReading | undefined,
    lifecycle: undefined as ModelLifecycle | undefined,
    /** Called after every dispatch, once there are weights. */
    compactIfDue: () => {},
    isListening: false,
    /** Everything that was there at the start is ready or has failed. */
    isLoaded: false,
    isStopping: false,
  };
  const readiness = () => {
    const { ready, total } = registry.progress();
    const stuck = watch?.overdue;
    return {
      isReady: state.isLoaded && !state.isStopping && ready > 0 && !stuck,
      progress: `${ready} of ${total} models ready` +
        (stuck ? `, the device is stuck in ${JSON.stringify(stuck.model)}` : "") +
        (state.isStopping ? ", stopping" : ""),
    };
  };
  const timeoutSeconds = config.scheduler.dispatchTimeoutSeconds;
  const watch = timeoutSeconds === 0 ? undefined : new DispatchWatch({
    timeoutMs: 1000 * timeoutSeconds,
    now: () => performance.now(),
    onOverdue: (model) => {
      metrics.dispatchTimedOut(model);
      logger.error("the device does not come back from a dispatch, this worker is not ready", {
        model,
        timeoutSeconds,
        remedy: "raise scheduler.dispatch_timeout_seconds if the model takes that long",
      });
      announceHealth();
    },
    onReturned: (model, seconds) => {
      logger.warn("a dispatch that took too long is over", { model, seconds });
      announceHealth();
    },
  });
  if (watch) stack.use(watch.start());
  const scheduler = createScheduler(config, {
    ...(watch ? { watch } : {}),
    onDispatch: (record) => {
      totals.get(record.model)?.dispatched(record);
      if (registry.has(record.model)) metrics.dispatched(record);
      state.compactIfDue();
    },
    onStaged: (model, outcome) => {
      if (registry.has(model)) metrics.staged(model, outcome);
    },
  });
  const health = new HealthStatus();
  const announceHealth = () => {
    const { isReady } = readiness();
    const status = isReady ? "SERVING" : "NOT_SERVING";
    for (const service of ["", GRPCInferenceService.typeName]) health.set(service, status);
    if (state.isListening && state.isLoaded) link?.report(isReady ? "ready" : "unready");
  };
  announceHealth();
  const runner = new ModelRunner({
    registry,
    scheduler,
    metaConcurrency: config.meta.concurrency,
    scratchBytes: config.meta.scratchBytes,
    scratchSlots: config.meta.scratchSlots,
    onHooks: (model, seconds) => {
      if (registry.has(model)) metrics.hooksRan(model, seconds);
    },
    onMetaWait: (meta, what, seconds) => {
      if (registry.has(meta)) metrics.metaWaited(meta, what, seconds);
    },
  });
  const inference = inferenceService({
    registry,
    runner,
    regions,
    admission,
    totals,
    observer: {
      // One that is loading or has failed has series too. A model that is gone by now has none any more.
      ended: (model, status, seconds) =>
        metrics.requestEnded(registry.has(model ?? "") ? model : undefined, status, seconds),
    },
    platform: () => state.backend?.platform ?? config.runtime.backend,
    numerics: config.runtime.numerics,
    batchWaitSeconds: (model) => batchWaitSeconds(config, model),
    version: manifest.version,
    isReady: () => readiness().isReady,
    isExternallyManaged: () => state.weights?.isExternallyManaged ?? false,
  });
  const methods: MethodTable = new Map([
    ...inference,
    ...controlService({
      registry,
      scheduler,
      workerName,
      discipline: config.scheduler.discipline,
      weights: () => state.weights,
    }),
    ...healthMethods(health),
    ...reflectionMethods({
      files: [file_inference_grpc_service, file_reactant_control_control],
      // The control file also defines the gateway's service, which a worker does not have.
      services: [
        GRPCInferenceService.typeName,
        ControlService.typeName,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
      ],
    }),
  ]);
  const metrics = new WorkerMetrics({
    worker: workerName,
    gpu: config.runtime.backend === "cuda"
      ? gpuLabel(Deno.env.get("CUDA_VISIBLE_DEVICES"), config.runtime.deviceOrdinal)
      : "",
    deviceOrdinal: config.runtime.deviceOrdinal,
    controlMode: config.modelControlMode,
    discipline: config.scheduler.discipline,
    maxConcurrentRequests: admission.max,
    methods: methods.keys(),
    readings: {
      prepare: async () => {
        state.memory = await state.readMemory?.();
      },
      models: () =>
        regularModels(registry).map((model) => ({
          name: model.name,
          queueDepth: scheduler.queueOf(model.name)?.depth ?? 0,
          weightBytes: model.weightBytes,
          isResident: model.weights.isResident,
          isPinned: model.weights.floor === "device",
          maxBatchSize: model.maxBatchSize,
          recentComputeSeconds: scheduler.recentCompute(model.name),
          costSeconds: scheduler.queueOf(model.name)?.costsOf(model) ?? new Map(),
        })),
      metas: () =>
        [...registry.models()].filter((model) => model.kind === "meta").map((meta) => ({
          name: meta.name,
          dispatches: meta.counters.requests,
          computeSeconds: meta.counters.computeSeconds,
        })),
      hooks: () =>
        [...registry.models()].flatMap((model) => {
          const memory = model.hookMemory();
          return memory ? [{ name: model.name, ...memory }] : [];
        }),
      failedUpdates: () => state.lifecycle?.failedUpdates() ?? [],
      inflightRequests: () => admission.inFlight,
      requestsShed: () => admission.shed,
      deviceMemory: () => state.memory,
      nativeHandles: () => state.backend?.liveHandles() ?? {},
      weights: () => state.weights?.reading(),
      executableCache: () => state.executableCache?.reading(),
    },
  });

  // Names are known before the ports open, so that no request finds a model missing that is on its way.
  const observer: LifecycleObserver = {
    loaded: (model) => {
      if (!totals.has(model)) totals.set(model, new InferTotals());
      announceHealth();
    },
    failed: (model) => metrics.bundleFailed(model),
    renamed: (names) => {
      const moved = [...names].map(([from, to]) => [to, totals.get(from)] as const);
      for (const from of names.keys()) totals.delete(from);
      for (const [to, total] of moved) if (total) totals.set(to, total);
      metrics.modelsRenamed(names);
    },
    removed: (model) => {
      totals.delete(model);
      metrics.modelRemoved(model);
      announceHealth();
    },
  };
  const look = snapshots(config.modelDirs, config.modelsInclude);
  const baseline = await look();
  announceSnapshot(baseline, { config, registry, logger });
  const leaving = new AbortController();
  const orphaned = link?.closed.then(() => "supervisor gone" as const);
  const left = Promise.race([stop.signal, ...(orphaned ? [orphaned] : [])]);
  void left.then(() => leaving.abort());
  // Orphans of a killed node may hold the ports for a while; whoever is at a terminal is told at once.
  const waiting = {
    seconds: link === undefined ? 0 : BUSY_ADDRESS_SECONDS,
    signal: leaving.signal,
    onBusy: (error: unknown) => logger.warn("waiting for a port", { reason: messageOf(error) }),
  };
  const { host, metricsPort } = config.endpoints;
  const http = metricsPort === 0 ? undefined : stack.use(
    await whileBusy(
      () =>
        serveHttp({
          hostname: host,
          port: metricsPort,
          metrics: () => metrics.text(),
          readiness,
          logger,
        }),
      waiting,
    ),
  );
  const server = await whileBusy(() => listen(config, logger, methods, metrics), waiting);
  stack.defer(() => server.shutdown(0));
  const addresses = {
    grpc: addressOf(server),
    http: http && addressOf(http),
  };
  logger.info("listening", addresses);
  state.isListening = true;
  link?.report("listening", addresses);

  limitThreads(config.runtime.workerThreads, config.runtime.workerCores);
  const backend = stack.use(await openBackend(config.runtime, logger));
  state.backend = backend;
  if (backend.overlapsTransfers) scheduler.overlapTransfers();
  logger.info("device", { platform: backend.platform, kind: backend.deviceKind });
  const executableCache = config.cacheDir === "" ? undefined : stack.use(
    await openExecutableCache({
      directory: config.cacheDir,
      maxBytes: config.cacheMaxBytes,
      backend,
      deviceOrdinal: config.runtime.deviceOrdinal,
      logger,
    }),
  );
  state.executableCache = executableCache;
  const weights = stack.use(
    openWeightStore({ config, origins: options.origins, backend, scheduler, logger }),
  );
  state.weights = weights;
  const process = backend.platform !== "cuda" ? undefined : new ProcessMemory({
    find: () => findDevice(config.runtime.deviceOrdinal),
    logger,
  });
  state.readMemory = () => readDeviceMemory({ backend, weights, process });
  // The metrics port outlives the device.
  stack.defer(() => state.readMemory = undefined);
  state.compactIfDue = automaticCompaction({
    interval: config.scheduler.compactionInterval,
    store: weights,
    scheduler,
    logger,
  });
  const loader = new ModelLoader({
    config,
    backend,
    executableCache,
    weights,
    scheduler,
    logger,
    isStopping: () => state.isStopping,
    onHookWorkerLost: (model, reason) => {
      metrics.hookWorkerLost(model, reason);
      logger.warn("hook worker ended", { model, reason });
    },
    onHookFailure: (model, reason) => {
      if (registry.has(model)) metrics.hookFailed(model, reason);
    },
  });
  const lifecycle = state.lifecycle = new ModelLifecycle({
    registry,
    scheduler,
    loader,
    logger,
    observer,
    pollSeconds: config.modelPollSeconds,
    isStopping: () => state.isStopping,
  });
  void lifecycle.start(baseline).then(async () => {
    weights.announceBudget();
    // Only now are the regions taken that will be used.
    await weights.sweep();
    const { ready, total } = registry.progress();
    state.isLoaded = true;
    announceHealth();
    logger.info("ready", { ready, total });
  });
  const watcher = stack.use(
    new Watcher({ look, baseline, lifecycle, pollSeconds: config.modelPollSeconds, logger }),
  );
  if (config.modelControlMode === "dynamic") watcher.start();

  const signal = await left;

  // One deadline for everything there is to wait for.
  const { shutdownGraceSeconds } = config.endpoints;
  const graceSeconds = signal === "supervisor gone"
    ? Math.min(shutdownGraceSeconds, ORPHAN_GRACE_SECONDS)
    : shutdownGraceSeconds;
  const endMs = performance.now() + graceSeconds * 1000;
  const remainingMs = () => Math.max(0, endMs - performance.now());
  logger.info("stopping", { signal, graceSeconds });
  state.isStopping = true;
  link?.report("stopping");
  watcher[Symbol.dispose]();
  health.close();
  await server.shutdown(remainingMs());
  /** What runs natively cannot be interrupted, and leaving in the usual way while it does can crash. */
  const leaveNow = async (why: string): Promise<never> => {
    logger.warn(why);
    await output.drain(LAST_LINES_MS);
    exitNow(0);
  };
  if (!await settledWithin(scheduler.shutdown(remainingMs()), remainingMs() + DISPATCH_END_MS)) {
    await leaveNow("stopped while the device was still busy with a dispatch");
  }
  if (!await settledWithin(lifecycle.idle(), Math.min(remainingMs(), LOADS_END_MS))) {
    await leaveNow("stopped while models were still loading");
  }
  logger.info("stopped");
  return 0;
}

function addressOf({ hostname, port }: { readonly hostname: string; readonly port: number }) {
  return formatHostPort({ host: hostname, port });
}

/**
 * Keeps the process to `threads` of the processors it may use (0: all of them), among those that `cores`
 * lists if it lists any. XLA sizes its thread pools by what is allowed when the client is created, so
 * this comes first.
 */
function limitThreads(threads: number, cores: string): void {
  const allowed = getAffinity();
  const wanted = cores === "" ? undefined : parseCpuList(cores);
  // Processors that are not there (any more) must not keep a worker from starting.
  const own = allowed.filter((processor) => wanted?.includes(processor) ?? true);
  const usable = own.length > 0 ? own : allowed;
  const count = threads > 0 ? Math.min(threads, usable.length) : usable.length;
  if (count < allowed.length) setProcessAffinity(usable.slice(0, count));
}

/** Whether a promise settles within a time. */
async function settledWithin(promise: Promise<unknown>, limitMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<false>((resolve) => timer = setTimeout(() => resolve(false), limitMs));
  const isSettled = await Promise.race([promise.then(() => true, () => true), late]);
  clearTimeout(timer);
  return isSettled;
}

function batchWaitSeconds({ scheduler }: ServerConfig, model: string): number {
  return scheduler.models.get(model)?.batchWaitSeconds ?? scheduler.batchWaitSeconds;
}

function createScheduler(
  config: ServerConfig,
  observer: Pick<SchedulerOptions, "onDispatch" | "onStaged" | "watch">,
): Scheduler {
  const { scheduler } = config;
  return new Scheduler({
    discipline: DISCIPLINES[scheduler.discipline],
    shedsByCost: scheduler.discipline === "edf",
    parameters: {
      recencyPenaltyCap: scheduler.recencyPenaltyCap,
      coalescingDiscount: scheduler.coalescingDiscount,
    },
    halfLifeSeconds: scheduler.emaHalflifeSeconds,
    costAlpha: scheduler.costEmaAlpha,
    maxQueueDepth: scheduler.maxQueueDepth,
    batchWaitMs: (model) => 1000 * batchWaitSeconds(config, model),
    nextTurn: () => new Promise((resolve) => setImmediate(resolve)),
    ...observer,
  });
}

async function listen(
  config: ServerConfig,
  logger: Logger,
  methods: MethodTable,
  metrics: WorkerMetrics,
): Promise<GrpcServer> {
  const { endpoints, grpc } = config;
  try {
    return await serveGrpc({
      transport: endpoints.transport,
      hostname: endpoints.host,
      port: endpoints.port,
      methods,
      maxReceiveBytes: grpc.maxRecvMsgBytes,
      maxSendBytes: grpc.maxSendMsgBytes,
      tls: endpoints.tlsCert === "" ? undefined : {
        cert: readPem(endpoints.tlsCert, "tls_cert"),
        key: readPem(endpoints.tlsKey, "tls_key"),
        clientCa: endpoints.tlsClientCa === ""
          ? undefined
          : readPem(endpoints.tlsClientCa, "tls_client_ca"),
      },
      onCallEnd: (path, status) => metrics.rpcEnded(path, status),
      onHandlerError: (error, path) => logger.error("call failed", { path, error }),
      onAcceptError: (error) =>
        logger.warn("gRPC connections cannot be accepted", { reason: messageOf(error) }),
    });
  } catch (error) {
    throw new ConfigError(
      `Cannot serve gRPC on ${endpoints.host}:${endpoints.port}: ${messageOf(error)}; free the ` +
        "port or choose another with --port",
      { cause: error },
    );
  }
}

function readPem(path: string, key: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError(`endpoints.${key}: ${JSON.stringify(path)}: ${messageOf(error)}`);
  }
}
