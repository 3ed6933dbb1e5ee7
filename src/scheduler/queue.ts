/** One model's queue and what the scheduler has learned about it. */

import type { NamedTensor } from "../tensor/mod.ts";
import { NotFoundError, ResourceExhaustedError, type ServerError } from "../errors.ts";
import type { BatchPlan } from "./batch_plan.ts";
import type { Candidate } from "./disciplines/mod.ts";
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
   * Answers the caller at once. What the work gives goes nowhere then, but its memory, targets too, stays in
   * use until it is over. Absent: the caller cannot be answered before.
   */
  readonly giveUp?: ((reason: ServerError) => void) | undefined;
  /**
   * A stage of a meta model that has already spent time on earlier stages: it goes before the discipline
   * and before whatever else waits for the model, and no limit refuses it. How many there can be is
   * bounded by the meta gate.
   */
  readonly isCommitted?: boolean;
  /**
   * Memory that outputs may be written to as the device gives them, by name. Used where the request has a
   * dispatch for itself and the room is enough; the `data` of such an output is a view of it.
   */
  readonly targets?: OutputTargets | undefined;
}

/** Memory for the outputs of one request. */
export interface OutputTargets {
  /** Whether it is this process's own, so that no client can take it away while a device writes to it. */
  readonly isOurs?: boolean;
  /** Room for an output, `byteLength` or more; `undefined`: there is none. Asked when a dispatch begins. */
  get(output: string, byteLength: number): Uint8Array | undefined;
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
  /** Its own memory is being copied to the device ahead of its turn: it is not answered before that ends. */
  staging?: Promise<unknown>;
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

/** A queue's next dispatch, and what it is expected to take. */
export interface PlannedDispatch {
  /** The version of the model that the front request was prepared for. */
  readonly model: ScheduledModel;
  readonly queue: ModelQueue;
  readonly plan: BatchPlan;
  /** Seconds, as learned or by default. */
  readonly cost: number;
}

/** A size that planning has not chosen for so many dispatches of its model is measured again. */
const REMEASURE_DISPATCHES = 64;
/** How much better than the best it is taken to be then: enough to win where it fits as well. */
const REMEASURE_SHARE = 0.999;

/**
 * Committed work first, then the rest, each in order of arrival, or the rest by deadline; taking from the
 * front is O(1) amortized. What a choice between queues needs is remembered until the queue or its costs change, so
 * that choosing among many costs little.
 */
export class ModelQueue {
  /** Of the model; changes when that is renamed. */
  name: string;
  readonly maxDepth: number;
  weight: number;
  /** Whether what is more urgent goes ahead; of equal deadlines, and without any, the older. */
  readonly #byDeadline: boolean;
  readonly counters: ModelCounters = {
    dispatches: 0,
    requests: 0,
    rows: 0,
    computeSeconds: 0,
    sizes: new Map(),
  };
  /** Learned seconds per dispatch, by variant and size; changed by `learnCost`. */
  readonly costs = new Map<string, Map<number, number>>();
  /** After how many dispatches each of them was last measured. */
  readonly #measured = new Map<string, Map<number, number>>();
  /** Seconds that dispatches on the device are expected to take; they are not in the recent compute yet. */
  pendingCompute = 0;
  /** What has left is not kept alive by its place before the head: inputs may be large. */
  #items: (QueuedWork | undefined)[] = [];
  #head = 0;
  /** Committed work at the front of the items. */
  #committed = 0;
  /** On the scheduler's `DecayClock`. */
  #recentCompute = 0;
  #planned: PlannedDispatch | undefined;
  /** Filled in anew for every decision instead of made for it. */
  readonly #candidate = {
    name: "",
    frontOrder: 0,
    earliestDeadline: Infinity,
    weight: 0,
    recentCompute: 0,
    plannedCost: 0,
    plannedRows: 1,
    isCoalesced: false,
  };
  /** Queued work with a deadline. */
  #deadlines = 0;
  /** The earliest of them; `undefined`: to be found again. */
  #earliest: number | undefined = Infinity;
  #largestCost: number | undefined;

  constructor(
    options: { name: string; maxDepth: number; weight: number; byDeadline?: boolean },
  ) {
    this.name = options.name;
    this.maxDepth = options.maxDepth;
    this.weight = options.weight;
    this.#byDeadline = options.byDeadline ?? false;
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

  /** The earliest deadline of everything queued; Infinity: none. */
  get earliestDeadline(): number {
    if (this.#deadlines === 0) return Infinity;
    if (this.#earliest !== undefined) return this.#earliest;
    let earliest = Infinity;
    for (let at = this.#head; at < this.#items.length; at++) {
      const { deadlineMs } = this.#items[at]!;
      if (deadlineMs !== undefined && deadlineMs < earliest) earliest = deadlineMs;
    }
    return this.#earliest = earliest;
  }

  /** The longest that any dispatch was learned to take, in seconds; 0: none was measured. */
  get largestCost(): number {
    if (this.#largestCost !== undefined) return this.#largestCost;
    let largest = 0;
    for (const costs of this.costs.values()) {
      for (const cost of costs.values()) largest = Math.max(largest, cost);
    }
    return this.#largestCost = largest;
  }

  /**
   * What a dispatch was learned to take, in seconds, by the compiled sizes that a version of the model has;
   * of several variants the longest.
   */
  costsOf(model: ScheduledModel): ReadonlyMap<number, number> {
    const longest = new Map<number, number>();
    for (const [variantKey, costs] of this.costs) {
      const sizes = model.sizes(variantKey) ?? [];
      for (const size of sizes) {
        const cost = costs.get(size);
        if (cost !== undefined) longest.set(size, Math.max(cost, longest.get(size) ?? 0));
      }
    }
    return longest;
  }

  /**
   * The learned costs of a variant as planning a batch takes them. A size that has not run for long counts
   * as no dearer per row than the best one: else a size whose first run happened to be slow would never be
   * chosen, and so never be measured, again.
   */
  planningCosts(variantKey: string): ReadonlyMap<number, number> | undefined {
    const costs = this.costs.get(variantKey);
    if (costs === undefined || costs.size < 2) return costs;
    const measured = this.#measured.get(variantKey)!;
    const isStale = (size: number) =>
      this.counters.dispatches - measured.get(size)! > REMEASURE_DISPATCHES;
    let hasStale = false;
    let best = Infinity;
    for (const [size, cost] of costs) {
      best = Math.min(best, cost / size);
      hasStale ||= isStale(size);
    }
    if (!hasStale) return costs;
    const planned = new Map<number, number>();
    for (const [size, cost] of costs) {
      planned.set(size, isStale(size) ? Math.min(cost, REMEASURE_SHARE * best * size) : cost);
    }
    return planned;
  }

  /** Whether the caller of one of the first `limit` has gone. */
  hasAborted(limit: number): boolean {
    const end = Math.min(this.#items.length, this.#head + limit);
    for (let at = this.#head; at < end; at++) if (this.#items[at]!.isAborted()) return true;
    return false;
  }

  /** The next dispatch, made by `plan` unless it is known since the last change. */
  planned(plan: (queue: ModelQueue) => PlannedDispatch): PlannedDispatch {
    return this.#planned ??= plan(this);
  }

  /**
   * What a discipline sees of this queue, until it is asked again. Not of an empty one.
   * @param scale the `DecayClock`'s, now
   * @param withDeadline whether the deadline matters: finding it may take a look at every request
   */
  candidate(planned: PlannedDispatch, scale: number, withDeadline: boolean): Candidate {
    const candidate = this.#candidate;
    candidate.name = this.name;
    candidate.frontOrder = this.#items[this.#head]!.order;
    candidate.earliestDeadline = withDeadline ? this.earliestDeadline : Infinity;
    candidate.weight = this.weight;
    candidate.recentCompute = this.recentCompute(scale);
    candidate.plannedCost = planned.cost;
    candidate.plannedRows = planned.plan.rows;
    candidate.isCoalesced = planned.plan.take > 1;
    return candidate;
  }

  /** Everything queued, oldest first. */
  *[Symbol.iterator](): Iterator<QueuedWork> {
    for (let at = this.#head; at < this.#items.length; at++) yield this.#items[at]!;
  }

  /** @throws {ResourceExhaustedError} when the queue is full */
  push(work: QueuedWork): void {
    if (work.isCommitted) {
      this.#items.splice(this.#head + this.#committed++, 0, work);
      this.#added(work);
      return;
    }
    if (this.depth >= this.maxDepth) {
      throw new ResourceExhaustedError(
        `The queue of model ${
          JSON.stringify(this.name)
        } is full (${this.maxDepth} requests, scheduler.max_queue_depth)`,
      );
    }
    if (this.#byDeadline) this.#items.splice(this.#placeOf(work), 0, work);
    else this.#items.push(work);
    this.#added(work);
  }

  /** Behind everything that is as urgent. Found from the back: mostly the latest is the least urgent. */
  #placeOf(work: QueuedWork): number {
    const first = this.#head + this.#committed;
    let at = this.#items.length;
    while (at > first && deadlineOf(this.#items[at - 1]!) > deadlineOf(work)) at--;
    return at;
  }

  #added({ deadlineMs }: QueuedWork): void {
    this.#planned = undefined;
    if (deadlineMs === undefined) return;
    this.#deadlines++;
    if (this.#earliest !== undefined && deadlineMs < this.#earliest) this.#earliest = deadlineMs;
  }

  #removed({ deadlineMs }: QueuedWork): void {
    this.#planned = undefined;
    if (deadlineMs === undefined) return;
    this.#deadlines--;
    if (this.#deadlines === 0) this.#earliest = Infinity;
    else if (deadlineMs === this.#earliest) this.#earliest = undefined;
  }

  /** The first `count`, which stay. */
  first(count: number): QueuedWork[] {
    return this.#items.slice(this.#head, this.#head + count) as QueuedWork[];
  }

  /** Removes and returns the first `count`. */
  take(count: number): QueuedWork[] {
    const taken = this.first(count);
    for (const work of taken) this.#removed(work);
    this.#forget(taken.length);
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
        this.#removed(work);
        if (work.isCommitted) this.#committed--;
      } else {
        this.#items[--to] = work;
      }
    }
    this.#forget(dropped.length);
    return dropped.reverse();
  }

  /** Moves the head over places whose work has left or moved on. */
  #forget(count: number): void {
    this.#items.fill(undefined, this.#head, this.#head + count);
    this.#head += count;
    if (this.#head < this.#items.length) return;
    this.#items = [];
    this.#head = 0;
  }

  /** Takes over what waits in another queue, each request where it would stand had it come here. */
  absorb(other: ModelQueue): void {
    const committed = this.#committed + other.#committed;
    const taken = other.take(other.depth);
    const all = [...this, ...taken];
    this.#items = all.sort((a, b) =>
      Number(b.isCommitted ?? false) - Number(a.isCommitted ?? false) ||
      (this.#byDeadline && !a.isCommitted ? compare(deadlineOf(a), deadlineOf(b)) : 0) ||
      a.order - b.order
    );
    for (const work of taken) this.#added(work);
    this.#head = 0;
    this.#committed = committed;
  }

  /** Fails everything queued because the model is gone. */
  rejectAll(): void {
    for (const work of this.take(this.depth)) {
      work.reject(new NotFoundError(`Model ${JSON.stringify(this.name)} was unloaded`));
    }
  }

  /** Recent compute in seconds, what is on the device now included. `scale`: the `DecayClock`'s, now. */
  recentCompute(scale: number): number {
    return this.#recentCompute / scale + this.pendingCompute;
  }

  /** Follows the `DecayClock` when it starts over. */
  rescale(scale: number): void {
    this.#recentCompute /= scale;
  }

  /** Books device time that served nobody. `scale`: the `DecayClock`'s, now. */
  charge(computeSeconds: number, scale: number): void {
    this.#recentCompute += computeSeconds * scale;
  }

  /** Books one finished dispatch. `costAlpha` weighs the new measurement against the learned cost. */
  record(dispatch: {
    variantKey: string;
    size: number;
    rows: number;
    requests: number;
    computeSeconds: number;
    /** The `DecayClock`'s, now. */
    scale: number;
    costAlpha: number;
  }): void {
    const { counters } = this;
    counters.dispatches++;
    counters.requests += dispatch.requests;
    counters.rows += dispatch.rows;
    counters.computeSeconds += dispatch.computeSeconds;
    counters.sizes.set(dispatch.size, (counters.sizes.get(dispatch.size) ?? 0) + 1);
    this.charge(dispatch.computeSeconds, dispatch.scale);
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
    let measured = this.#measured.get(variantKey);
    if (!costs || !measured) {
      this.costs.set(variantKey, costs = new Map());
      this.#measured.set(variantKey, measured = new Map());
    }
    measured.set(size, this.counters.dispatches);
    this.#planned = undefined;
    this.#largestCost = undefined;
    const known = costs.get(size);
    costs.set(size, known === undefined ? seconds : alpha * seconds + (1 - alpha) * known);
  }
}

function deadlineOf({ deadlineMs }: Work): number {
  return deadlineMs ?? Infinity;
}

/** Below 0 where `a` is less; other than a difference, it can tell infinities. */
function compare(a: number, b: number): number {
  return a === b ? 0 : a < b ? -1 : 1;
}
