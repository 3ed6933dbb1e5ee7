/**
 * ModelInfer, from message to message: decode, check, run, select, encode. Tensors are never copied
 * here: inputs are views of the request, outputs go out as they came from the device.
 */

import { InternalError, InvalidArgumentError } from "../errors.ts";
import {
  decodeInferRequest,
  encodeInferResponse,
  type OutgoingTensor,
  remainingBudgetMs,
  requestTensors,
  sharedMemoryParameters,
  type WantedOutput,
} from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { CallContext, Message } from "../transport/mod.ts";
import type { HookCallLimits } from "./hooks/mod.ts";
import type { ModelRegistry } from "./model_registry.ts";
import type { ModelRunner } from "./model_runner.ts";
import type { ServedModel } from "./served_model.ts";
import type { SharedMemory } from "./shared_memory.ts";

export interface InferDependencies {
  readonly registry: ModelRegistry<ServedModel>;
  readonly runner: ModelRunner;
  readonly regions: SharedMemory;
}

/**
 * Answers one ModelInfer.
 * @param onModel told the model once it is known to exist, for metrics
 * @throws {ServerError}
 */
export async function infer(
  { registry, runner, regions }: InferDependencies,
  message: Message,
  call: CallContext,
  onModel: (model: ServedModel) => void,
): Promise<Message> {
  const request = decodeInferRequest(message);
  if (request.modelName === "") throw new InvalidArgumentError("ModelInfer needs a model_name");
  const model = registry.ready(request.modelName);
  onModel(model);
  const staged = regions.staged();
  const checked = model.contract.checkInputs(requestTensors(request, staged));
  const wanted = model.contract.wantedOutputs(request.outputs);
  for (const { target, name } of wanted) {
    if (target) regions.check(target, `output ${JSON.stringify(name)}`);
  }
  const limits: HookCallLimits = {
    deadlineMs: earliest(call.deadlineMs, remainingBudgetMs(request.parameters)),
    isAborted: () => call.isAborted,
    onAbort: (listener) => call.onAbort?.(listener),
  };
  let outputs: readonly NamedTensor[];
  try {
    outputs = await runner.run(model, checked.inputs, checked.rows, limits);
  } finally {
    // The device has let go of its inputs by now; hooks may have passed theirs on, into outputs even.
    if (model.kind === "model" && !model.hasHooks) staged.release();
  }
  return encodeInferResponse({
    modelName: request.modelName,
    id: request.id,
    outputs: wanted.map((output) => select(output, outputs, regions)),
  });
}

/** The earlier of a call's absolute deadline and a remaining budget, in `performance.now()` ms. */
function earliest(
  deadlineMs: number | undefined,
  budgetMs: number | undefined,
): number | undefined {
  if (budgetMs === undefined) return deadlineMs;
  return Math.min(deadlineMs ?? Infinity, performance.now() + budgetMs);
}

/** One requested output: inline, or written to where the client wants it. */
function select(
  { name, target }: WantedOutput,
  outputs: readonly NamedTensor[],
  regions: SharedMemory,
): OutgoingTensor {
  const output = outputs.find((candidate) => candidate.name === name);
  if (!output) throw new InternalError(`The model gave no output ${JSON.stringify(name)}`);
  const { datatype, shape, data } = output;
  if (!target) return { name, datatype, shape, data };
  if (data.length > target.byteSize) {
    throw new InvalidArgumentError(
      `output ${JSON.stringify(name)} has ${data.length} bytes; its shared-memory slot holds ` +
        `${target.byteSize}`,
    );
  }
  regions.write(target, data, `output ${JSON.stringify(name)}`);
  const parameters = sharedMemoryParameters({ ...target, byteSize: data.length });
  return { name, datatype, shape, data: undefined, parameters };
}
