/** From a decoded message to tensors: where the bytes lie, how many there must be, what they must be. */

import { FailedPreconditionError, InternalError, InvalidArgumentError } from "../errors.ts";
import {
  type Datatype,
  datatypeFromWire,
  type DatatypeInfo,
  formatShape,
  type NamedTensor,
} from "../tensor/mod.ts";
import { decodeContents } from "./contents.ts";
import type { InferRequest, InferResponse, InferTensor } from "./infer_codec.ts";
import { type SharedMemoryReference, sharedMemoryReference } from "./parameters.ts";

/** Finds the bytes of shared-memory regions that clients have registered. */
export interface SharedMemoryRegions {
  /**
   * The bytes referred to: a copy, or the client's memory itself, which then stays where it is for as
   * long as the request takes. `what` names the tensor, `datatype` is what the client says it is.
   * @throws {FailedPreconditionError} when no such region is registered
   * @throws {InvalidArgumentError} when the range does not lie within it
   */
  read(reference: SharedMemoryReference, what: string, datatype: Datatype): Uint8Array;
}

/** A server without shared memory: every region is unknown to it. */
export const NO_REGIONS: SharedMemoryRegions = {
  read({ region }, what) {
    // Clients look for this very wording when a server does not give them the status.
    throw new FailedPreconditionError(
      `${what} refers to an unregistered shared memory region: ${quoted(region)}`,
    );
  },
};

const MAX_QUOTED = 200;

/** A client's text in a message: quoted, and cut when it is long. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}

/** `input "x" of model "m"`. */
export function inputName(tensor: string, model: string): string {
  return `input ${quoted(tensor)} of model ${quoted(model)}`;
}

/** Elements of a shape from the wire, which may be anything. */
function checkedCount(shape: readonly number[], what: () => string): number {
  let count = 1;
  let hasZero = false;
  for (const extent of shape) {
    if (extent < 0) {
      throw new InvalidArgumentError(`${what()} has a negative extent: [${shape.join(",")}]`);
    }
    if (extent === 0) hasZero = true;
    count *= extent;
    if (extent > Number.MAX_SAFE_INTEGER) count = Infinity;
  }
  if (hasZero) return 0;
  if (count > Number.MAX_SAFE_INTEGER) {
    throw new InvalidArgumentError(`${what()} is larger than any memory: [${shape.join(",")}]`);
  }
  return count;
}

/** Checks the raw form of BYTES: every element within the data, and as many as the shape says. */
function checkElements(data: Uint8Array, count: number, what: () => string): void {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let found = 0;
  for (let at = 0; at < data.length; found++) {
    if (data.length - at < 4) {
      throw new InvalidArgumentError(
        `${what()}: BYTES element ${found} has ${data.length - at} of its 4 length bytes`,
      );
    }
    const length = view.getUint32(at, true);
    at += 4;
    if (length > data.length - at) {
      throw new InvalidArgumentError(
        `${what()}: BYTES element ${found} claims ${length} bytes where ${data.length - at} remain`,
      );
    }
    at += length;
  }
  if (found !== count) {
    throw new InvalidArgumentError(
      `${what()} has ${found} BYTES elements where its shape takes ${count}`,
    );
  }
}

/** Any byte but 0 means true to a client; a program knows only 0 and 1. Copies only where it must. */
function normalisedBools(data: Uint8Array): Uint8Array {
  for (let index = 0; index < data.length; index++) {
    if (data[index]! > 1) return data.map((byte) => byte === 0 ? 0 : 1);
  }
  return data;
}

function checkedData(
  data: Uint8Array,
  info: DatatypeInfo,
  tensor: InferTensor,
  count: number,
  what: () => string,
): Uint8Array {
  if (info.byteSize === 0) {
    checkElements(data, count, what);
    return data;
  }
  if (data.length !== count * info.byteSize) {
    throw new InvalidArgumentError(
      `${what()} has ${data.length} bytes; ${info.datatype}${formatShape(tensor.shape)} takes ` +
        `${count * info.byteSize}`,
    );
  }
  return info.datatype === "BOOL" ? normalisedBools(data) : data;
}

/** Decodes one tensor; `raw` is its entry in the raw contents, if there is one. */
function tensorOf(
  tensor: InferTensor,
  raw: Uint8Array | undefined,
  reference: SharedMemoryReference | undefined,
  regions: SharedMemoryRegions,
  what: () => string,
): NamedTensor {
  const info = datatypeFromWire(tensor.datatype);
  if (info === undefined) {
    throw new InvalidArgumentError(`${what()} has unknown datatype ${quoted(tensor.datatype)}`);
  }
  const { name, shape } = tensor;
  const datatype: Datatype = info.datatype;
  const count = checkedCount(shape, what);
  if (reference !== undefined) {
    const data = checkedData(
      regions.read(reference, what(), datatype),
      info,
      tensor,
      count,
      what,
    );
    return { name, datatype, shape, data };
  }
  if (raw !== undefined) {
    return { name, datatype, shape, data: checkedData(raw, info, tensor, count, what) };
  }
  if (tensor.contents !== undefined) {
    return { name, datatype, shape, data: decodeContents(tensor.contents, { info, count, what }) };
  }
  if (count === 0) return { name, datatype, shape, data: new Uint8Array(0) };
  throw new InvalidArgumentError(
    `${what()} has no data: neither raw_input_contents, nor contents, nor a shared-memory region`,
  );
}

/**
 * The inputs of a request as tensors, in request order. Data from raw contents are views of the
 * message (not aligned to anything); typed values and non-canonical booleans are new arrays. Rank 0
 * stays rank 0, and a tensor of no elements needs no data.
 *
 * Raw contents may have an entry for every input, or, as Triton's clients send them, one for every
 * input that is not in shared memory.
 * @throws {InvalidArgumentError} naming the tensor: unknown datatype, negative or huge extents, data of
 * the wrong length, values out of range, or no data at all
 * @throws {FailedPreconditionError} for a shared-memory region that is not registered, nothing else
 */
export function requestTensors(
  request: InferRequest,
  regions: SharedMemoryRegions = NO_REGIONS,
): NamedTensor[] {
  const { inputs, rawContents, modelName } = request;
  const references = inputs.map(({ name, parameters }) =>
    parameters.size === 0
      ? undefined
      : sharedMemoryReference(parameters, inputName(name, modelName))
  );
  const inlineCount = references.filter((reference) => reference === undefined).length;
  const isPositional = rawContents.length === inputs.length;
  if (rawContents.length > 0 && !isPositional && rawContents.length !== inlineCount) {
    throw new InvalidArgumentError(
      `model ${quoted(modelName)}: raw_input_contents has ${rawContents.length} entries for ` +
        `${inputs.length} inputs`,
    );
  }
  let next = 0;
  return inputs.map((input, index) => {
    const reference = references[index];
    const raw = isPositional || reference === undefined ? rawContents[next++] : undefined;
    return tensorOf(input, raw, reference, regions, () => inputName(input.name, modelName));
  });
}

/**
 * The outputs of a response that lie in the message, in order; those written to shared memory are left
 * out. Views of the message, like the inputs of a request.
 * @throws {InternalError} when the server's answer contradicts itself
 */
export function responseTensors(response: InferResponse): NamedTensor[] {
  const inline = response.outputs.filter(({ parameters }) =>
    parameters.get("shared_memory_region")?.kind !== "string"
  );
  const { rawContents } = response;
  if (rawContents.length > 0 && rawContents.length !== inline.length) {
    throw new InternalError(
      `the response of model ${quoted(response.modelName)} has ${rawContents.length} ` +
        `raw_output_contents for ${inline.length} outputs`,
    );
  }
  try {
    return inline.map((output, index) =>
      tensorOf(
        output,
        rawContents[index],
        undefined,
        NO_REGIONS,
        () => `output ${quoted(output.name)} of model ${quoted(response.modelName)}`,
      )
    );
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new InternalError(`Malformed ModelInferResponse: ${error.message}`, { cause: error });
  }
}
