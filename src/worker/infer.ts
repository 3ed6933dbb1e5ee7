/**
 * ModelInfer, from message to message: decode, check, run, select, encode. Tensors are never copied
 * here: inputs are views of the request or of the client's shared memory, outputs go out as they came from
 * the device.
 */

import { InternalError, InvalidArgumentError } from "../errors.ts";
import {
  decodeInferRequest,
  encodeInferResponse,
  type InferRequest,
  type OutgoingTensor,
  remainingBudgetMs,
  requestTensors,
  sharedMemoryParameters,
  type SharedMemoryReference,
  type WantedOutput,
} from "../protocol/mod.ts";
import type { OutputTargets } from "../scheduler/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { BufferPool, CallContext, Message } from "../transport/mod.ts";
import type { HookCallLimits } from "./hooks/mod.ts";
import type { ModelRegistry } from "./model_registry.ts";
import type { ModelRunner } from "./model_runner.ts";
import { OutputMemory } from "./output_memory.ts";
import type { RegionUse } from "./region_use.ts";
import type { ServedModel } from "./served_model.ts";
import type { SharedMemory } from "./shared_memory.ts";

export interface InferDependencies {
  readonly registry: ModelRegistry<ServedModel>;
  readonly runner: ModelRunner;
  readonly regions: SharedMemory;
}

/** What inferences share besides. */
export interface InferResources extends InferDependencies {
  /** For large results. */
  readonly memory: BufferPool;
}

/**
 * One ModelInfer. Only the model is waited for, between `start` and `answer`; whatever happens, `end`
 * comes last. All of it is on the path of every request, so there is one promise and no step of its own
 * for anything that most requests do not have.
 */
export class Inference {
  readonly #resources: InferResources;
  readonly #request: InferRequest;
  /** Once it was found. */
  #model: ServedModel | undefined;
  #wanted: readonly WantedOutput[] = [];
  /** Of shared memory, where there is any. */
  #use: RegionUse | undefined;
  /** Where large results go, of a model that is a program and no more. */
  #memory: OutputMemory | undefined;
  #isUsingModel = false;

  /**
   * Reads a request.
   * @throws {ServerError}
   */
  constructor(resources: InferResources, message: Message) {
    const request = decodeInferRequest(message);
    if (request.modelName === "") throw new InvalidArgumentError("ModelInfer needs a model_name");
    this.#resources = resources;
    this.#request = request;
  }

  /** The name of the model, or what was asked for where no model answers to it. */
  get modelName(): string {
    return this.#model?.name ?? this.#request.modelName;
  }

  /**
   * Finds the model, checks the request and runs it; may also throw at once.
   * @throws {ServerError}
   */
  start(call: CallContext): Promise<readonly NamedTensor[]> {
    const request = this.#request;
    const { registry, regions, runner, memory } = this.#resources;
    const model = this.#model = registry.ready(request.modelName);
    const isProgramAlone = model.kind === "model" && !model.hasHooks;
    const use = mayUseRegions(request) ? regions.use(isProgramAlone) : undefined;
    this.#use = use;
    const { inputs, rows } = model.contract.checkInputs(requestTensors(request, use));
    const wanted = this.#wanted = model.contract.wantedOutputs(request.outputs);
    let targets: OutputTargets | undefined;
    if (use === undefined) {
      if (isProgramAlone && model.hasLargeResults) {
        targets = this.#memory = new OutputMemory(memory);
      }
    } else {
      for (const { target, name } of wanted) {
        if (!target) continue;
        // A hook may give another number of rows than it was given.
        const bytes = model.contract.outputBytes(name, isProgramAlone ? rows : undefined);
        use.place(name, target, `output ${JSON.stringify(name)}`, bytes);
      }
      targets = use.targets((name) => wanted.filter((each) => each.name === name).length === 1);
    }
    const limits: HookCallLimits = {
      deadlineMs: earliest(call.deadlineMs, remainingBudgetMs(request.parameters)),
      isAborted: () => call.isAborted,
      onAbort: (listener) => call.onAbort?.(listener),
      giveUp: (reason) => call.giveUp?.(reason),
    };
    // Before anything is waited for, so that the model found is still there.
    model.usage.begin();
    this.#isUsingModel = true;
    return runner.run(model, { inputs, rows, targets }, limits);
  }

  /**
   * The answer to send to `call`.
   * @param outputs as the model gave them
   * @throws {ServerError}
   */
  answer(outputs: readonly NamedTensor[], call: CallContext): Message {
    this.#memory?.lendTo(call);
    this.#use?.verifyInputs();
    const wanted = this.#wanted;
    const tensors = new Array<OutgoingTensor>(wanted.length);
    for (let index = 0; index < wanted.length; index++) {
      const { name, target } = wanted[index]!;
      const output = outputs[index]?.name === name
        ? outputs[index]!
        : outputs.find((candidate) => candidate.name === name);
      if (!output) throw new InternalError(`The model gave no output ${JSON.stringify(name)}`);
      tensors[index] = target ? this.#placed(output, target) : output;
    }
    const { modelName, id } = this.#request;
    return encodeInferResponse({ modelName, id, outputs: tensors });
  }

  /** Lets go of everything. Success or not, the device has let go of inputs and targets by now. */
  end(): void {
    if (this.#isUsingModel) this.#model!.usage.end();
    this.#use?.release();
  }

  /** An output that is written to where the client wants it. */
  #placed({ name, datatype, shape, data }: NamedTensor, target: SharedMemoryReference) {
    this.#use!.write(target, data);
    const parameters = sharedMemoryParameters({ ...target, byteSize: data.length });
    return { name, datatype, shape, data: undefined, parameters };
  }
}

/** Whether any tensor comes with parameters, which is where shared memory is spoken of. */
function mayUseRegions({ inputs, outputs }: InferRequest): boolean {
  for (const { parameters } of inputs) if (parameters.size > 0) return true;
  for (const { parameters } of outputs) if (parameters.size > 0) return true;
  return false;
}

/** The earlier of a call's absolute deadline and a remaining budget, in `performance.now()` ms. */
function earliest(
  deadlineMs: number | undefined,
  budgetMs: number | undefined,
): number | undefined {
  if (budgetMs === undefined) return deadlineMs;
  return Math.min(deadlineMs ?? Infinity, performance.now() + budgetMs);
}
