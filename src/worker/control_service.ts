/** `reactant_control.ControlService`: what an operator or a gateway sees and sets on one worker. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  FailedPreconditionError,
  InvalidArgumentError,
  messageOf,
  NotFoundError,
  ResourceExhaustedError,
} from "../errors.ts";
import { batchInputOf } from "../bundle/mod.ts";
import { ControlService, type ModelStatusSchema, quoted } from "../protocol/mod.ts";
import type { WeightStore } from "../runtime/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import type { MethodTable } from "../transport/mod.ts";
import type { LoadedModel } from "./loaded_model.ts";
import type { MetaModel } from "./meta_model.ts";
import type { ModelRegistry } from "./model_registry.ts";
import { floorOf, modelsOf, residencyOf, setResidency } from "./residency.ts";
import { hiddenModels, type ServedModel } from "./served_model.ts";
import { unary } from "./unary_method.ts";

export interface ControlServiceOptions {
  readonly registry: ModelRegistry<ServedModel>;
  readonly scheduler: Scheduler;
  /** What people call this worker. */
  readonly workerName: string;
  /** `fair`, `fifo` or `edf`. */
  readonly discipline: string;
  /** There once the device is. */
  readonly weights: () => WeightStore | undefined;
}

/** The methods of the service, by path. */
export function controlService(options: ControlServiceOptions): MethodTable {
  const { registry, scheduler, weights } = options;
  const service = ControlService.method;
  return new Map([
    unary(service.modelControlStatus, () => {
      const hidden = hiddenModels(registry);
      return {
        residencyMode: weights()?.isExternallyManaged ? "externally_managed" : "self_managed",
        discipline: options.discipline,
        workerName: options.workerName,
        models: [...registry.models()]
          .filter(({ name }) => !hidden.has(name))
          .map((model) =>
            model.kind === "model" ? modelStatus(model, scheduler) : metaStatus(model, registry)
          ),
        weightCacheMaxBytes: BigInt(weights()?.reading()?.maxBytes ?? 0),
      };
    }),
    unary(service.setModelResidency, async ({ name, target }) => {
      const floor = floorOf(target);
      if (!weights()?.isExternallyManaged) {
        throw new FailedPreconditionError(
          `The residency of model ${quoted(name)} cannot be set: this worker manages it itself; ` +
            "that needs model_control_mode explicit, and a budget for weights",
        );
      }
      return { residency: await setResidency(registry.ready(name), floor, registry) };
    }),
    unary(service.setModelPolicy, ({ name, hasWeight, weight }) => {
      const queue = scheduler.queueOf(name);
      if (!queue) throw new NotFoundError(`Unknown model ${quoted(name)}`);
      if (hasWeight) {
        if (!Number.isFinite(weight) || weight <= 0) {
          throw new InvalidArgumentError(
            `The weight of model ${quoted(name)} must be a positive number, got ${weight}`,
          );
        }
        queue.weight = weight;
      }
      return {};
    }),
    unary(service.compactMemory, async ({ reloadModels }) => {
      const store = weights();
      if (!store) return {};
      try {
        const { reloaded, residentBytes } = await scheduler.runExclusive(() => {
          const models = reloadModels.flatMap((name) => {
            const model = registry.current(name);
            return model ? modelsOf(model, registry) : [];
          });
          return store.compact(models.map((model) => model.weights));
        });
        return { reloadedModels: BigInt(reloaded), residentBytesAfter: BigInt(residentBytes) };
      } catch (error) {
        if (error instanceof ResourceExhaustedError) throw error;
        const reason = messageOf(error);
        throw new FailedPreconditionError(`Device memory could not be compacted: ${reason}`, {
          cause: error,
        });
      }
    }),
  ]);
}

function modelStatus(
  model: LoadedModel,
  scheduler: Scheduler,
): MessageInitShape<typeof ModelStatusSchema> {
  const queue = scheduler.queueOf(model.name)!;
  const { counters } = queue;
  const batch = batchInputOf(model.bundle.manifest);
  const { residency, isDeviceResident, isHostResident, weightBytes } = residencyOf([model]);
  return {
    name: model.name,
    residency,
    deviceResident: isDeviceResident,
    hostResident: isHostResident,
    weightNbytes: BigInt(weightBytes),
    weight: queue.weight,
    queueDepth: BigInt(queue.depth),
    totalComputeSeconds: counters.computeSeconds,
    requestsServed: BigInt(counters.requests),
    dispatchCount: BigInt(counters.dispatches),
    maxBatchSize: BigInt(model.maxBatchSize),
    batchInputName: batch?.name ?? "",
    batchAxis: BigInt(batch ? batch.axis + 1 : 0),
    rowsServed: BigInt(counters.rows),
  };
}

function metaStatus(
  meta: MetaModel,
  registry: ModelRegistry<ServedModel>,
): MessageInitShape<typeof ModelStatusSchema> {
  const { residency, isDeviceResident, isHostResident, weightBytes } = residencyOf(
    modelsOf(meta, registry),
  );
  const { requests, computeSeconds } = meta.counters;
  return {
    name: meta.name,
    residency,
    deviceResident: isDeviceResident,
    hostResident: isHostResident,
    weightNbytes: BigInt(weightBytes),
    weight: 1,
    totalComputeSeconds: computeSeconds,
    requestsServed: BigInt(requests),
    dispatchCount: BigInt(requests),
    rowsServed: BigInt(requests),
  };
}
