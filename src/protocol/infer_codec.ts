/**
 * ModelInfer messages to and from bytes, by hand: this is the hot path, and tensors must not be copied
 * on it. Decoded tensors are views of the received message (copies only where a tensor spans chunks);
 * encoded messages carry the caller's tensor arrays as chunks of their own. The generated code handles
 * the same messages in the tests, against which this is checked.
 */

import { InternalError, InvalidArgumentError } from "../errors.ts";
import { PACKED_SHAPE, readExtents, UNPACKED_EXTENT } from "./extents.ts";
import {
  type InferParameters,
  NO_PARAMETERS,
  readParameter,
  writeParameters,
} from "./parameters.ts";
import { WireError, WireReader, WireType } from "./wire_reader.ts";
import { varintLength, WireWriter } from "./wire_writer.ts";

/** A tensor as a message describes it; unchecked. */
export interface InferTensor {
  readonly name: string;
  readonly datatype: string;
  /** Exact below 2^53, the nearest double beyond. */
  readonly shape: readonly number[];
  readonly parameters: InferParameters;
  /** The encoded `InferTensorContents`, when the tensor has typed values. */
  readonly contents: Uint8Array | undefined;
}

export interface RequestedOutput {
  readonly name: string;
  readonly parameters: InferParameters;
}

/** A decoded ModelInferRequest. `rawContents` are views of the message. */
export interface InferRequest {
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
  readonly parameters: InferParameters;
  readonly inputs: readonly InferTensor[];
  readonly outputs: readonly RequestedOutput[];
  readonly rawContents: readonly Uint8Array[];
}

/** A decoded ModelInferResponse. `rawContents` are views of the message. */
export interface InferResponse {
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
  readonly parameters: InferParameters;
  readonly outputs: readonly InferTensor[];
  readonly rawContents: readonly Uint8Array[];
}

/** A tensor to send. */
export interface OutgoingTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  /** Sent as raw contents; `undefined`: the parameters say where in shared memory it lies. */
  readonly data: Uint8Array | undefined;
  readonly parameters?: InferParameters;
}

/** A ModelInferRequest to encode. */
export interface OutgoingRequest {
  readonly modelName: string;
  readonly modelVersion?: string;
  readonly id?: string;
  readonly parameters?: InferParameters;
  readonly inputs: readonly OutgoingTensor[];
  readonly outputs?: readonly RequestedOutput[];
}

/** A ModelInferResponse to encode. */
export interface OutgoingResponse {
  readonly modelName: string;
  readonly modelVersion?: string;
  readonly id?: string;
  readonly parameters?: InferParameters;
  readonly outputs: readonly OutgoingTensor[];
}

/** Tensors, requested outputs or raw contents one message may have. */
const MAX_TENSORS = 4096;
/**
 * A message up to this many bytes is sent as one chunk: copying so little costs less than handing on
 * several chunks.
 */
const SINGLE_CHUNK_BYTES = 4096;
/**
 * Headers and small messages are carved out of slabs of this size, each byte once: making an
 * `ArrayBuffer` for each costs 0.5 µs more (measured for 80 bytes on Deno 2.8.3).
 */
const SLAB_BYTES = 1 << 16;

const BYTES = WireType.bytes;
const NO_SHAPE: readonly number[] = [];

function tooMany(what: string): never {
  throw new WireError(`more than ${MAX_TENSORS} ${what}`);
}

function wrongType(tag: number): never {
  throw new WireError(`field ${tag >>> 3} has wire type ${tag & 7}`);
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

/** Reads an InferInputTensor or InferOutputTensor: their fields are the same. */
function readTensor(reader: WireReader): InferTensor {
  let name = "";
  let datatype = "";
  let shape: number[] | undefined;
  let parameters = NO_PARAMETERS;
  let contents: Uint8Array | undefined;
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    switch (tag) {
      case 1 << 3 | BYTES:
        name = reader.name();
        break;
      case 2 << 3 | BYTES:
        datatype = reader.name();
        break;
      case PACKED_SHAPE:
      case UNPACKED_EXTENT:
        readExtents(reader, tag, shape ??= []);
        break;
      case 4 << 3 | BYTES:
        parameters = readParameter(reader, parameters);
        break;
      case 5 << 3 | BYTES: {
        // A message field that comes twice is merged, and encodings merge by concatenation.
        const bytes = reader.bytes();
        contents = contents === undefined ? bytes : joined(contents, bytes);
        break;
      }
      default:
        if (tag >>> 3 <= 5) wrongType(tag);
        reader.skip(tag);
    }
  }
  return { name, datatype, shape: shape ?? NO_SHAPE, parameters, contents };
}

function readRequestedOutput(reader: WireReader): RequestedOutput {
  let name = "";
  let parameters = NO_PARAMETERS;
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    if (tag === (1 << 3 | BYTES)) name = reader.name();
    else if (tag === (2 << 3 | BYTES)) parameters = readParameter(reader, parameters);
    else if (tag >>> 3 <= 2) wrongType(tag);
    else reader.skip(tag);
  }
  return { name, parameters };
}

function readRequest(reader: WireReader): InferRequest {
  let modelName = "";
  let modelVersion = "";
  let id = "";
  let parameters = NO_PARAMETERS;
  const inputs: InferTensor[] = [];
  const outputs: RequestedOutput[] = [];
  const rawContents: Uint8Array[] = [];
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    switch (tag) {
      case 1 << 3 | BYTES:
        modelName = reader.name();
        break;
      case 2 << 3 | BYTES:
        modelVersion = reader.name();
        break;
      case 3 << 3 | BYTES:
        id = reader.string();
        break;
      case 4 << 3 | BYTES:
        parameters = readParameter(reader, parameters);
        break;
      case 5 << 3 | BYTES:
        if (inputs.push(readTensor(reader.message())) > MAX_TENSORS) tooMany("inputs");
        break;
      case 6 << 3 | BYTES:
        if (outputs.push(readRequestedOutput(reader.message())) > MAX_TENSORS) tooMany("outputs");
        break;
      case 7 << 3 | BYTES:
        if (rawContents.push(reader.bytes()) > MAX_TENSORS) tooMany("raw_input_contents");
        break;
      default:
        if (tag >>> 3 <= 7) wrongType(tag);
        reader.skip(tag);
    }
  }
  return { modelName, modelVersion, id, parameters, inputs, outputs, rawContents };
}

function readResponse(reader: WireReader): InferResponse {
  let modelName = "";
  let modelVersion = "";
  let id = "";
  let parameters = NO_PARAMETERS;
  const outputs: InferTensor[] = [];
  const rawContents: Uint8Array[] = [];
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    switch (tag) {
      case 1 << 3 | BYTES:
        modelName = reader.name();
        break;
      case 2 << 3 | BYTES:
        modelVersion = reader.name();
        break;
      case 3 << 3 | BYTES:
        id = reader.string();
        break;
      case 4 << 3 | BYTES:
        parameters = readParameter(reader, parameters);
        break;
      case 5 << 3 | BYTES:
        if (outputs.push(readTensor(reader.message())) > MAX_TENSORS) tooMany("outputs");
        break;
      case 6 << 3 | BYTES:
        if (rawContents.push(reader.bytes()) > MAX_TENSORS) tooMany("raw_output_contents");
        break;
      default:
        if (tag >>> 3 <= 6) wrongType(tag);
        reader.skip(tag);
    }
  }
  return { modelName, modelVersion, id, parameters, outputs, rawContents };
}

/**
 * Decodes a ModelInferRequest. The tensors' rules are not checked here: see `requestTensors`.
 * @throws {InvalidArgumentError} when the bytes are not such a message
 */
export function decodeInferRequest(chunks: readonly Uint8Array[]): InferRequest {
  try {
    return readRequest(WireReader.of(chunks));
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new InvalidArgumentError(`Malformed ModelInferRequest: ${error.message}`, {
      cause: error,
    });
  }
}

/**
 * Decodes a ModelInferResponse.
 * @throws {InternalError} when the bytes are not such a message
 */
export function decodeInferResponse(chunks: readonly Uint8Array[]): InferResponse {
  try {
    return readResponse(WireReader.of(chunks));
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new InternalError(`Malformed ModelInferResponse: ${error.message}`, { cause: error });
  }
}

/** Encoding is synchronous, so one writer serves every message. */
const writer = new WireWriter();

function writeHead(message: OutgoingRequest | OutgoingResponse): void {
  writer.reset();
  if (message.modelName !== "") writer.string(1, message.modelName);
  if (message.modelVersion) writer.string(2, message.modelVersion);
  if (message.id) writer.string(3, message.id);
  if (message.parameters) writeParameters(writer, 4, message.parameters);
}

function writeTensor(tensor: OutgoingTensor): void {
  const mark = writer.begin(5);
  writer.string(1, tensor.name);
  writer.string(2, tensor.datatype);
  if (tensor.shape.length > 0) {
    const shape = writer.begin(3);
    for (const extent of tensor.shape) writer.int64(extent);
    writer.end(shape);
  }
  if (tensor.parameters) writeParameters(writer, 4, tensor.parameters);
  writer.end(mark);
}

let slab = new Uint8Array(0);
let slabUsed = 0;

/** Fresh bytes that nothing else will ever use. */
function carve(length: number): Uint8Array {
  if (length > SLAB_BYTES / 4) return new Uint8Array(length);
  if (slabUsed + length > slab.length) {
    slab = new Uint8Array(SLAB_BYTES);
    slabUsed = 0;
  }
  const start = slabUsed;
  slabUsed += length;
  return slab.subarray(start, slabUsed);
}

/** Views of a larger array up to this many bytes are copied where they would keep that alive. */
const MAX_COMPACTED_BYTES = 65_536;

/**
 * A small slice of a large batch is copied, so that one slow reader does not keep the batch alive. Only
 * for what is sent as it lies: what goes into the message's own bytes is copied anyhow.
 */
function compact(data: Uint8Array): Uint8Array {
  const isSmallPart = data.length * 4 <= data.buffer.byteLength &&
    data.length <= MAX_COMPACTED_BYTES;
  return isSmallPart ? data.slice() : data;
}

function putPrefix(target: Uint8Array, at: number, tag: number, length: number): number {
  target[at++] = tag;
  for (; length > 0x7f; length >>>= 7) target[at++] = (length & 0x7f) | 0x80;
  target[at++] = length;
  return at;
}

/**
 * Puts the raw contents of `tensors` behind what the writer holds.
 * @param chunkOf makes a chunk of a tensor's data
 */
function withRawContents(
  tensors: readonly OutgoingTensor[],
  field: number,
  chunkOf: (data: Uint8Array) => Uint8Array = (data) => data,
): Uint8Array[] {
  const tag = field << 3 | BYTES;
  let headLength = writer.length;
  let dataLength = 0;
  for (const { data } of tensors) {
    if (data === undefined) continue;
    headLength += 1 + varintLength(data.length);
    dataLength += data.length;
  }
  if (headLength + dataLength <= SINGLE_CHUNK_BYTES) {
    const whole = carve(headLength + dataLength);
    writer.copyTo(whole);
    let at = writer.length;
    for (const { data } of tensors) {
      if (data === undefined) continue;
      at = putPrefix(whole, at, tag, data.length);
      whole.set(data, at);
      at += data.length;
    }
    return [whole];
  }
  // Everything but the data goes into one array, of which the chunks between the data are views.
  const head = carve(headLength);
  writer.copyTo(head);
  const chunks: Uint8Array[] = [];
  let start = 0;
  let at = writer.length;
  for (const { data } of tensors) {
    if (data === undefined) continue;
    at = putPrefix(head, at, tag, data.length);
    if (data.length === 0) continue;
    chunks.push(head.subarray(start, at), chunkOf(data));
    start = at;
  }
  if (start < at) chunks.push(head.subarray(start, at));
  return chunks;
}

/**
 * Encodes a ModelInferRequest. The data of the tensors is not copied unless the message is small; it
 * must not change until the call has settled.
 */
export function encodeInferRequest(request: OutgoingRequest): Uint8Array[] {
  writeHead(request);
  for (const input of request.inputs) writeTensor(input);
  for (const output of request.outputs ?? []) {
    const mark = writer.begin(6);
    writer.string(1, output.name);
    writeParameters(writer, 2, output.parameters);
    writer.end(mark);
  }
  return withRawContents(request.inputs, 7);
}

/**
 * Encodes a ModelInferResponse. The data of the tensors is not copied unless the message is small or the
 * data a small part of something larger; it must not change until the call has settled.
 */
export function encodeInferResponse(response: OutgoingResponse): Uint8Array[] {
  writeHead(response);
  for (const output of response.outputs) writeTensor(output);
  return withRawContents(response.outputs, 6, compact);
}
