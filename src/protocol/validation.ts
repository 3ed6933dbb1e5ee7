/** Checks tensors and requested outputs against what a model declares to its clients. */

import { InvalidArgumentError } from "../errors.ts";
import {
  datatypeInfo,
  elementCount,
  formatSpec,
  type NamedTensor,
  type TensorSpec,
} from "../tensor/mod.ts";
import type { RequestedOutput } from "./infer_codec.ts";
import { type SharedMemoryReference, sharedMemoryReference } from "./parameters.ts";
import { inputName, quoted } from "./tensors.ts";

/** A declared tensor. An extent of -1 is free. */
export interface DeclaredTensor extends TensorSpec {
  readonly name: string;
  /** Wire index of the batch axis, whose extent is -1; `undefined`: not batched. */
  readonly batchAxis: number | undefined;
}

/** An output a request asks for, by name or all of them. */
export interface WantedOutput {
  readonly name: string;
  /** Where it is to be written; `undefined`: into the response. */
  readonly target: SharedMemoryReference | undefined;
}

/** How many names an error lists. */
const MAX_LISTED = 16;

function listed(names: Iterable<string>): string {
  const all = [...names].map(quoted);
  const shown = all.slice(0, MAX_LISTED).join(", ");
  return all.length > MAX_LISTED ? `${shown} and ${all.length - MAX_LISTED} more` : shown;
}

/** Whether a shape has the declared rank and fixed extents. */
function fits(shape: readonly number[], declared: readonly number[]): boolean {
  if (shape.length !== declared.length) return false;
  for (let axis = 0; axis < shape.length; axis++) {
    if (declared[axis]! >= 0 && declared[axis] !== shape[axis]) return false;
  }
  return true;
}

/** The client-facing side of one model; made once for a model, used for each request. */
export class ClientContract {
  readonly modelName: string;
  readonly inputs: readonly DeclaredTensor[];
  readonly outputs: readonly DeclaredTensor[];
  readonly #inputsByName: ReadonlyMap<string, number>;
  readonly #outputNames: ReadonlySet<string>;
  /** What a request gets that names no outputs. */
  readonly #allOutputs: readonly WantedOutput[];

  constructor(
    modelName: string,
    inputs: readonly DeclaredTensor[],
    outputs: readonly DeclaredTensor[],
  ) {
    this.modelName = modelName;
    this.inputs = inputs;
    this.outputs = outputs;
    this.#inputsByName = new Map(inputs.map(({ name }, index) => [name, index]));
    this.#outputNames = new Set(outputs.map(({ name }) => name));
    this.#allOutputs = outputs.map(({ name }) => ({ name, target: undefined }));
  }

  /**
   * Checks the inputs of a request and puts them into declared order.
   * @returns the inputs, and the batch extent they agree on: `undefined` when no input is batched
   * @throws {InvalidArgumentError} for an undeclared, missing or repeated input, a wrong datatype, rank
   * or fixed extent, and batch extents that differ
   */
  checkInputs(
    tensors: readonly NamedTensor[],
  ): { inputs: NamedTensor[]; rows: number | undefined } {
    const inputs = new Array<NamedTensor | undefined>(this.inputs.length).fill(undefined);
    let batched: NamedTensor | undefined;
    let rows: number | undefined;
    for (const tensor of tensors) {
      const index = this.#inputsByName.get(tensor.name);
      if (index === undefined) {
        throw new InvalidArgumentError(
          `model ${quoted(this.modelName)} has no input ${quoted(tensor.name)}; it takes ` +
            (listed(this.#inputsByName.keys()) || "none"),
        );
      }
      if (inputs[index] !== undefined) {
        throw new InvalidArgumentError(`${this.#named(tensor)} is given twice`);
      }
      inputs[index] = tensor;
      const declared = this.inputs[index]!;
      this.#checkSpec(tensor, declared);
      if (declared.batchAxis === undefined) continue;
      const extent = tensor.shape[declared.batchAxis]!;
      if (batched !== undefined && rows !== extent) {
        throw new InvalidArgumentError(
          `inputs ${quoted(batched.name)} and ${quoted(tensor.name)} of model ` +
            `${quoted(this.modelName)} disagree on the batch: ${rows} and ${extent} rows`,
        );
      }
      batched = tensor;
      rows = extent;
    }
    if (tensors.length < this.inputs.length) this.#failMissing(inputs);
    return { inputs: inputs as NamedTensor[], rows };
  }

  /**
   * The outputs a request asks for, in its order; all declared ones when it names none.
   * @throws {InvalidArgumentError} for an output the model does not have, or a bad shared-memory target
   */
  wantedOutputs(requested: readonly RequestedOutput[]): readonly WantedOutput[] {
    if (requested.length === 0) return this.#allOutputs;
    return requested.map(({ name, parameters }) => {
      if (!this.#outputNames.has(name)) {
        throw new InvalidArgumentError(
          `model ${quoted(this.modelName)} has no output ${quoted(name)}; it gives ` +
            listed(this.#outputNames),
        );
      }
      const target = parameters.size === 0 ? undefined : sharedMemoryReference(
        parameters,
        `output ${quoted(name)} of model ${quoted(this.modelName)}`,
      );
      return { name, target };
    });
  }

  /**
   * The bytes that a declared output takes, where its declaration says; `undefined`: the result will tell.
   * @param rows the extent of its batch axis; `undefined`: not known
   */
  outputBytes(name: string, rows: number | undefined): number | undefined {
    const { datatype, shape, batchAxis } = this.outputs.find((output) => output.name === name)!;
    const { byteSize } = datatypeInfo(datatype);
    const known = shape.map((extent, axis) => axis === batchAxis ? rows ?? -1 : extent);
    if (byteSize === 0 || known.some((extent) => extent < 0)) return undefined;
    return elementCount(known) * byteSize;
  }

  #named(tensor: NamedTensor): string {
    return inputName(tensor.name, this.modelName);
  }

  #checkSpec(tensor: NamedTensor, declared: DeclaredTensor): void {
    if (tensor.datatype === declared.datatype && fits(tensor.shape, declared.shape)) return;
    throw new InvalidArgumentError(
      `${this.#named(tensor)} must be ${formatSpec(declared)}, got ${formatSpec(tensor)}`,
    );
  }

  #failMissing(inputs: readonly (NamedTensor | undefined)[]): never {
    const missing = this.inputs.filter((_, index) => inputs[index] === undefined);
    throw new InvalidArgumentError(
      `model ${quoted(this.modelName)} needs ${missing.length === 1 ? "input" : "inputs"} ` +
        `${listed(missing.map(({ name }) => name))}, not given`,
    );
  }
}
