/** Whether answers are what they should be. */

import { Buffer } from "node:buffer";
import { compareTensors, type Tolerance } from "../bundle/mod.ts";
import { type NamedTensor, sameShape } from "../tensor/mod.ts";
import type { PreparedRequest } from "./load_model.ts";

/** Which answers are right. */
export type Expectation = "none" | "equal" | "golden";

/**
 * Compares answers with recorded ones, or with the first answer to the same request: a model that does
 * not draw anything gives the same again, whichever replica and however large the batch it ran in.
 * Keeps one answer for each prepared request.
 */
export class AnswerCheck {
  readonly #expectation: Expectation;
  readonly #tolerance: Tolerance;
  readonly #first = new Map<PreparedRequest, readonly NamedTensor[]>();
  #checked = 0;

  /** @param tolerance of floating-point answers against the first one, absolute and relative */
  constructor(expectation: Expectation, tolerance: number) {
    this.#expectation = expectation;
    this.#tolerance = { atol: tolerance, rtol: tolerance };
  }

  /** Answers that were compared with something. */
  get checked(): number {
    return this.#checked;
  }

  /** What is wrong with an answer; `undefined` when nothing is, or nothing is known. */
  judge(request: PreparedRequest, outputs: readonly NamedTensor[]): string | undefined {
    if (this.#expectation === "none") return undefined;
    if (this.#expectation === "golden" && request.golden) {
      this.#checked++;
      return differenceOf(request.golden.outputs, outputs, request.golden.tolerance);
    }
    const first = this.#first.get(request);
    if (first === undefined) {
      this.#first.set(request, outputs.map((output) => ({ ...output, data: output.data.slice() })));
      return undefined;
    }
    this.#checked++;
    return differenceOf(first, outputs, this.#tolerance);
  }
}

function differenceOf(
  expected: readonly NamedTensor[],
  found: readonly NamedTensor[],
  tolerance: Tolerance,
): string | undefined {
  if (found.length !== expected.length) {
    return `${found.length} outputs instead of ${expected.length}`;
  }
  for (const wanted of expected) {
    const name = JSON.stringify(wanted.name);
    const output = found.find((tensor) => tensor.name === wanted.name);
    if (output === undefined) return `there is no output ${name}`;
    if (output.datatype !== wanted.datatype || !sameShape(output.shape, wanted.shape)) {
      return `output ${name} is ${output.datatype}[${output.shape}] instead of ` +
        `${wanted.datatype}[${wanted.shape}]`;
    }
    const problem = contentsProblem(wanted, output, tolerance);
    if (problem !== undefined) return `output ${name} ${problem}`;
  }
  return undefined;
}

function contentsProblem(
  wanted: NamedTensor,
  { data }: NamedTensor,
  tolerance: Tolerance,
): string | undefined {
  if (Buffer.compare(data, wanted.data) === 0) return undefined;
  if (data.length !== wanted.data.length || !/^(FP|BF)/.test(wanted.datatype)) {
    return "differs";
  }
  const { isWithin, largestAbsolute } = compareTensors(wanted, data, tolerance);
  return isWithin ? undefined : `differs by up to ${largestAbsolute}`;
}
