/** One inference: tensors in, tensors out. */

import {
  decodeInferResponse,
  encodeInferRequest,
  type InferParameters,
  NO_PARAMETERS,
  type OutgoingTensor,
  responseTensors,
} from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { Message } from "../transport/mod.ts";

/** What to infer. */
export interface InferCall {
  readonly modelName: string;
  /** Sent as raw contents; the bytes must not change until the call has settled. */
  readonly inputs: readonly NamedTensor[];
  /** Names of the outputs wanted, in order. Default: all. */
  readonly outputs?: readonly string[];
  readonly id?: string;
  readonly parameters?: InferParameters;
}

/** The answer. Tensor data are views of the received message. */
export interface InferAnswer {
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
  readonly parameters: InferParameters;
  readonly outputs: readonly NamedTensor[];
}

/** Encodes a call as a ModelInferRequest. */
export function encodeInferCall(call: InferCall): Uint8Array[] {
  const inputs: readonly OutgoingTensor[] = call.inputs;
  const outputs = call.outputs?.map((name) => ({ name, parameters: NO_PARAMETERS }));
  return encodeInferRequest({ ...call, inputs, outputs });
}

/**
 * Decodes a ModelInferResponse.
 * @throws {InternalError} when the server's answer is malformed or contradicts itself
 */
export function decodeInferAnswer(message: Message): InferAnswer {
  const response = decodeInferResponse(message);
  const { modelName, modelVersion, id, parameters } = response;
  return { modelName, modelVersion, id, parameters, outputs: responseTensors(response) };
}
