/** Running a model over a whole dataset: cut into requests that fit, several of them on their way at once. */

import { CancelledError, InvalidArgumentError, messageOf } from "../errors.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { InferAnswer } from "./infer.ts";
import type { ModelHandle } from "./model_handle.ts";
import type { StagedOutput } from "./staging.ts";

/** Items `first` to `end`, the latter left out; counted from 0. */
export interface ItemRange {
  readonly first: number;
  readonly end: number;
}

/** An output whose size is known beforehand, so that it may go through shared memory. */
export interface DatasetOutput {
  readonly name: string;
  readonly bytesPerItem: number;
}

/** What to run a model over. `decode` may be called in any order and before later items are encoded. */
export interface Dataset {
  /** Items there are. */
  readonly length: number;
  /** Of all inputs together. */
  readonly bytesPerItem: number;
  readonly outputs?: readonly DatasetOutput[];
  /** Inputs for these items; called for one range after the other. */
  encode(range: ItemRange): readonly NamedTensor[] | Promise<readonly NamedTensor[]>;
  /** Takes the answer for these items. Its tensors may be views that end with the call. */
  decode(range: ItemRange, answer: InferAnswer): void | Promise<void>;
}

export interface DatasetOptions {
  /** Requests on their way at once. Default: as many as the shared-memory pool has room for, else 8. */
  readonly concurrency?: number;
  readonly signal?: AbortSignal;
}

const DEFAULT_CONCURRENCY = 8;

/** How a dataset is cut. */
export interface Geometry {
  /** Items of one request, at most. */
  readonly chunk: number;
  /** Slots one request takes. */
  readonly span: number;
  /** Requests that can be staged at once. */
  readonly atOnce: number;
}

/**
 * Cuts a dataset for a pool of slots: a request takes the slots its first item needs, and as many items as
 * fit into those.
 * @throws {InvalidArgumentError} when one item does not fit the whole pool
 */
export function geometryOf(
  { bytesPerItem, maxBatchSize }: {
    /** Inputs and staged outputs together. */
    readonly bytesPerItem: number;
    readonly maxBatchSize: number;
  },
  { slotBytes, slots }: { readonly slotBytes: number; readonly slots: number },
): Geometry {
  const span = Math.max(1, Math.ceil(bytesPerItem / slotBytes));
  if (span > slots) {
    throw new InvalidArgumentError(
      `One item takes ${bytesPerItem} bytes, the shared-memory pool has ${slots} slots of ` +
        `${slotBytes}; make it larger`,
    );
  }
  const fitting = bytesPerItem === 0 ? Infinity : Math.floor(span * slotBytes / bytesPerItem);
  return {
    span,
    chunk: Math.max(1, Math.min(maxBatchSize, fitting)),
    atOnce: Math.max(1, Math.floor(slots / span)),
  };
}

/**
 * Runs a model over every item. Items are encoded in order, one range at a time, while earlier ones are on
 * their way. After the first failure nothing new is started; it is thrown when what was started has ended.
 * @throws {CancelledError} when the signal ends it, besides what requests, `encode` and `decode` throw
 */
export async function inferDataset(
  model: ModelHandle,
  dataset: Dataset,
  options: DatasetOptions = {},
): Promise<void> {
  const { memory } = model;
  const isStaged = memory !== undefined && await memory.isUsable();
  const outputBytes = (dataset.outputs ?? []).reduce((sum, output) => sum + output.bytesPerItem, 0);
  const geometry = isStaged
    ? geometryOf({
      bytesPerItem: dataset.bytesPerItem + outputBytes,
      maxBatchSize: model.maxBatchSize,
    }, memory.pool)
    : { chunk: model.maxBatchSize, span: 0, atOnce: DEFAULT_CONCURRENCY };
  const limit = Math.max(1, Math.min(options.concurrency ?? Infinity, geometry.atOnce));
  const running = new Set<Promise<void>>();
  let failure: { readonly error: unknown } | undefined;
  for (let first = 0; first < dataset.length && failure === undefined; first += geometry.chunk) {
    const range = { first, end: Math.min(dataset.length, first + geometry.chunk) };
    try {
      if (options.signal?.aborted) {
        throw new CancelledError(`Cancelled: ${messageOf(options.signal.reason)}`);
      }
      const inputs = await dataset.encode(range);
      const task: Promise<void> = inferRange(model, dataset, {
        range,
        inputs,
        signal: options.signal,
      })
        .catch((error) => {
          failure ??= { error };
        }).finally(() => running.delete(task));
      running.add(task);
    } catch (error) {
      failure ??= { error };
    }
    if (running.size >= limit) await Promise.race(running);
  }
  await Promise.all(running);
  if (failure !== undefined) throw failure.error;
}

async function inferRange(
  model: ModelHandle,
  dataset: Dataset,
  { range, inputs, signal }: {
    readonly range: ItemRange;
    readonly inputs: readonly NamedTensor[];
    readonly signal: AbortSignal | undefined;
  },
): Promise<void> {
  const items = range.end - range.first;
  const outputs = dataset.outputs?.map(({ name, bytesPerItem }): StagedOutput => ({
    name,
    byteSize: bytesPerItem * items,
  }));
  await dataset.decode(range, await model.infer({ inputs, outputs, signal }));
}
