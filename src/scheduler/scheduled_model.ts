import type { NamedTensor } from "../tensor/mod.ts";
import type { OutputTargets } from "./queue.ts";

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
  /** Whether a dispatch could begin this moment; unlike `isRunnable`, asking has no effect. Absent: always. */
  isReady?(): boolean;
  /**
   * Runs one program on assembled inputs, in program order, and gives its outputs in order. The memory of
   * the inputs is used for other batches once this has succeeded.
   */
  run(dispatch: DispatchInputs & RunOptions): Promise<RunOutcome>;
  /**
   * Begins to copy the inputs of a dispatch to the device while another one runs. Nothing else changes by
   * it: weights neither come nor go. Absent: inputs are copied by `run`. May throw; nothing is lost then.
   */
  stage?(inputs: DispatchInputs): StagedInputs;
}

/** One dispatch of a model. */
export interface DispatchInputs {
  readonly variantKey: string;
  readonly size: number;
  /** Assembled, in program order. */
  readonly inputs: readonly NamedTensor[];
}

/** What a run is told, and whom it tells. */
export interface RunOptions {
  /** See `Work.targets`; here the request has the dispatch for itself. */
  readonly targets?: OutputTargets | undefined;
  /** Until this settles there is no room for inputs on the device. Weights are held meanwhile. */
  readonly after?: Promise<unknown> | undefined;
  /** Told that the device cannot begin yet: weights have left and come back. `onWait` follows. */
  readonly onWaiting?: (() => void) | undefined;
  /** Told how long was spent before the device began, in vain or not. */
  readonly onWait?: ((seconds: number) => void) | undefined;
  /**
   * Told that the execution has succeeded and the device is free for the next one, while the outputs are
   * still copied. Not told where they come together.
   */
  readonly onExecuted?: (() => void) | undefined;
}

/** What a run gave. */
export interface RunOutcome {
  readonly outputs: NamedTensor[];
  readonly stages: StageSeconds;
}

/** Inputs on their way to the device, or there. Ends with `run` or `release`, one of which is called once. */
export interface StagedInputs {
  /** Settles when the host's memory is not read any more; whether all is on the device. Never rejects. */
  readonly copied: Promise<boolean>;
  /** As `ScheduledModel.run`, on what was copied or, where that failed, on the host's memory. */
  run(options: RunOptions): Promise<RunOutcome>;
  /** Frees what is on the device, when `copied` has settled. */
  release(): void;
}
