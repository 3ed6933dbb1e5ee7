/**
 * Copies beside computing, on a device that can do both at once. While a dispatch executes, the one that
 * would follow now is staged: assembled, its inputs copied to the device, nothing taken from its queue.
 * When the execution is over the choice is made as if nothing had been staged; what was staged is used
 * where it is what was chosen, and given back otherwise. The outputs of the dispatch before are copied to
 * the host meanwhile.
 *
 * At most two dispatches have memory on the device: one lands, or one is staged, beside the one that
 * executes.
 */

import type { BatchRunner, Dispatch, StagedBatch } from "./batch_run.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { isFull, type Prediction } from "./selection.ts";

/** Batches staged while one dispatch runs, at most: arrivals may change what is expected again and again. */
const MAX_STAGED = 2;
/** Times that what is expected is looked at meanwhile, at most: with deadlines it takes a look at all. */
const MAX_LOOKS = 32;
/** Dispatches for which a model's batches with room are not staged, after so many of them have grown. */
const MAX_BACK_OFF = 64;

/** What became of a staged batch. A copy that failed costs nobody anything but the time. */
export type StagingOutcome = "used" | "discarded" | "failed";

export interface StagingOptions {
  readonly runner: BatchRunner;
  /** What will run at a time, in milliseconds, as far as it can be told now. */
  readonly predict: (atMs: number) => Prediction | undefined;
  /** Milliseconds on a monotonic clock. */
  readonly now: () => number;
  readonly onStaged?: ((model: string, outcome: StagingOutcome) => void) | undefined;
}

/** What a model's batches with room have taught: those that were staged grew before their turn. */
interface Patience {
  /** Number of the dispatch, of all, from which on one may be staged again. */
  readonly until: number;
  /** How many dispatches that was put off. */
  readonly backOff: number;
}

/** Runs dispatches one after the other, and what belongs to them beside each other. */
export class Staging {
  readonly #options: StagingOptions;
  /** When the execution will probably be over, in milliseconds; `undefined`: nothing executes. */
  #endMs: number | undefined;
  #staged: { readonly batch: StagedBatch; readonly hasRoom: boolean } | undefined;
  /** How often was looked, and staged, since the execution began. */
  #looks = 0;
  #count = 0;
  #willLook = false;
  /** Dispatches whose requests are not all answered: the one that executes, and the one before. */
  readonly #unanswered = new Set<Promise<void>>();
  /** Gives back what was staged in vain. */
  #releasing: Promise<void> | undefined;
  #dispatches = 0;
  readonly #patience = new WeakMap<ScheduledModel, Patience>();

  constructor(options: StagingOptions) {
    this.#options = options;
  }

  /**
   * Runs what was chosen, on what was staged if that is the same. Resolves when the device is free for the
   * next choice; answers may still be on their way then.
   */
  async run(dispatch: Dispatch, costSeconds: number): Promise<void> {
    const staged = this.#take(dispatch);
    const after = this.#releasing;
    const executed = Promise.withResolvers<void>();
    let isExecuted = false;
    const onExecuted = () => {
      isExecuted = true;
      this.#endMs = undefined;
      executed.resolve();
    };
    this.#dispatches++;
    this.#looks = this.#count = 0;
    const run = this.#options.runner.run({ ...dispatch, staged, after, onExecuted });
    const answered = run.finally(() => {
      this.#unanswered.delete(answered);
      // Where it has failed, or nobody said so before. By now another one may execute.
      if (!isExecuted) onExecuted();
      this.changed();
    });
    this.#unanswered.add(answered);
    // Not before its own inputs are being copied: nobody's go ahead of them.
    if (after) await after;
    if (!isExecuted) this.#endMs = this.#options.now() + 1000 * costSeconds;
    this.changed();
    await executed.promise;
    while (this.#unanswered.size > 1) await Promise.race(this.#unanswered);
  }

  /** Something has happened to the queues: what is expected to be next may be another batch. */
  changed(): void {
    if (this.#endMs === undefined || this.#willLook) return;
    this.#willLook = true;
    // When all that came in one read from a socket is queued.
    queueMicrotask(() => {
      this.#willLook = false;
      this.#look();
    });
  }

  /** Gives back what is staged. Settles when nothing is under way; `undefined`: nothing is. */
  settle(): Promise<unknown> | undefined {
    this.#discard();
    const pending = [...this.#unanswered, ...(this.#releasing ? [this.#releasing] : [])];
    return pending.length > 0 ? Promise.all(pending) : undefined;
  }

  #look(): void {
    if (this.#endMs === undefined || this.#looks >= MAX_LOOKS || this.#count >= MAX_STAGED) return;
    if (this.#unanswered.size > 1 || this.#releasing) return;
    this.#looks++;
    const { predict, now, runner, onStaged } = this.#options;
    const next = predict(Math.max(now(), this.#endMs));
    if (!next?.model.stage) return;
    const { model, requests, plan } = next;
    const hasRoom = !isFull(next);
    if (this.#staged) {
      // What has room may change once more; this is looked at again when the memory is free.
      if (!hasRoom && !isSame(this.#staged.batch, next)) this.#discard();
      return;
    }
    if (hasRoom && this.#dispatches < (this.#patience.get(model)?.until ?? 0)) return;
    this.#count++;
    try {
      this.#staged = { batch: runner.stage(model, requests, plan), hasRoom };
    } catch {
      // Whoever really runs it will see.
      onStaged?.(model.name, "failed");
    }
  }

  /** What is staged, if it is what was chosen. Else it is given back. */
  #take(dispatch: Dispatch): StagedBatch | undefined {
    if (!this.#staged) return undefined;
    const { batch, hasRoom } = this.#staged;
    if (!isSame(batch, dispatch)) {
      this.#discard();
      return undefined;
    }
    this.#staged = undefined;
    if (hasRoom) this.#patience.delete(batch.model);
    void batch.device.copied.then((isThere) =>
      this.#options.onStaged?.(batch.model.name, isThere ? "used" : "failed")
    );
    return batch;
  }

  #discard(): void {
    if (!this.#staged) return;
    const { batch, hasRoom } = this.#staged;
    const { model } = batch;
    this.#staged = undefined;
    if (hasRoom) {
      const backOff = Math.min(MAX_BACK_OFF, 2 * (this.#patience.get(model)?.backOff ?? 1));
      this.#patience.set(model, { until: this.#dispatches + backOff, backOff });
    }
    this.#options.onStaged?.(model.name, "discarded");
    this.#releasing = this.#options.runner.release(batch).finally(() => {
      this.#releasing = undefined;
      this.changed();
    });
  }
}

/** Whether a batch is staged for just these requests, on the same version of the model and as the same size. */
function isSame(
  { model, size, requests }: StagedBatch,
  other: Pick<Dispatch, "model" | "requests" | "plan">,
): boolean {
  return model === other.model && size === other.plan.size &&
    requests.length === other.requests.length &&
    requests.every((work, index) => work === other.requests[index]);
}
