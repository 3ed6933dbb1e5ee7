/** `inference.GRPCInferenceService`: KServe V2 with Triton's ModelConfig and ModelStatistics. */

import type { RuntimeConfig } from "../config/mod.ts";
import { NotFoundError, ServerError, type StatusName } from "../errors.ts";
import { GRPCInferenceService, methodPath, quoted } from "../protocol/mod.ts";
import { effectiveNumerics } from "../runtime/mod.ts";
import { alignedBytes } from "../tensor/mod.ts";
import {
  BufferPool,
  type CallContext,
  type Message,
  type MethodHandler,
  type MethodTable,
} from "../transport/mod.ts";
import type { Admission } from "./admission.ts";
import { type InferDependencies, Inference, type InferResources } from "./infer.ts";
import { configureModel, describeModel } from "./model_description.ts";
import { isSameIpcNamespace } from "./shared_memory.ts";
import type { IndexEntry } from "./model_registry.ts";
import { residencyProblem } from "./residency.ts";
import { hiddenModels, type ServedModel } from "./served_model.ts";
import type { InferTotals } from "./statistics.ts";
import { unary } from "./unary_method.ts";

/** Told of every ModelInfer that ended, for metrics. */
export interface InferObserver {
  /** `model` is the name asked for, whether there is such a model or not; `undefined`: none was read. */
  ended(model: string | undefined, status: "OK" | StatusName, seconds: number): void;
}

export interface InferenceServiceOptions extends InferDependencies {
  readonly admission: Admission;
  readonly observer: InferObserver;
  /** Triton's statistics by model name; a model has its own from when it is loaded. */
  readonly totals: ReadonlyMap<string, InferTotals>;
  /** What the device really is; known once the runtime is up. */
  readonly platform: () => string;
  /** As configured. */
  readonly numerics: RuntimeConfig["numerics"];
  /** As configured, by model. */
  readonly batchWaitSeconds: (model: string) => number;
  readonly version: string;
  /** Whether the server as a whole can infer. */
  readonly isReady: () => boolean;
  /** Whether somebody outside decides which models are on the device. */
  readonly isExternallyManaged: () => boolean;
}

/** The methods of the service, by path. */
export function inferenceService(options: InferenceServiceOptions): MethodTable {
  const { registry, regions, totals, platform } = options;
  const service = GRPCInferenceService.method;
  const memory = new BufferPool({ allocate: alignedBytes });
  return new Map<string, MethodHandler>([
    [methodPath(service.modelInfer), {
      kind: "unary",
      handle: inferHandler({ ...options, memory }),
      memory,
    }],
    unary(service.serverLive, () => ({ live: true })),
    unary(service.serverReady, () => ({ ready: options.isReady() })),
    unary(service.modelReady, ({ name }) => ({
      ready: registry.isReady(name) && problemOf(name, options) === undefined,
    })),
    unary(service.serverMetadata, () => ({
      name: "ReactantServer",
      version: options.version,
      extensions: ["system_shared_memory", "model_configuration", "statistics"],
    })),
    unary(service.modelMetadata, ({ name }) => describeModel(registry.ready(name), platform())),
    unary(service.modelConfig, ({ name }) => ({
      config: configureModel(
        registry.ready(name),
        platform(),
        effectiveNumerics(options, platform()),
        options.batchWaitSeconds(name),
      ),
    })),
    unary(service.modelStatistics, ({ name }) => ({
      modelStats: statisticsFor(name, [...registry.models()], totals),
    })),
    unary(service.repositoryIndex, ({ ready }) => ({
      models: routable(options).filter(({ isReady }) => isReady || !ready).map((entry) => ({
        name: entry.name,
        state: entry.isReady ? "READY" : "UNAVAILABLE",
        reason: entry.reason,
      })),
    })),
    unary(service.systemSharedMemoryStatus, ({ name }) => ({
      regions: Object.fromEntries(
        regions.status(name).map((region) => [region.name, {
          name: region.name,
          key: region.key,
          offset: BigInt(region.offset),
          byteSize: BigInt(region.byteSize),
        }]),
      ),
    })),
    unary(service.systemSharedMemoryRegister, (request) => {
      regions.register(request);
      return {};
    }),
    unary(service.systemSharedMemoryUnregister, ({ name }) => {
      if (name === "") regions.unregisterAll();
      else regions.unregister(name);
      return {};
    }),
    unary(service.cudaSharedMemoryStatus, () => ({})),
    unary(service.cudaSharedMemoryRegister, () => {
      throw new ServerError(
        "UNIMPLEMENTED",
        "CUDA shared memory is not supported; register system shared memory instead",
      );
    }),
    unary(service.cudaSharedMemoryUnregister, () => ({})),
    unary(service.isSameIPCNamespace, ({ name }) => ({ same: isSameIpcNamespace(name) })),
  ]);
}

/** What clients may discover: stages of a meta model are its own business. */
function routable(options: InferenceServiceOptions): IndexEntry[] {
  const hidden = hiddenModels(options.registry);
  return options.registry.index().filter(({ name }) => !hidden.has(name)).map((entry) => {
    const problem = entry.isReady ? problemOf(entry.name, options) : undefined;
    return problem === undefined ? entry : { ...entry, isReady: false, reason: problem };
  });
}

/** Why a loaded model cannot serve right now. */
function problemOf(name: string, options: InferenceServiceOptions): string | undefined {
  if (!options.isExternallyManaged()) return undefined;
  const model = options.registry.current(name);
  return model && residencyProblem(model, options.registry);
}

/** ModelInfer with admission and its metrics around it. */
function inferHandler(options: InferenceServiceOptions & InferResources) {
  const { admission, observer } = options;
  return async (message: Message, call: CallContext): Promise<Message> => {
    const startMs = performance.now();
    let status: "OK" | StatusName = "OK";
    let slot: Disposable | undefined;
    let inference: Inference | undefined;
    try {
      slot = admission.enter();
      inference = new Inference(options, message);
      return inference.answer(await inference.start(call), call);
    } catch (error) {
      status = error instanceof ServerError ? error.status : "INTERNAL";
      throw error;
    } finally {
      inference?.end();
      slot?.[Symbol.dispose]();
      // It was answered before this was done: late, given up, or with nobody there any more.
      if (call.isAborted) status = abortStatus(call);
      const seconds = (performance.now() - startMs) / 1000;
      const model = inference?.modelName;
      observer.ended(model, status, seconds);
      if (model !== undefined) options.totals.get(model)?.requestEnded(status === "OK", seconds);
    }
  };
}

function abortStatus({ signal }: CallContext): StatusName {
  return signal.reason instanceof ServerError ? signal.reason.status : "CANCELLED";
}

function statisticsFor(
  name: string,
  models: readonly ServedModel[],
  totals: ReadonlyMap<string, InferTotals>,
) {
  const wanted = name === "" ? models : models.filter((model) => model.name === name);
  if (name !== "" && wanted.length === 0) throw new NotFoundError(`Unknown model ${quoted(name)}`);
  return wanted.flatMap((model) => totals.get(model.name)?.message(model.name) ?? []);
}
