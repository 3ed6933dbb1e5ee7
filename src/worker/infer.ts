/**
 * ModelInfer, from message to message: decode, check, run, select, encode. Tensors are never copied
 * here: inputs are views of the request or of the client's shared memory, outputs go out as they came from
 * the device.
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
import type { RegionUse } from "./region_use.ts";
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
  const use = regions.use(model.kind === "model" && !model.hasHooks);
  try {
    const checked = model.contract.checkInputs(requestTensors(request, use));
    const wanted = model.contract.wantedOutputs(request.outputs);
    for (const { target, name } of wanted) {
      if (target) use.place(name, target, `output ${JSON.stringify(name)}`);
    }
    const targets = use.targets((name) => wanted.filter((each) => each.name === name).length === 1);
    const limits: HookCallLimits = {
      deadlineMs: earliest(call.deadlineMs, remainingBudgetMs(request.parameters)),
      isAborted: () => call.isAborted,
      onAbort: (listener) => call.onAbort?.(listener),
    };
    const outputs = await runner.run(model, { ...checked, targets }, limits);
    use.verifyInputs();
    return encodeInferResponse({
      modelName: request.modelName,
      id: request.id,
      outputs: wanted.map((output) => select(output, outputs, use)),
    });
  } finally {
    // Success or not, the device has let go of inputs and targets by now.
    use.release();
  }
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
  use: RegionUse,
): OutgoingTensor {
  const output = outputs.find((candidate) => candidate.name === name);
  if (!output) throw new InternalError(`The model gave no output ${JSON.stringify(name)}`);
  const { datatype, shape, data } = output;
  if (!target) return { name, datatype, shape, data };
  use.write(target, data);
  const parameters = sharedMemoryParameters({ ...target, byteSize: data.length });
  return { name, datatype, shape, data: undefined, parameters };
}
