import type { NamedTensor } from "../tensor/mod.ts";

/** What one dispatch spent in each stage, in seconds. */
export interface StageSeconds {
  /** Host to device. */
  readonly input: number;
  readonly execute: number;
  /** Device to host. */
  readonly output: number;
}

/**
 * What the scheduler must know of one version of a model. Requests are queued for the version they were
 * prepared for, and run on it, also when another has taken its name's place by then.
 */
export interface ScheduledModel {
  /** Where it queues: a model whose folder was renamed queues under its new name. */
  readonly name: string;
  readonly isCoalescable: boolean;
  /** Cap on rows coalesced into one dispatch. */
  readonly maxRows: number | undefined;
  readonly weight: number;
  /** Compiled sizes of a variant, ascending (`[0]`: one unsized program); `undefined`: not compiled. */
  sizes(variantKey: string): readonly number[] | undefined;
  /** Wire index of the batch axis of each program input; used only when coalescable. */
  readonly inputBatchAxes: readonly (number | undefined)[];
  /** The same for program outputs, in order; `undefined`: the output is given to every request whole. */
  readonly outputBatchAxes: readonly (number | undefined)[];
  /**
   * Whether a dispatch may begin now; absent: always. Asked before every choice while work waits. A model
   * that says no gets itself ready, and whoever made it calls `Scheduler.wake` then.
   */
  isRunnable?(): boolean;
  /**
   * Runs one program on assembled inputs, in program order, and gives its outputs in order. The memory of
   * the inputs is used for other batches once this has succeeded.
   */
  run(
    dispatch: {
      variantKey: string;
      size: number;
      inputs: readonly NamedTensor[];
      /** See `Work.targets`; here the request has the dispatch for itself. */
      targets?: ReadonlyMap<string, Uint8Array> | undefined;
    },
  ): Promise<{
    outputs: NamedTensor[];
    stages: StageSeconds;
    /** Spent before the device began, and no compute time: weights had left and came back. */
    waitSeconds?: number;
  }>;
}
