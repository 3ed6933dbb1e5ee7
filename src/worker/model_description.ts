/** What clients are told about a model: KServe metadata and Triton's model configuration. */

import { create } from "@bufbuild/protobuf";
import type { ManifestTensor } from "../bundle/mod.ts";
import type { EffectiveNumerics } from "../runtime/mod.ts";
import {
  configDatatype,
  type ModelConfig,
  ModelConfigSchema,
  ModelInputSchema,
  ModelInstanceGroup_Kind,
  ModelInstanceGroupSchema,
  type ModelMetadataResponse,
  ModelMetadataResponse_TensorMetadataSchema,
  ModelMetadataResponseSchema,
  ModelOutputSchema,
  ModelParameterSchema,
} from "../protocol/mod.ts";
import type { ServedModel } from "./served_model.ts";

/** `ModelMetadata`: client-facing tensors in wire order, -1 for batch and variable axes. */
export function describeModel(model: ServedModel, platform: string): ModelMetadataResponse {
  const tensor = ({ name, datatype, shape }: ManifestTensor) =>
    create(ModelMetadataResponse_TensorMetadataSchema, {
      name,
      datatype,
      shape: shape.map(BigInt),
    });
  const { clientInputs, clientOutputs } = model.bundle.manifest;
  return create(ModelMetadataResponseSchema, {
    name: model.name,
    platform,
    inputs: clientInputs.map(tensor),
    outputs: clientOutputs.map(tensor),
  });
}

/**
 * `ModelConfig`, as far as Triton's tools read it. Triton leaves the batch axis out of `dims` when
 * `max_batch_size` is positive, which needs it to come first in every tensor; a model laid out otherwise
 * is described as unbatched, with full shapes.
 * @param batchWaitSeconds how long a request of the model may wait for others to join its dispatch
 */
export function configureModel(
  model: ServedModel,
  platform: string,
  numerics: EffectiveNumerics,
  batchWaitSeconds: number,
): ModelConfig {
  const { clientInputs, clientOutputs } = model.bundle.manifest;
  const maxBatchSize = model.kind === "model" ? model.maxBatchSize : 0;
  const isBatched = maxBatchSize > 0 &&
    [...clientInputs, ...clientOutputs].every(({ batchAxis }) => batchAxis === 0);
  const fields = ({ name, datatype, shape }: ManifestTensor) => ({
    name,
    dataType: configDatatype(datatype),
    dims: (isBatched ? shape.slice(1) : shape).map(BigInt),
  });
  return create(ModelConfigSchema, {
    name: model.name,
    platform,
    backend: "pjrt",
    parameters: model.kind === "model"
      ? { numerics: create(ModelParameterSchema, { stringValue: numerics }) }
      : {},
    maxBatchSize: isBatched ? maxBatchSize : 0,
    input: clientInputs.map((tensor) => create(ModelInputSchema, fields(tensor))),
    output: clientOutputs.map((tensor) => create(ModelOutputSchema, fields(tensor))),
    instanceGroup: [
      create(ModelInstanceGroupSchema, {
        name: `${model.name}_0`,
        count: 1,
        kind: platform === "cpu" ? ModelInstanceGroup_Kind.CPU : ModelInstanceGroup_Kind.GPU,
      }),
    ],
    schedulingChoice: isBatched && model.kind === "model" && model.isCoalescable
      ? {
        case: "dynamicBatching",
        value: {
          preferredBatchSize: model.allSizes.filter((size) => size > 1),
          maxQueueDelayMicroseconds: BigInt(Math.round(1e6 * batchWaitSeconds)),
        },
      }
      : { case: undefined },
  });
}
