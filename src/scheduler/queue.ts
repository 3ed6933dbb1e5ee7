/** One model's queue and what the scheduler has learned about it. */

import type { NamedTensor } from "../tensor/mod.ts";
import { NotFoundError, ResourceExhaustedError } from "../errors.ts";
import type { ScheduledModel } from "./scheduled_model.ts";

/** A prepared request: inputs in program order, checked, hooks done. */
export interface Work {
  readonly inputs: readonly NamedTensor[];
  /** Extent along the batch axis; 1 for a model without one. */
  readonly rows: number;
  readonly variantKey: string;
  /** Absolute, on the `performance.now()` clock; `undefined`: none. */
  readonly deadlineMs: number | undefined;
  /** Whether the caller has gone, so that the work may be dropped. */
  readonly isAborted: () => boolean;
  /**
   * A stage of a meta model that has already spent time on earlier stages: it goes before the discipline
   * and before whatever else waits for the model, and no limit refuses it. How many there can be is
   * bounded by the meta gate.
   */
  readonly isCommitted?: boolean;
}

/** Work that waits, with its reply slot. */
export interface QueuedWork extends Work {
  /** The version of the model that it was prepared for. */
  readonly model: ScheduledModel;
  /** Arrival number, across all models. */
  readonly order: number;
  readonly enqueuedMs: number;
  readonly resolve: (outputs: NamedTensor[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Counters of one model since it was first loaded; a newer version goes on counting. */
export interface ModelCounters {
  dispatches: number;
  requests: number;
  rows: number;
  computeSeconds: number;
  /** Dispatches by compiled size. */
  readonly sizes: Map<number, number>;
}

/**
 * Committed work first, then the rest, each in order of arrival; taking from the front is O(1)
 * amortized.
 */
export class ModelQueue {
  /** Of the model; changes when that is renamed. */
  name: string;
  readonly maxDepth: number;
  weight: number;
  readonly counters: ModelCounters = {
    dispatches: 0,
    requests: 0,
    rows: 0,
    computeSeconds: 0,
    sizes: new Map(),
  };
  /** Learned seconds per dispatch, by variant and size. */
  readonly costs = new Map<string, Map<number, number>>();
  #items: QueuedWork[] = [];
  #head = 0;
  /** Committed work at the front of the items. */
  #committed = 0;
  #recentCompute = 0;
  #recentAtMs = 0;

  constructor(options: { name: string; maxDepth: number; weight: number }) {
    this.name = options.name;
    this.maxDepth = options.maxDepth;
    this.weight = options.weight;
  }

  get depth(): number {
    return this.#items.length - this.#head;
  }

  get front(): QueuedWork | undefined {
    return this.#items[this.#head];
  }

  /** Whether the front request is committed. */
  get hasCommitted(): boolean {
    return this.#committed > 0;
  }

  /** Everything queued, oldest first. */
  *[Symbol.iterator](): Iterator<QueuedWork> {
    for (let at = this.#head; at < this.#items.length; at++) yield this.#items[at]!;
  }

  /** @throws {ResourceExhaustedError} when the queue is full */
  push(work: QueuedWork): void {
    if (work.isCommitted) {
      this.#items.splice(this.#head + this.#committed++, 0, work);
      return;
    }
    if (this.depth >= this.maxDepth) {
      throw new ResourceExhaustedError(
        `The queue of model ${
          JSON.stringify(this.name)
        } is full (${this.maxDepth} requests, scheduler.max_queue_depth)`,
      );
    }
    this.#items.push(work);
  }

  /** Removes and returns the first `count`. */
  take(count: number): QueuedWork[] {
    const taken = this.#items.slice(this.#head, this.#head + count);
    this.#head += count;
    this.#committed = Math.max(0, this.#committed - count);
    if (this.#head > 64 && this.#head * 2 > this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return taken;
  }

  /**
   * Removes and returns what `isDead` picks among the first `limit`, keeping the order of the rest. Work
   * further back is looked at when its turn comes near, so a deep queue costs nothing here.
   */
  dropDead(limit: number, isDead: (work: QueuedWork) => boolean): QueuedWork[] {
    const end = Math.min(this.#items.length, this.#head + limit);
    const dropped: QueuedWork[] = [];
    // From the back, so that what stays closes up towards the end of the prefix.
    let to = end;
    for (let at = end - 1; at >= this.#head; at--) {
      const work = this.#items[at]!;
      if (isDead(work)) {
        dropped.push(work);
        if (work.isCommitted) this.#committed--;
      } else {
        this.#items[--to] = work;
      }
    }
    this.#head += dropped.length;
    return dropped.reverse();
  }

  /** Takes over what waits in another queue, each request where it would stand had it come here. */
  absorb(other: ModelQueue): void {
    const committed = this.#committed + other.#committed;
    this.#items = [...this, ...other.take(other.depth)].sort((a, b) =>
      Number(b.isCommitted ?? false) - Number(a.isCommitted ?? false) || a.order - b.order
    );
    this.#head = 0;
    this.#committed = committed;
  }

  /** Fails everything queued because the model is gone. */
  rejectAll(): void {
    for (const work of this.take(this.depth)) {
      work.reject(new NotFoundError(`Model ${JSON.stringify(this.name)} was unloaded`));
    }
  }

  /** Recent compute in seconds, halved every `halfLifeSeconds`. */
  recentCompute(nowMs: number, halfLifeSeconds: number): number {
    if (nowMs > this.#recentAtMs) {
      const elapsed = (nowMs - this.#recentAtMs) / 1000;
      this.#recentCompute *= Math.exp(-elapsed * Math.LN2 / halfLifeSeconds);
      this.#recentAtMs = nowMs;
    }
    return this.#recentCompute;
  }

  /** Books one finished dispatch. `costAlpha` weighs the new measurement against the learned cost. */
  record(dispatch: {
    variantKey: string;
    size: number;
    rows: number;
    requests: number;
    computeSeconds: number;
    nowMs: number;
    halfLifeSeconds: number;
    costAlpha: number;
  }): void {
    const { counters } = this;
    counters.dispatches++;
    counters.requests += dispatch.requests;
    counters.rows += dispatch.rows;
    counters.computeSeconds += dispatch.computeSeconds;
    counters.sizes.set(dispatch.size, (counters.sizes.get(dispatch.size) ?? 0) + 1);
    this.recentCompute(dispatch.nowMs, dispatch.halfLifeSeconds);
    this.#recentCompute += dispatch.computeSeconds;
    this.learnCost(
      dispatch.variantKey,
      dispatch.size,
      dispatch.computeSeconds,
      dispatch.costAlpha,
    );
  }

  /** Blends a measured cost into what is known; the first measurement stands as it is. */
  learnCost(variantKey: string, size: number, seconds: number, alpha: number): void {
    let costs = this.costs.get(variantKey);
    if (!costs) this.costs.set(variantKey, costs = new Map());
    const known = costs.get(size);
    costs.set(size, known === undefined ? seconds : alpha * seconds + (1 - alpha) * known);
  }
}
