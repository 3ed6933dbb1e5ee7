/** One model on one server, with everything a caller wants done for it: memory, deadlines, retries. */

import { ServerError } from "../errors.ts";
import { type InferParameter, type InferParameters, NO_PARAMETERS } from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { InferAnswer } from "./infer.ts";
import type { InferenceClient, UnaryOptions } from "./model.ts";
import {
  DEFAULT_RETRY_POLICY,
  isStaleRegistration,
  type RetryClock,
  type RetryPolicy,
  systemRetryClock,
  withRetries,
} from "./retry.ts";
import type { StagingArea } from "./shared_memory_pool.ts";
import type { SharedMemoryRoute } from "./shared_memory_route.ts";
import {
  collectOutputs,
  packedLength,
  stagedLength,
  type StagedOutput,
  stageRequest,
} from "./staging.ts";

export interface ModelHandleOptions {
  readonly inference: InferenceClient;
  readonly name: string;
  /** Items one request may carry. Default 1. */
  readonly maxBatchSize?: number;
  /** For one request with all its retries; 0: none, and so no retries. Default 10 s. */
  readonly deadlineMs?: number;
  readonly retry?: RetryPolicy;
  /** Without it tensors travel in the message. */
  readonly memory?: SharedMemoryRoute;
  readonly clock?: RetryClock;
}

/** Longer than any server goes on with a call whose client has left. */
const RETIREMENT_MS = 5000;

/** What to run once. */
export interface ModelCall {
  /** Their data must not change until the call has settled. */
  readonly inputs: readonly NamedTensor[];
  /**
   * The outputs wanted, in order. Those with a size go through shared memory where the inputs do.
   * Default: all, in the message.
   */
  readonly outputs?: readonly (StagedOutput | { readonly name: string })[];
  readonly id?: string;
  readonly signal?: AbortSignal;
}

/** A model to run. Keeps nothing but its settings; every failure is a `ServerError`. */
export class ModelHandle {
  readonly name: string;
  readonly maxBatchSize: number;
  readonly deadlineMs: number;
  readonly #inference: InferenceClient;
  readonly #retry: RetryPolicy;
  readonly #memory: SharedMemoryRoute | undefined;
  readonly #clock: RetryClock;

  constructor(options: ModelHandleOptions) {
    this.name = options.name;
    this.maxBatchSize = options.maxBatchSize ?? 1;
    this.deadlineMs = options.deadlineMs ?? 10_000;
    this.#inference = options.inference;
    this.#retry = options.retry ?? DEFAULT_RETRY_POLICY;
    this.#memory = options.memory;
    this.#clock = options.clock ?? systemRetryClock;
  }

  /** The route this model's tensors may take. */
  get memory(): SharedMemoryRoute | undefined {
    return this.#memory;
  }

  /** Runs the model, through shared memory where that is possible, trying again where it helps. */
  infer(call: ModelCall): Promise<InferAnswer> {
    return withRetries((budgetMs) => this.#attempt(call, budgetMs), {
      policy: this.#retry,
      deadlineMs: this.deadlineMs,
      signal: call.signal,
      clock: this.#clock,
    });
  }

  async #attempt(call: ModelCall, budgetMs: number | undefined): Promise<InferAnswer> {
    const endMs = budgetMs === undefined ? undefined : performance.now() + budgetMs;
    const memory = this.#memory;
    if (memory !== undefined && await memory.isUsable()) {
      for (let isSecond = false;; isSecond = true) {
        const { generation } = memory;
        try {
          return await this.#throughMemory(memory, call, endMs);
        } catch (error) {
          if (!isStaleRegistration(error)) throw error;
          if (isSecond) memory.latch(error);
          if (isSecond || !await memory.recover(generation)) break;
        }
      }
    }
    const { inputs, id } = call;
    const outputs = call.outputs?.map(({ name }) => name);
    const options = optionsOf(endMs, call.signal);
    return await this.#inference.infer(
      { modelName: this.name, inputs, outputs, id, parameters: budgetParameters(endMs) },
      options,
    );
  }

  async #throughMemory(
    { pool }: SharedMemoryRoute,
    call: ModelCall,
    endMs: number | undefined,
  ): Promise<InferAnswer> {
    const staged = stagedOutputs(call);
    const [packed, aligned] = [
      packedLength(call.inputs, staged),
      stagedLength(call.inputs, staged),
    ];
    // A dataset is cut by its bytes, and what is between them is not worth a slot.
    const isWorthIt = pool.slotsFor(aligned) === pool.slotsFor(packed);
    const area = await pool.acquire(isWorthIt ? aligned : packed, optionsOf(endMs, call.signal));
    try {
      const answer = await this.#staged(area, pool.region, call, endMs);
      area[Symbol.dispose]();
      return answer;
    } catch (error) {
      if (staged.length > 0 && mayStillRun(error)) retire(area);
      else area[Symbol.dispose]();
      throw error;
    }
  }

  async #staged(
    area: StagingArea,
    region: string,
    call: ModelCall,
    endMs: number | undefined,
  ): Promise<InferAnswer> {
    const { outputs = [], id, signal } = call;
    const staged = stagedOutputs(call);
    const request = stageRequest({ area, region, inputs: call.inputs, outputs: staged });
    const places = new Map(request.outputs!.map(({ name, parameters }) => [name, parameters]));
    const response = await this.#inference.inferRaw({
      modelName: this.name,
      id,
      parameters: budgetParameters(endMs),
      inputs: request.inputs,
      outputs: outputs.map(({ name }) => ({
        name,
        parameters: places.get(name) ?? NO_PARAMETERS,
      })),
    }, optionsOf(endMs, signal));
    const { modelName, modelVersion, id: answerId, parameters } = response;
    return {
      modelName,
      modelVersion,
      id: answerId,
      parameters,
      outputs: collectOutputs(response, area, region),
    };
  }
}

function stagedOutputs({ outputs = [] }: ModelCall): StagedOutput[] {
  return outputs.filter((output): output is StagedOutput => "byteSize" in output);
}

/** Whether the server may be at it although the call is over here, and write its outputs yet. */
function mayStillRun(error: unknown): boolean {
  return error instanceof ServerError &&
    ["CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "INTERNAL"].includes(error.status);
}

/** Gives an area back when nobody can be writing to it any more. */
function retire(area: StagingArea): void {
  Deno.unrefTimer(setTimeout(() => area[Symbol.dispose](), RETIREMENT_MS));
}

function optionsOf(deadlineMs: number | undefined, signal: AbortSignal | undefined): UnaryOptions {
  return { ...(deadlineMs === undefined ? {} : { deadlineMs }), ...(signal ? { signal } : {}) };
}

/** What is left, as servers behind a gateway learn it. */
function budgetParameters(endMs: number | undefined): InferParameters | undefined {
  if (endMs === undefined) return undefined;
  const nanoseconds = Math.max(1, Math.floor((endMs - performance.now()) * 1e6));
  const value: InferParameter = { kind: "int64", value: nanoseconds };
  return new Map([["reactant_timeout_ns", value]]);
}
