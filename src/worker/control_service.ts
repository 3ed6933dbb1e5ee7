/**
 * `reactant_control.ControlService`: what an operator or a gateway sees and sets on one worker. In this
 * version all weights stay on the device, so residency can be read but not changed.
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { FailedPreconditionError, InvalidArgumentError, NotFoundError } from "../errors.ts";
import { batchInputOf } from "../bundle/mod.ts";
import { ControlService, type ModelStatusSchema, quoted, Residency } from "../protocol/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";
import type { MethodTable } from "../transport/mod.ts";
import type { LoadedModel } from "./loaded_model.ts";
import type { MetaModel } from "./meta_model.ts";
import type { ModelRegistry } from "./model_registry.ts";
import { hiddenModels, type ServedModel } from "./served_model.ts";
import { unary } from "./unary_method.ts";

export interface ControlServiceOptions {
  readonly registry: ModelRegistry<ServedModel>;
  readonly scheduler: Scheduler;
  /** `fair`, `fifo` or `edf`. */
  readonly discipline: string;
}

/** The methods of the service, by path. */
export function controlService(options: ControlServiceOptions): MethodTable {
  const { registry, scheduler } = options;
  const service = ControlService.method;
  return new Map([
    unary(service.modelControlStatus, () => {
      const hidden = hiddenModels(registry);
      return {
        residencyMode: "self_managed",
        discipline: options.discipline,
        models: [...registry.models()]
          .filter(({ name }) => !hidden.has(name))
          .map((model) =>
            model.kind === "model" ? modelStatus(model, scheduler) : metaStatus(model, registry)
          ),
      };
    }),
    unary(service.setModelResidency, ({ name, target }) => {
      if (!(target in Residency) || target === Residency.RESIDENCY_UNSPECIFIED) {
        throw new InvalidArgumentError(`${target} is no residency a model can have`);
      }
      throw new FailedPreconditionError(
        `The residency of model ${quoted(name)} cannot be set: this worker keeps all weights on ` +
          "the device",
      );
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
    // Nothing is resident on demand, so there is nothing to free and nothing to load again.
    unary(service.compactMemory, () => ({})),
  ]);
}

function modelStatus(
  model: LoadedModel,
  scheduler: Scheduler,
): MessageInitShape<typeof ModelStatusSchema> {
  const queue = scheduler.queueOf(model.name)!;
  const { counters } = queue;
  const batch = batchInputOf(model.bundle.manifest);
  const rank = model.contract.inputs.find(({ name }) => name === batch?.name)?.shape.length ?? 0;
  return {
    name: model.name,
    residency: Residency.PINNED_DEVICE,
    deviceResident: true,
    weightNbytes: BigInt(model.weightBytes),
    weight: queue.weight,
    queueDepth: BigInt(queue.depth),
    totalComputeSeconds: counters.computeSeconds,
    requestsServed: BigInt(counters.requests),
    dispatchCount: BigInt(counters.dispatches),
    maxBatchSize: BigInt(model.maxBatchSize),
    batchInputName: batch?.name ?? "",
    // 1-based and counted from the end: where the batch letter stands in a column-major manifest.
    batchAxis: BigInt(batch ? rank - batch.axis : 0),
    rowsServed: BigInt(counters.rows),
  };
}

function metaStatus(
  meta: MetaModel,
  registry: ModelRegistry<ServedModel>,
): MessageInitShape<typeof ModelStatusSchema> {
  const stages = [...registry.models()].filter((model) =>
    model.kind === "model" && meta.calls.has(model.name)
  ) as LoadedModel[];
  const { requests, computeSeconds } = meta.counters;
  return {
    name: meta.name,
    residency: stages.length > 0 ? Residency.PINNED_DEVICE : Residency.UNPINNED,
    deviceResident: stages.length > 0,
    weightNbytes: BigInt(stages.reduce((total, stage) => total + stage.weightBytes, 0)),
    weight: 1,
    totalComputeSeconds: computeSeconds,
    requestsServed: BigInt(requests),
    dispatchCount: BigInt(requests),
    rowsServed: BigInt(requests),
  };
}
