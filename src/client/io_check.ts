/** Whether a dataset fits a model, found out before anything is sent. */

import { InvalidArgumentError } from "../errors.ts";
import {
  byteLengthOf,
  datatypeFromWire,
  datatypeInfo,
  elementCount,
  formatShape,
  type NamedTensor,
  type TensorSpec,
} from "../tensor/mod.ts";
import type { Dataset, ItemRange } from "./dataset.ts";
import type { InferenceClient, UnaryOptions } from "./model.ts";

/** A tensor of a model; -1 for axes that requests choose. */
export interface TensorDeclaration extends TensorSpec {
  readonly name: string;
}

/** What a model takes and gives. */
export interface ModelIo {
  readonly inputs: readonly TensorDeclaration[];
  readonly outputs: readonly TensorDeclaration[];
}

/** Asks a server what a model takes and gives. */
export async function modelIoOf(
  inference: InferenceClient,
  model: string,
  options?: UnaryOptions,
): Promise<ModelIo> {
  const metadata = await inference.modelMetadata(model, options);
  const declared = (tensors: typeof metadata.inputs) =>
    tensors.map(({ name, datatype, shape }): TensorDeclaration => {
      const info = datatypeFromWire(datatype);
      if (info === undefined) {
        throw new InvalidArgumentError(
          `Tensor ${JSON.stringify(name)} of model ${JSON.stringify(model)} has datatype ` +
            `${JSON.stringify(datatype)}, which is not known here`,
        );
      }
      return { name, datatype: info.datatype, shape: shape.map(Number) };
    });
  return { inputs: declared(metadata.inputs), outputs: declared(metadata.outputs) };
}

/**
 * Encodes the first items and decodes an answer of zeros, without any call.
 * @param items how many
 * @throws {InvalidArgumentError} naming the tensor that does not fit, or what the dataset got wrong
 */
export async function checkDataset(io: ModelIo, dataset: Dataset, items = 1): Promise<void> {
  const range: ItemRange = { first: 0, end: Math.min(items, dataset.length) };
  const count = range.end - range.first;
  if (count === 0) return;
  const inputs = await dataset.encode(range);
  for (const input of inputs) checkTensor("input", input, io.inputs);
  for (const { name } of io.inputs) {
    if (!inputs.some((input) => input.name === name)) {
      throw new InvalidArgumentError(`The dataset gives no input ${JSON.stringify(name)}`);
    }
  }
  const staged = inputs.reduce((sum, { data }) => sum + data.length, 0);
  if (staged > dataset.bytesPerItem * count) {
    throw new InvalidArgumentError(
      `${count} items were encoded as ${staged} bytes; the dataset says ${dataset.bytesPerItem} each`,
    );
  }
  for (const { name } of dataset.outputs ?? []) {
    if (!io.outputs.some((output) => output.name === name)) {
      throw new InvalidArgumentError(
        `The dataset wants output ${JSON.stringify(name)}; the model has ${listed(io.outputs)}`,
      );
    }
  }
  const outputs = io.outputs.map((output) => zeros(output, count));
  await dataset.decode(range, {
    modelName: "",
    modelVersion: "",
    id: "",
    parameters: new Map(),
    outputs,
  });
}

function checkTensor(
  role: string,
  tensor: NamedTensor,
  declared: readonly TensorDeclaration[],
): void {
  const what = `${role} ${JSON.stringify(tensor.name)}`;
  const wanted = declared.find(({ name }) => name === tensor.name);
  if (wanted === undefined) {
    throw new InvalidArgumentError(`There is no ${what}; the model has ${listed(declared)}`);
  }
  if (tensor.datatype !== wanted.datatype) {
    throw new InvalidArgumentError(
      `${what} is ${tensor.datatype}, the model takes ${wanted.datatype}`,
    );
  }
  if (!fits(tensor.shape, wanted.shape)) {
    const isReversed = fits(tensor.shape.toReversed(), wanted.shape);
    throw new InvalidArgumentError(
      `${what} is ${formatShape(tensor.shape)}, the model takes ${formatShape(wanted.shape)}` +
        (isReversed ? ": the axes are in reverse, shapes are row-major here" : ""),
    );
  }
  if (datatypeInfo(tensor.datatype).byteSize > 0 && tensor.data.length !== byteLengthOf(tensor)) {
    throw new InvalidArgumentError(
      `${what} has ${tensor.data.length} bytes; ${tensor.datatype}${formatShape(tensor.shape)} ` +
        `takes ${byteLengthOf(tensor)}`,
    );
  }
}

function fits(shape: readonly number[], declared: readonly number[]): boolean {
  return shape.length === declared.length &&
    shape.every((extent, axis) => declared[axis]! < 0 || declared[axis] === extent);
}

/** An output of zeros; the first open axis has the items, others one element. */
function zeros({ name, datatype, shape }: TensorDeclaration, items: number): NamedTensor {
  const batchAxis = shape.indexOf(-1);
  const extents = shape.map((extent, axis) =>
    extent >= 0 ? extent : axis === batchAxis ? items : 1
  );
  // An empty text is its length alone.
  const byteSize = datatypeInfo(datatype).byteSize || 4;
  return { name, datatype, shape: extents, data: new Uint8Array(elementCount(extents) * byteSize) };
}

function listed(tensors: readonly TensorDeclaration[]): string {
  return tensors.length === 0 ? "none" : tensors.map(({ name }) => JSON.stringify(name)).join(", ");
}
