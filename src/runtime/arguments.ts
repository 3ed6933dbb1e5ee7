/** What every backend checks before a device sees the arguments of a program. */

import { byteLengthOf, formatSpec, sameShape, type TensorSpec } from "../tensor/mod.ts";
import type { HostTensor, ProgramSignature } from "./backend.ts";

/**
 * A device checks sizes at most: an argument of the right size but the wrong type runs and gives garbage.
 * @throws {TypeError} unless count, types and shapes are the program's; names the first that is not
 */
export function checkArguments(signature: ProgramSignature, args: readonly TensorSpec[]): void {
  const { parameters } = signature;
  if (args.length !== parameters.length) {
    throw new TypeError(`the program takes ${parameters.length} arguments, got ${args.length}`);
  }
  parameters.forEach((parameter, index) => {
    const { datatype, shape } = args[index]!;
    if (datatype === parameter.datatype && sameShape(shape, parameter.shape)) return;
    const found = formatSpec({ datatype, shape });
    throw new TypeError(`parameter ${index} is ${formatSpec(parameter)}, got ${found}`);
  });
}

/** @throws {TypeError} unless `data` is exactly the bytes of `spec` */
export function checkByteLength(spec: TensorSpec, data: Uint8Array, what: string): void {
  const expected = byteLengthOf(spec);
  if (data.byteLength === expected) return;
  throw new TypeError(
    `${what} ${formatSpec(spec)} takes ${expected} bytes, got ${data.byteLength}`,
  );
}

/** Checks the host side of `Backend.run`. @throws {TypeError} */
export function checkHostTensors(
  signature: ProgramSignature,
  inputs: readonly HostTensor[],
  targets: readonly (Uint8Array | undefined)[] | undefined,
): void {
  inputs.forEach((input, index) => checkByteLength(input, input.data, `parameter ${index}`));
  if (targets === undefined) return;
  const { results } = signature;
  if (targets.length !== results.length) {
    throw new TypeError(`the program gives ${results.length} results, not ${targets.length}`);
  }
  for (const [index, target] of targets.entries()) {
    if (target) checkByteLength(results[index]!, target, `result ${index}`);
  }
}
