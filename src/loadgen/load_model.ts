/** A model to load: what it takes and gives, and the requests made of that. */

import type { GoldenCase, Tolerance } from "../bundle/mod.ts";
import type { StagedOutput } from "../client/mod.ts";
import { encodeInferRequest } from "../protocol/mod.ts";
import { byteLengthOf, type Datatype, datatypeInfo, type NamedTensor } from "../tensor/mod.ts";
import type { Message } from "../transport/mod.ts";
import { fill } from "./fill.ts";
import type { Random } from "./random.ts";

/** A tensor as a model declares it. */
export interface DeclaredTensor {
  readonly name: string;
  readonly datatype: Datatype;
  /** Wire order; -1 where requests choose. */
  readonly shape: readonly number[];
  /** The axis of rows, among those. */
  readonly batchAxis: number | undefined;
}

/** Recorded answers, with how far others may be from them. */
export interface RecordedCases {
  readonly cases: readonly GoldenCase[];
  readonly tolerance: Tolerance;
}

/** A model that can be loaded. */
export interface LoadModel {
  readonly name: string;
  /** How often it is drawn, relative to the others. */
  readonly weight: number;
  readonly inputs: readonly DeclaredTensor[];
  readonly outputs: readonly DeclaredTensor[];
  /** Batch sizes that are compiled, ascending; `[1]` without a batch axis. */
  readonly sizes: readonly number[];
  readonly golden?: RecordedCases;
}

/** A model that cannot. */
export interface SkippedModel {
  readonly name: string;
  readonly reason: string;
}

/** One request, ready to be sent any number of times. */
export interface PreparedRequest {
  readonly model: string;
  readonly rows: number;
  readonly inputs: readonly NamedTensor[];
  /** Encoded, for sending without shared memory. */
  readonly message: Message;
  /** Outputs with their sizes, where all of them are known. */
  readonly outputs: readonly StagedOutput[] | undefined;
  /** What the answer must be like. */
  readonly golden:
    | { readonly outputs: readonly NamedTensor[]; readonly tolerance: Tolerance }
    | undefined;
}

/** What requests are made like. */
export interface RequestStyle {
  readonly data: "zeros" | "random";
  /** Use recorded inputs where a model has them. */
  readonly usesGolden: boolean;
  /** One request for each compiled size, not for one row only. */
  readonly usesSizes: boolean;
}

/** Why a model cannot be asked anything, or `undefined`. */
export function whyUnusable(model: LoadModel): string | undefined {
  if (model.golden && model.golden.cases.length > 0) return undefined;
  if (model.inputs.length === 0) return "it has no inputs";
  for (const { name, shape, batchAxis } of model.inputs) {
    const axis = shape.findIndex((extent, index) => extent < 0 && index !== batchAxis);
    if (axis >= 0) return `axis ${axis} of input ${JSON.stringify(name)} is variable`;
  }
  return undefined;
}

/** The requests for a model, smallest first; never empty for a usable one. */
export function prepareRequests(
  model: LoadModel,
  style: RequestStyle,
  random: Random,
): PreparedRequest[] {
  const { golden } = model;
  if (style.usesGolden && golden && golden.cases.length > 0) {
    const cases = style.usesSizes ? golden.cases : golden.cases.slice(0, 1);
    return cases.map(({ inputs, outputs }) =>
      prepare(model, rowsOf(model, inputs), inputs, { outputs, tolerance: golden.tolerance })
    );
  }
  const sizes = style.usesSizes ? model.sizes : [1];
  return sizes.map((rows) => {
    const inputs = model.inputs.map((tensor): NamedTensor => {
      const { name, datatype } = tensor;
      const shape = withRows(tensor, rows)!;
      return { name, datatype, shape, data: fill(datatype, shape, style.data, random) };
    });
    return prepare(model, rows, inputs, undefined);
  });
}

function prepare(
  model: LoadModel,
  rows: number,
  inputs: readonly NamedTensor[],
  golden: PreparedRequest["golden"],
): PreparedRequest {
  const outputs = golden?.outputs.map(({ name, data }) => ({ name, byteSize: data.length })) ??
    stagedOutputs(model, rows);
  const message = encodeInferRequest({ modelName: model.name, inputs });
  return { model: model.name, rows, inputs, message, outputs, golden };
}

function stagedOutputs(model: LoadModel, rows: number): StagedOutput[] | undefined {
  const outputs: StagedOutput[] = [];
  for (const tensor of model.outputs) {
    const shape = withRows(tensor, rows);
    // The size of text and of axes that the request does not decide is only known afterwards.
    if (shape === undefined || datatypeInfo(tensor.datatype).byteSize === 0) return undefined;
    outputs.push({
      name: tensor.name,
      byteSize: byteLengthOf({ datatype: tensor.datatype, shape }),
    });
  }
  return outputs.length === 0 ? undefined : outputs;
}

/** The shape for a number of rows; `undefined` when another axis is unknown. */
function withRows({ shape, batchAxis }: DeclaredTensor, rows: number): number[] | undefined {
  const extents = shape.map((extent, axis) => axis === batchAxis ? rows : extent);
  return extents.every((extent) => extent >= 0) ? extents : undefined;
}

function rowsOf(model: LoadModel, inputs: readonly NamedTensor[]): number {
  for (const { name, batchAxis } of model.inputs) {
    const tensor = inputs.find((input) => input.name === name);
    if (batchAxis !== undefined && tensor) return tensor.shape[batchAxis] ?? 1;
  }
  return 1;
}
