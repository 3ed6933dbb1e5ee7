/**
 * Which model runs next, and in which batch: every queue with work offers its next dispatch, a discipline
 * picks one of them. What nobody waits for any more is dropped on the way.
 */

import { CancelledError, DeadlineExceededError, InternalError } from "../errors.ts";
import { planBatch } from "./batch_plan.ts";
import type { DecayClock } from "./decay_clock.ts";
import {
  type Candidate,
  type Discipline,
  type DisciplineParameters,
  DISCIPLINES,
} from "./disciplines/mod.ts";
import type { ModelQueue, PlannedDispatch, QueuedWork } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";

/** Cost of a dispatch before any was measured, in seconds. */
export const DEFAULT_COST_SECONDS = 0.01;

export interface SelectorOptions {
  readonly discipline: Discipline;
  /** Whether what cannot finish in its learned time is dropped too, and not only what is late already. */
  readonly shedsByCost: boolean;
  readonly parameters: DisciplineParameters;
  /** Milliseconds on a monotonic clock. */
  readonly now: () => number;
  /** Those with work; the ones found empty are taken out. */
  readonly busy: Set<ModelQueue>;
  readonly decay: DecayClock;
  /** Told of every request that has left its queue unserved. */
  readonly onDrop: () => void;
  /** How long a request of a model may wait for others that could share its dispatch; 0: not at all. */
  readonly batchWaitMs: (model: string) => number;
}

/** A queue's next dispatch as it is expected to be. */
interface Forecast extends PlannedDispatch {
  /** What will be left of the queue, oldest first; absent: all of it. */
  readonly live?: readonly QueuedWork[] | undefined;
}

/** An expected choice. */
export interface Prediction extends PlannedDispatch {
  /** Whom it would serve, in order. */
  readonly requests: readonly QueuedWork[];
}

/** Makes the choices of one scheduler. A choice holds until anything happens to the queues. */
export class Selector {
  readonly #options: SelectorOptions;
  #waitsUntilMs = Infinity;

  constructor(options: SelectorOptions) {
    this.#options = options;
  }

  /** When the first batch that the last choice passed over has waited long enough; Infinity: there is none. */
  get waitsUntilMs(): number {
    return this.#waitsUntilMs;
  }

  /** The model and batch to run now; drops dead work on the way. */
  select(): PlannedDispatch | undefined {
    const { busy } = this.#options;
    const nowMs = this.#options.now();
    this.#waitsUntilMs = Infinity;
    const fit: PlannedDispatch[] = [];
    for (const queue of busy) {
      const front = this.#liveFront(queue, nowMs);
      if (!front) {
        busy.delete(queue);
        continue;
      }
      if (front.model.isRunnable?.() === false) continue;
      const planned = this.#plan(queue, front);
      if (!planned) continue;
      const untilMs = this.#endOfWait(planned);
      if (untilMs > nowMs) this.#waitsUntilMs = Math.min(this.#waitsUntilMs, untilMs);
      else fit.push(planned);
    }
    return this.#choose(fit, nowMs);
  }

  /**
   * What `select` will choose at `atMs` if nothing happens before, and for whom. Nothing is dropped, asked
   * for or changed by looking.
   */
  predict(atMs: number): Prediction | undefined {
    const fit: Forecast[] = [];
    for (const queue of this.#options.busy) {
      const live = this.#mayHaveDead(queue, atMs)
        ? [...queue].filter(this.#isLiveAt(queue, atMs))
        : undefined;
      const front = live ? live[0] : queue.front;
      if (!front || front.model.isReady?.() === false) continue;
      try {
        const planned = live ? planDispatch(queue, live) : queue.planned(planDispatch);
        const forecast = { ...planned, live };
        if (this.#endOfWait(forecast) <= atMs) fit.push(forecast);
      } catch {
        // `select` will say so to whom it concerns.
      }
    }
    const chosen = this.#choose(fit, atMs);
    if (!chosen) return undefined;
    const { queue, plan, live } = chosen;
    return { ...chosen, requests: live ? live.slice(0, plan.take) : queue.first(plan.take) };
  }

  #choose<T extends Forecast>(fit: readonly T[], nowMs: number): T | undefined {
    if (fit.length < 2) return fit[0];
    const { discipline, decay, parameters } = this.#options;
    const hasCommitted = fit.some(isCommitted);
    const offers = hasCommitted ? fit.filter(isCommitted) : fit;
    const scale = decay.scaleAt(nowMs);
    const candidates = offers.map((offer) => this.#candidate(offer, scale));
    const choose = hasCommitted ? DISCIPLINES.fifo : discipline;
    const chosen = choose(candidates, parameters);
    return offers[candidates.indexOf(chosen)];
  }

  #candidate(offer: Forecast, scale: number): Candidate {
    const { queue, live } = offer;
    const { shedsByCost } = this.#options;
    if (!live) return queue.candidate(offer, scale, shedsByCost);
    const frontOrder = live[0]!.order;
    const deadlines = live.map(({ deadlineMs }) => deadlineMs ?? Infinity);
    const earliestDeadline = deadlines.reduce((earliest, each) => Math.min(earliest, each));
    return { ...queue.candidate(offer, scale, false), frontOrder, earliestDeadline };
  }

  #plan(queue: ModelQueue, front: QueuedWork): PlannedDispatch | undefined {
    try {
      return queue.planned(planDispatch);
    } catch (error) {
      // Requests are checked before they are queued, so this is a defect of whoever prepared it: the
      // front request alone is answered, and the loop goes on.
      queue.take(1);
      this.#options.onDrop();
      front.reject(error);
      return undefined;
    }
  }

  /**
   * The oldest request worth running. Among those that could be part of the next batch, what is
   * cancelled, late, or (`edf`) cannot finish in time is rejected.
   */
  #liveFront(queue: ModelQueue, nowMs: number): QueuedWork | undefined {
    if (!this.#mayHaveDead(queue, nowMs)) return queue.front;
    const isLive = this.#isLiveAt(queue, nowMs);
    while (queue.front) {
      const dead = queue.dropDead(reachOf(queue.front), (work) => !isLive(work));
      if (dead.length === 0) break;
      for (const work of dead) {
        this.#options.onDrop();
        work.reject(whyDropped(work, queue.name));
      }
    }
    return queue.front;
  }

  /** Whether a request is worth running at a time. */
  #isLiveAt(queue: ModelQueue, nowMs: number): (work: QueuedWork) => boolean {
    return (work) => {
      if (work.isAborted()) return false;
      if (work.deadlineMs === undefined) return true;
      const margin = this.#options.shedsByCost && !work.isCommitted
        ? 1000 * (minimumCost(queue, work.variantKey) ?? DEFAULT_COST_SECONDS)
        : 0;
      return nowMs + margin < work.deadlineMs;
    };
  }

  /**
   * Until when a batch waits for others to join it. Only where they could: all that waits for the model would
   * share the dispatch, and there is room. Nobody's deadline is risked for it.
   */
  #endOfWait(planned: Forecast): number {
    const { queue, model, cost, live } = planned;
    const waitMs = this.#options.batchWaitMs(queue.name);
    if (waitMs <= 0 || !model.isCoalescable || isCommitted(planned)) return -Infinity;
    const front = live ? live[0]! : queue.front!;
    const cap = capOf(model, front.variantKey);
    let [rows, oldestMs, deadlineMs] = [0, Infinity, Infinity];
    for (const work of live ?? queue) {
      rows += work.rows;
      const isAlike = work.variantKey === front.variantKey && work.model === front.model;
      if (!isAlike || rows >= cap) return -Infinity;
      oldestMs = Math.min(oldestMs, work.enqueuedMs);
      deadlineMs = Math.min(deadlineMs, work.deadlineMs ?? Infinity);
    }
    const endMs = oldestMs + waitMs;
    return endMs + 1000 * Math.max(cost, DEFAULT_COST_SECONDS) < deadlineMs ? endMs : -Infinity;
  }

  /** Rules most queues out without a look at every request: nobody has gone, no deadline is near. */
  #mayHaveDead(queue: ModelQueue, nowMs: number): boolean {
    const { front } = queue;
    if (!front) return false;
    const marginMs = this.#options.shedsByCost
      ? 1000 * Math.max(DEFAULT_COST_SECONDS, queue.largestCost)
      : 0;
    return nowMs + marginMs >= queue.earliestDeadline || queue.hasAborted(reachOf(front));
  }
}

/** What a request is told whose caller has gone, or whose deadline has passed or would pass. */
export function whyDropped(
  work: QueuedWork,
  model: string,
): CancelledError | DeadlineExceededError {
  return work.isAborted() ? new CancelledError("The caller went away") : new DeadlineExceededError(
    `The deadline passed while the request waited for model ${JSON.stringify(model)}`,
  );
}

/**
 * @param live the requests that count, oldest first; absent: all
 * @throws when the first of them could never run
 */
function planDispatch(queue: ModelQueue, live?: readonly QueuedWork[]): PlannedDispatch {
  const { model, variantKey } = live?.[0] ?? queue.front!;
  const sizes = model.sizes(variantKey);
  if (!sizes) throw new InternalError(`Model ${JSON.stringify(model.name)} has no such variant`);
  const { isCoalescable, maxRows } = model;
  const costs = queue.planningCosts(variantKey);
  const plan = planBatch(live ?? queue, { sizes, isCoalescable, maxRows, costs });
  const cost = queue.costs.get(variantKey)?.get(plan.size) ?? DEFAULT_COST_SECONDS;
  return { model, queue, plan, cost };
}

function isCommitted({ queue, live }: Forecast): boolean {
  return live ? live[0]!.isCommitted === true : queue.hasCommitted;
}

/** Whether no request that is still to come can change the batch: there are enough for the largest. */
export function isFull({ model, queue, plan }: PlannedDispatch): boolean {
  if (!model.isCoalescable) return true;
  const cap = capOf(model, queue.front!.variantKey);
  return plan.rows >= cap || queue.depth >= cap;
}

/** The most rows that one dispatch of a variant takes. */
function capOf(model: ScheduledModel, variantKey: string): number {
  return Math.min(model.sizes(variantKey)!.at(-1)!, model.maxRows ?? Infinity);
}

/** How many requests from a queue's front its next batch could have. */
function reachOf({ model, variantKey }: QueuedWork): number {
  return model.isCoalescable ? Math.max(1, model.sizes(variantKey)?.at(-1) ?? 1) : 1;
}

/** The least time any dispatch of the variant was learned to take. */
function minimumCost(queue: ModelQueue, variantKey: string): number | undefined {
  const costs = queue.costs.get(variantKey);
  return costs && costs.size > 0 ? Math.min(...costs.values()) : undefined;
}
