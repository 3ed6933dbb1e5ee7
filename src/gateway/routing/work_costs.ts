/** What the workers' counters say about models: their cost, their batch axis, the compute they use. */

import type { FleetReport, ModelReport, WorkerId } from "../fleet.ts";
import type { BatchAxis } from "./router.ts";

/**
 * One step of an exponential average that forgets half in every `halflife`: the sample counts for
 * `1 − 2^(−elapsed/halflife)`. Without an earlier value the sample is taken as it is.
 */
export function fold(
  old: number | undefined,
  sample: number,
  { elapsed, halflife }: { readonly elapsed: number; readonly halflife: number },
): number {
  if (old === undefined) return sample;
  const alpha = 1 - 2 ** (-elapsed / halflife);
  return (1 - alpha) * old + alpha * sample;
}

/** What is known of one model over the whole fleet. */
export interface ModelFacts {
  /** Device-seconds per request and per item; `undefined` before any was measured. */
  readonly requestCost: number | undefined;
  readonly itemCost: number | undefined;
  /** Largest any worker reported. */
  readonly weightBytes: number;
  readonly maxBatchSize: number;
  readonly batchAxis: BatchAxis | undefined;
}

interface MutableFacts {
  requestCost: number | undefined;
  itemCost: number | undefined;
  weightBytes: number;
  maxBatchSize: number;
  batchAxis: BatchAxis | undefined;
  /** Fleet compute at the last change of each cost. */
  requestFoldedAt: number;
  itemFoldedAt: number;
}

interface Counters {
  readonly computeSeconds: number;
  readonly requests: number;
  readonly rows: number;
}

/** Where the counters of one model on one worker stood. */
interface Baseline extends Counters {
  readonly seenAtSeconds: number;
}

interface Sums {
  computeSeconds: number;
  requests: number;
  rows: number;
}

/** What has not been seen for this long starts anew when it comes back. */
const REMEMBERED_SECONDS = 600;
const ZERO: Counters = { computeSeconds: 0, requests: 0, rows: 0 };

/**
 * Learns from poll to poll. Baselines are kept per worker and model, also while a worker does not
 * answer: what it did meanwhile counts once when it returns, and its lifetime total never does. A counter
 * that went backwards (the worker restarted) is a new baseline and says nothing.
 */
export class WorkCosts {
  readonly #facts = new Map<string, MutableFacts>();
  readonly #baselines = new Map<WorkerId, Map<string, Baseline>>();
  #fleetCompute = 0;
  #meanItemCost: number | undefined;
  #meanRequestCost: number | undefined;

  /** Compute seconds used by the fleet since the first poll; only grows. */
  get fleetCompute(): number {
    return this.#fleetCompute;
  }

  /** The models any poll has shown. */
  get models(): ReadonlyMap<string, ModelFacts> {
    return this.#facts;
  }

  /**
   * Takes in one poll. Costs are averaged over the compute that the fleet used in between, with this
   * halflife in device-seconds.
   */
  observe(report: FleetReport, halflife: number): void {
    const used = new Map<string, Sums>();
    const lifetime = new Map<string, Sums>();
    const seen = new Map<string, { weightBytes: number; maxBatchSize: number; axis?: BatchAxis }>();
    for (const { worker, models } of report.workers) {
      const isNew = !this.#baselines.has(worker);
      const baselines = this.#baselines.get(worker) ?? new Map<string, Baseline>();
      this.#baselines.set(worker, baselines);
      for (const model of models) {
        noteShape(seen, model);
        // A worker seen for the first time has a past that is not this interval's.
        if (isNew) addSince(lifetime, model, ZERO);
        else addSince(used, model, baselines.get(model.name) ?? ZERO);
        const { computeSeconds, requests, rows } = model;
        const seenAtSeconds = report.atSeconds;
        baselines.set(model.name, { computeSeconds, requests, rows, seenAtSeconds });
      }
    }
    for (const { computeSeconds } of used.values()) this.#fleetCompute += computeSeconds;
    for (const [name, shape] of seen) {
      const facts = this.#factsOf(name);
      facts.weightBytes = shape.weightBytes;
      facts.maxBatchSize = shape.maxBatchSize;
      facts.batchAxis = shape.axis ?? facts.batchAxis;
      this.#learn(facts, used.get(name), lifetime.get(name), halflife);
    }
    this.#forget(report.atSeconds);
    this.#updateMeans();
  }

  /** Device-seconds one item is expected to take: its own, else the fleet's mean, else 1; never 0. */
  itemCostOf(model: string): number {
    return positive(this.#facts.get(model)?.itemCost) ?? this.#meanItemCost ?? 1;
  }

  /** As `itemCostOf`, for a whole request. */
  requestCostOf(model: string): number {
    return positive(this.#facts.get(model)?.requestCost) ?? this.#meanRequestCost ?? 1;
  }

  #factsOf(name: string): MutableFacts {
    let facts = this.#facts.get(name);
    if (facts === undefined) {
      facts = {
        requestCost: undefined,
        itemCost: undefined,
        weightBytes: 0,
        maxBatchSize: 0,
        batchAxis: undefined,
        requestFoldedAt: 0,
        itemFoldedAt: 0,
      };
      this.#facts.set(name, facts);
    }
    return facts;
  }

  #learn(
    facts: MutableFacts,
    used: Sums | undefined,
    lifetime: Sums | undefined,
    halflife: number,
  ): void {
    const now = this.#fleetCompute;
    // A past of unknown age teaches only what nothing else has taught.
    const forRequests = facts.requestCost === undefined ? add(used, lifetime) : used;
    if (forRequests !== undefined && forRequests.requests > 0) {
      facts.requestCost = fold(
        facts.requestCost,
        forRequests.computeSeconds / forRequests.requests,
        { elapsed: now - facts.requestFoldedAt, halflife },
      );
      facts.requestFoldedAt = now;
    }
    const forItems = facts.itemCost === undefined ? add(used, lifetime) : used;
    if (forItems !== undefined && forItems.rows > 0) {
      facts.itemCost = fold(facts.itemCost, forItems.computeSeconds / forItems.rows, {
        elapsed: now - facts.itemFoldedAt,
        halflife,
      });
      facts.itemFoldedAt = now;
    }
  }

  #forget(nowSeconds: number): void {
    const listed = new Set<string>();
    for (const [worker, baselines] of this.#baselines) {
      for (const [model, { seenAtSeconds }] of baselines) {
        if (nowSeconds - seenAtSeconds > REMEMBERED_SECONDS) baselines.delete(model);
        else listed.add(model);
      }
      if (baselines.size === 0) this.#baselines.delete(worker);
    }
    for (const model of this.#facts.keys()) if (!listed.has(model)) this.#facts.delete(model);
  }

  #updateMeans(): void {
    const facts = [...this.#facts.values()];
    this.#meanItemCost = mean(facts.map(({ itemCost }) => itemCost));
    this.#meanRequestCost = mean(facts.map(({ requestCost }) => requestCost));
  }
}

function addSince(sums: Map<string, Sums>, model: ModelReport, before: Counters): void {
  const computeSeconds = model.computeSeconds - before.computeSeconds;
  const requests = model.requests - before.requests;
  const rows = model.rows - before.rows;
  if (computeSeconds < 0 || requests < 0 || rows < 0) return;
  let sum = sums.get(model.name);
  if (sum === undefined) sums.set(model.name, sum = { computeSeconds: 0, requests: 0, rows: 0 });
  sum.computeSeconds += computeSeconds;
  sum.requests += requests;
  sum.rows += rows;
}

function add(a: Sums | undefined, b: Sums | undefined): Sums | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return {
    computeSeconds: a.computeSeconds + b.computeSeconds,
    requests: a.requests + b.requests,
    rows: a.rows + b.rows,
  };
}

function noteShape(
  seen: Map<string, { weightBytes: number; maxBatchSize: number; axis?: BatchAxis }>,
  model: ModelReport,
): void {
  let shape = seen.get(model.name);
  if (shape === undefined) seen.set(model.name, shape = { weightBytes: 0, maxBatchSize: 0 });
  shape.weightBytes = Math.max(shape.weightBytes, model.weightBytes);
  shape.maxBatchSize = Math.max(shape.maxBatchSize, model.maxBatchSize);
  if (shape.axis === undefined && model.batchInput !== "" && model.batchAxis >= 1) {
    shape.axis = { input: model.batchInput, axis: model.batchAxis };
  }
}

function positive(value: number | undefined): number | undefined {
  return value !== undefined && value > 0 ? value : undefined;
}

function mean(values: readonly (number | undefined)[]): number | undefined {
  let sum = 0;
  let count = 0;
  for (const value of values) {
    if (value === undefined || value <= 0) continue;
    sum += value;
    count++;
  }
  return count === 0 ? undefined : sum / count;
}
