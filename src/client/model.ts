/** A typed client of one server or gateway, whichever transport reaches it. */

import type {
  DescMessage,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import { InternalError } from "../errors.ts";
import {
  decodeInferResponse,
  decodeResponse,
  encodeInferRequest,
  encodeMessage,
  GRPCInferenceService,
  type InferResponse,
  methodPath,
  type ModelConfig,
  type ModelMetadataResponse,
  type ModelStatistics,
  type OutgoingRequest,
  type RepositoryIndexResponse_ModelIndex,
  type ServerMetadataResponse,
} from "../protocol/mod.ts";
import type { Message } from "../transport/mod.ts";
import { decodeInferAnswer, encodeInferCall, type InferAnswer, type InferCall } from "./infer.ts";

/** What may be said about one call. */
export interface UnaryOptions {
  /** Absolute, on the `performance.now()` clock, in milliseconds. */
  readonly deadlineMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
}

/**
 * Sends one message to a method and gives its answer; a failure is a `ServerError` with the call's
 * status.
 */
export type UnaryCall = (path: string, request: Message, options: UnaryOptions) => Promise<Message>;

const METHODS = GRPCInferenceService.method;
const INFER_PATH = methodPath(METHODS.modelInfer);

/**
 * The data plane of one server. It keeps nothing: connections belong to whoever made the `UnaryCall`.
 * Every method rejects with the `ServerError` its call ended with.
 */
export class InferenceClient {
  readonly #unary: UnaryCall;

  constructor(unary: UnaryCall) {
    this.#unary = unary;
  }

  /** Calls any unary method of any service, through the generated code. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    fields: MessageInitShape<I>,
    options: UnaryOptions = {},
  ): Promise<MessageShape<O>> {
    const request = encodeMessage(method.input, fields);
    return decodeResponse(method.output, await this.#unary(methodPath(method), request, options));
  }

  /** Whether the process answers. */
  async serverLive(options?: UnaryOptions): Promise<boolean> {
    return (await this.call(METHODS.serverLive, {}, options)).live;
  }

  /** Whether the server as a whole can infer. */
  async serverReady(options?: UnaryOptions): Promise<boolean> {
    return (await this.call(METHODS.serverReady, {}, options)).ready;
  }

  /** Whether a model can be inferred now; `false` for an unknown one. */
  async modelReady(name: string, options?: UnaryOptions): Promise<boolean> {
    return (await this.call(METHODS.modelReady, { name }, options)).ready;
  }

  serverMetadata(options?: UnaryOptions): Promise<ServerMetadataResponse> {
    return this.call(METHODS.serverMetadata, {}, options);
  }

  /** Names, datatypes and shapes of a model's inputs and outputs. */
  modelMetadata(name: string, options?: UnaryOptions): Promise<ModelMetadataResponse> {
    return this.call(METHODS.modelMetadata, { name }, options);
  }

  async modelConfig(name: string, options?: UnaryOptions): Promise<ModelConfig> {
    const { config } = await this.call(METHODS.modelConfig, { name }, options);
    if (config === undefined) throw new InternalError("ModelConfig answered without a config");
    return config;
  }

  /** Statistics of one model, or of all when `name` is empty. */
  async modelStatistics(name = "", options?: UnaryOptions): Promise<ModelStatistics[]> {
    return (await this.call(METHODS.modelStatistics, { name }, options)).modelStats;
  }

  /** The models clients may name; with `onlyReady`, those that can be inferred now. */
  async repositoryIndex(
    { onlyReady = false }: { readonly onlyReady?: boolean } = {},
    options?: UnaryOptions,
  ): Promise<RepositoryIndexResponse_ModelIndex[]> {
    return (await this.call(METHODS.repositoryIndex, { ready: onlyReady }, options)).models;
  }

  /** Runs a model. */
  async infer(call: InferCall, options: UnaryOptions = {}): Promise<InferAnswer> {
    return decodeInferAnswer(await this.#unary(INFER_PATH, encodeInferCall(call), options));
  }

  /** Runs a model with a request that says itself where its tensors lie; the answer is not unpacked. */
  async inferRaw(request: OutgoingRequest, options: UnaryOptions = {}): Promise<InferResponse> {
    return decodeInferResponse(
      await this.#unary(INFER_PATH, encodeInferRequest(request), options),
    );
  }

  /** Runs a model with a message that is encoded already; its chunks must stay as they are. */
  async inferMessage(message: Message, options: UnaryOptions = {}): Promise<InferAnswer> {
    return decodeInferAnswer(await this.#unary(INFER_PATH, message, options));
  }
}
