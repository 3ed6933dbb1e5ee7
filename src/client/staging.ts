/** Tensors in a staging area: what a request says about them, and reading back what a server wrote. */

import { InternalError, InvalidArgumentError } from "../errors.ts";
import {
  type InferResponse,
  type OutgoingRequest,
  type OutgoingTensor,
  quoted,
  type RequestedOutput,
  responseTensors,
  sharedMemoryParameters,
  sharedMemoryReference,
} from "../protocol/mod.ts";
import { datatypeFromWire, type NamedTensor } from "../tensor/mod.ts";
import { alignedLength, type StagingArea } from "./shared_memory_pool.ts";

/** An output that is to be written to shared memory, and the room it needs at most. */
export interface StagedOutput {
  readonly name: string;
  readonly byteSize: number;
}

/** Bytes of a staging area that these tensors need, each at its own cache line. */
export function stagedLength(
  inputs: readonly { readonly data: Uint8Array }[],
  outputs: readonly StagedOutput[] = [],
): number {
  return sizesOf(inputs, outputs).reduce((sum, size) => sum + alignedLength(size), 0);
}

/** The bytes themselves: what these tensors need where there is no room for more. */
export function packedLength(
  inputs: readonly { readonly data: Uint8Array }[],
  outputs: readonly StagedOutput[] = [],
): number {
  return sizesOf(inputs, outputs).reduce((sum, size) => sum + size, 0);
}

function sizesOf(
  inputs: readonly { readonly data: Uint8Array }[],
  outputs: readonly StagedOutput[],
): number[] {
  return [...inputs.map(({ data }) => data.length), ...outputs.map(({ byteSize }) => byteSize)];
}

/**
 * Copies the inputs into the area and lays the outputs out behind them, aligned if the area has room for that.
 * @returns the tensors of a request that refers to the area
 */
export function stageRequest(
  { area, region, inputs, outputs = [] }: {
    readonly area: StagingArea;
    readonly region: string;
    readonly inputs: readonly NamedTensor[];
    readonly outputs?: readonly StagedOutput[];
  },
): Pick<OutgoingRequest, "inputs" | "outputs"> {
  const room = area.bytes.length;
  if (packedLength(inputs, outputs) > room) {
    throw new InvalidArgumentError(
      `The tensors take ${packedLength(inputs, outputs)} bytes, the area has ${room}`,
    );
  }
  const isAligned = stagedLength(inputs, outputs) <= room;
  let at = 0;
  const place = (byteSize: number) => {
    const parameters = sharedMemoryParameters({ region, offset: area.offset + at, byteSize });
    at += isAligned ? alignedLength(byteSize) : byteSize;
    return parameters;
  };
  return {
    inputs: inputs.map(({ name, datatype, shape, data }): OutgoingTensor => {
      area.bytes.set(data, at);
      return { name, datatype, shape, data: undefined, parameters: place(data.length) };
    }),
    outputs: outputs.map(({ name, byteSize }): RequestedOutput => ({
      name,
      parameters: place(byteSize),
    })),
  };
}

/**
 * Every output of a response in its order, wherever it lies. Those in the area are copied, so the area
 * may be given back; the others are views of the message.
 * @throws {InternalError} when the server says it wrote outside the area, or contradicts itself
 */
export function collectOutputs(
  response: InferResponse,
  area: StagingArea,
  region: string,
): NamedTensor[] {
  const inline = responseTensors(response);
  let next = 0;
  return response.outputs.map((output): NamedTensor => {
    const what = `output ${quoted(output.name)} of model ${quoted(response.modelName)}`;
    const reference = sharedMemoryReference(output.parameters, what);
    if (reference === undefined) return inline[next++]!;
    const start = reference.offset - area.offset;
    const end = start + reference.byteSize;
    if (reference.region !== region || start < 0 || end > area.bytes.length) {
      throw new InternalError(`The server wrote ${what} outside the memory it was given`);
    }
    const info = datatypeFromWire(output.datatype);
    if (info === undefined) {
      throw new InternalError(`${what} has unknown datatype ${quoted(output.datatype)}`);
    }
    const { name, shape } = output;
    return { name, datatype: info.datatype, shape, data: area.bytes.slice(start, end) };
  });
}
