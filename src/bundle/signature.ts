/**
 * What a program really takes and gives, against what its bundle declares. A runtime accepts any
 * argument of the right byte size, so a program that disagrees with its manifest would run and return
 * nonsense; this is where it is refused, once, by name.
 */
import { BundleError } from "../errors.ts";
import { formatSpec, sameShape, type TensorSpec } from "../tensor/mod.ts";
import type { ModelBundle } from "./bundle.ts";
import { resolveShape } from "./input_shapes.ts";
import { quote } from "./manifest_reader.ts";
import type { ManifestTensor } from "./manifest_tensors.ts";
import type { ProgramFile } from "./programs.ts";
import { WEIGHTS_FILE } from "./weights.ts";

/** Parameters and results of a compiled program, in order, in wire order. */
export interface ProgramSignature {
  readonly parameters: readonly TensorSpec[];
  readonly results: readonly TensorSpec[];
}

/** What only a compiled program can tell. */
export interface CheckedSignature {
  /** Batch extent the program is compiled for; 0 when its inputs have no batch axis. */
  readonly batchSize: number;
}

/** Mismatches shown in one message; the first is usually the cause of the rest. */
const MAX_SHOWN = 4;

/**
 * Compares a compiled program with its bundle: number, datatype, rank and every extent of inputs,
 * weights and outputs.
 *
 * The batch axis must have the size in the program's file name. A program without one (`batchKey` 0)
 * sets the size itself: all batch axes must agree, and on a declared size where any is declared.
 * Variable axes of outputs are free, as their letters mean nothing outside their tensor.
 *
 * @throws {BundleError} naming each tensor, what was expected and what was found
 */
export function checkSignature(
  bundle: ModelBundle,
  program: ProgramFile,
  signature: ProgramSignature,
): CheckedSignature {
  const { executableInputs: inputs, executableOutputs: outputs } = bundle.manifest;
  const weights = bundle.weights.specs;
  const fail = (problem: string) =>
    new BundleError(bundle.name, `${program.fileName} does not fit its bundle: ${problem}`);
  if (signature.parameters.length !== inputs.length + weights.length) {
    throw fail(
      `it takes ${count(signature.parameters.length, "parameter")}, expected ` +
        `${inputs.length + weights.length}: ${count(inputs.length, "executable input")} and ` +
        `${count(weights.length, "weight")} of argument_order`,
    );
  }
  if (signature.results.length !== outputs.length) {
    throw fail(
      `it gives ${count(signature.results.length, "result")}, expected ` +
        `${count(outputs.length, "executable output")}`,
    );
  }
  const batchSize = batchSizeOf(inputs, program, signature);
  if (batchSize < 0) throw fail("its first input has no positive extent on the batch axis");
  const problems: string[] = [];
  const compare = (what: string, origin: string, expected: TensorSpec, found: TensorSpec) => {
    if (fits(expected, found)) return;
    problems.push(
      `${what}: expected ${formatSpec(expected)} from ${origin}, found ${formatSpec(found)}` +
        reversalHint(bundle, expected, found),
    );
  };
  const declared = (tensor: ManifestTensor): TensorSpec => {
    const shape = resolveShape(tensor, program.variant);
    if (tensor.batchAxis !== undefined && batchSize > 0) shape[tensor.batchAxis] = batchSize;
    return { datatype: tensor.datatype, shape };
  };
  inputs.forEach((input, index) => {
    const what = `input ${quote(input.name)} (parameter ${index})`;
    compare(what, "the manifest", declared(input), signature.parameters[index]!);
  });
  weights.forEach((weight, index) => {
    const position = inputs.length + index;
    const what = `weight ${quote(weight.name)} (parameter ${position})`;
    compare(what, WEIGHTS_FILE, weight, signature.parameters[position]!);
  });
  outputs.forEach((output, index) => {
    const what = `output ${quote(output.name)} (result ${index})`;
    compare(what, "the manifest", declared(output), signature.results[index]!);
  });
  if (problems.length > 0) {
    const more = problems.length - MAX_SHOWN;
    throw fail(problems.slice(0, MAX_SHOWN).join("; ") + (more > 0 ? `; and ${more} more` : ""));
  }
  const sizes = bundle.manifest.compiledBatchSizes;
  if (program.batchKey === 0 && batchSize > 0 && sizes.length > 0 && !sizes.includes(batchSize)) {
    throw fail(
      `it is compiled for batch size ${batchSize}, but manifest key ` +
        `"batching.compiled_batch_sizes" lists ${sizes.join(", ")}`,
    );
  }
  return { batchSize };
}

/** 0 without a batch axis; negative when the program leaves it unknown or empty. */
function batchSizeOf(
  inputs: readonly ManifestTensor[],
  program: ProgramFile,
  signature: ProgramSignature,
): number {
  const index = inputs.findIndex(({ batchAxis }) => batchAxis !== undefined);
  if (index < 0) return 0;
  if (program.batchKey > 0) return program.batchKey;
  return signature.parameters[index]!.shape[inputs[index]!.batchAxis!] || -1;
}

/** A free extent (-1) of the expectation fits any. */
function fits(expected: TensorSpec, found: TensorSpec): boolean {
  return expected.datatype === found.datatype &&
    expected.shape.length === found.shape.length &&
    expected.shape.every((extent, axis) => extent === -1 || extent === found.shape[axis]);
}

function reversalHint(bundle: ModelBundle, expected: TensorSpec, found: TensorSpec): string {
  const reversed = { ...expected, shape: [...expected.shape].reverse() };
  if (sameShape(reversed.shape, expected.shape) || !fits(reversed, found)) return "";
  const order = bundle.manifest.axisOrder;
  const other = order === "row_major" ? "column_major" : "row_major";
  return ` (the axes are reversed: the bundle is read as axis_order: ${order}, was it meant as ${other}?)`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
