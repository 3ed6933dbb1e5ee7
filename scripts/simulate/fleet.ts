/**
 * A fleet in simulated time around the gateway's own router: requests arrive, the router reserves a
 * worker, the worker batches and computes, polls tell the router what happened. Only the workers, the
 * network and the clock are made up.
 */

import type { SchedulingConfig } from "../../src/config/mod.ts";
import { silentLogger } from "../../src/log.ts";
import { ROUTERS } from "../../src/gateway/routing/mod.ts";
import { Device, type Dispatch, type SimulatedRequest } from "./device.ts";
import { EventQueue } from "./event_queue.ts";
import { LatencyHistogram } from "./latency.ts";
import { makeModels, Popularity, seededRandom } from "./workload.ts";

/** One run. */
export interface RunOptions {
  readonly seed: number;
  readonly workers: number;
  readonly models: number;
  readonly zipfExponent: number;
  readonly requestsPerSecond: number;
  readonly seconds: number;
  /** Not measured. */
  readonly warmUpSeconds: number;
  /** Spread is measured over windows of this length. */
  readonly windowSeconds: number;
  readonly pollSeconds: number;
  readonly driftSeconds: number;
  /** Pairs of ranks exchanged at each drift. */
  readonly driftSwaps: number;
  readonly budgetBytes: number;
  readonly loadBytesPerSecond: number;
  readonly scheduling: SchedulingConfig;
}

/** One window of a run. */
export interface Window {
  readonly endsAt: number;
  /** Busiest worker over the mean. */
  readonly spread: number;
  /** What no placement with this many replicas could have bettered, given what the models used. */
  readonly bound: number;
}

/** What came of a run. */
export interface RunResult {
  readonly windows: readonly Window[];
  readonly utilization: number;
  readonly requests: number;
  readonly shed: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly meanBatch: number;
  /** Weights brought to devices, bytes per second of the whole fleet. */
  readonly loadedBytesPerSecond: number;
  readonly repacks: number;
  /** Models that changed workers, per repack by compute. */
  readonly movedPerRepack: number;
  /** Most bytes of weights assigned to a worker over its budget; 0: never over. */
  readonly worstOverfill: number;
}

/** Runs to the end. The same options give the same result. */
export function simulate(options: RunOptions): RunResult {
  return new Simulation(options).run();
}

class Simulation {
  readonly #options: RunOptions;
  readonly #random: () => number;
  readonly #models;
  readonly #popularity: Popularity;
  readonly #devices: Device[];
  readonly #names: readonly string[];
  readonly #router;
  readonly #events = new EventQueue();
  readonly #running: (Dispatch | undefined)[] = [];
  readonly #latency = new LatencyHistogram();
  readonly #windows: Window[] = [];
  readonly #moved: number[] = [];
  #now = 0;
  #requests = 0;
  #shed = 0;
  #worstOverfill = 0;
  #lastRepackCount = 0;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#models = makeModels(options.models, this.#random);
    this.#popularity = new Popularity(options.models, options.zipfExponent, this.#random);
    this.#names = Array.from(
      { length: options.workers },
      (_, index) => `worker${String(index).padStart(2, "0")}:8080`,
    );
    this.#devices = this.#names.map(() =>
      new Device({
        models: this.#models,
        budgetBytes: options.budgetBytes,
        loadBytesPerSecond: options.loadBytesPerSecond,
      })
    );
    this.#router = ROUTERS[options.scheduling.mode]({
      scheduling: options.scheduling,
      log: silentLogger,
      now: () => this.#now,
      unixNow: () => this.#now,
    });
    this.#router.discovered({
      routes: new Map(this.#models.map(({ name }) => [name, this.#names])),
      ready: this.#names,
    });
  }

  run(): RunResult {
    const { seconds, pollSeconds, driftSeconds, driftSwaps, warmUpSeconds, windowSeconds } =
      this.#options;
    this.#poll();
    let nextArrival = this.#interval();
    let nextPoll = pollSeconds;
    let nextDrift = driftSeconds;
    let nextWindow = warmUpSeconds;
    let before = this.#snapshot();
    let start = before;
    for (;;) {
      this.#now = Math.min(nextArrival, this.#events.nextTime, nextPoll, nextDrift, nextWindow);
      if (this.#now > seconds) break;
      if (this.#now === this.#events.nextTime) this.#end(this.#events.pop());
      else if (this.#now === nextArrival) {
        this.#arrive();
        nextArrival += this.#interval();
      } else if (this.#now === nextPoll) {
        this.#poll();
        nextPoll += pollSeconds;
      } else if (this.#now === nextDrift) {
        this.#popularity.drift(driftSwaps);
        nextDrift += driftSeconds;
      } else {
        const after = this.#snapshot();
        if (this.#now === warmUpSeconds) start = after;
        else this.#windows.push(this.#windowOf(before, after));
        before = after;
        nextWindow += windowSeconds;
      }
    }
    return this.#result(start, before);
  }

  #interval(): number {
    return -Math.log(1 - this.#random()) / this.#options.requestsPerSecond;
  }

  #arrive(): void {
    const model = this.#popularity.next();
    // Mostly one row, sometimes up to eight.
    const rows = Math.min(8, 1 + Math.floor(-Math.log(1 - this.#random()) / 1.5));
    const { name } = this.#models[model]!;
    this.#router.arrived(name);
    const reservation = this.#router.reserve(name, rows)!;
    const worker = this.#names.indexOf(reservation.first);
    const request: SimulatedRequest = {
      model,
      rows,
      arrivedAt: this.#now,
      reservation,
      isTaken: false,
    };
    if (this.#now >= this.#options.warmUpSeconds) this.#requests++;
    if (!this.#devices[worker]!.enqueue(request)) {
      reservation.release();
      if (this.#now >= this.#options.warmUpSeconds) this.#shed++;
      return;
    }
    if (!this.#devices[worker]!.isBusy) this.#start(worker);
  }

  #start(worker: number): void {
    const dispatch = this.#devices[worker]!.start(this.#now);
    this.#running[worker] = dispatch;
    if (dispatch !== undefined) this.#events.push(dispatch.endsAt, worker);
  }

  #end(worker: number): void {
    this.#devices[worker]!.isBusy = false;
    for (const { arrivedAt, reservation } of this.#running[worker]!.requests) {
      reservation.release();
      if (arrivedAt >= this.#options.warmUpSeconds) this.#latency.add(this.#now - arrivedAt);
    }
    this.#start(worker);
  }

  #poll(): void {
    if (this.#router.wantsReports) {
      this.#router.report({
        atSeconds: this.#now,
        workers: this.#devices.map((device, index) => ({
          worker: this.#names[index]!,
          discipline: "fifo",
          weightBudgetBytes: this.#options.budgetBytes,
          models: device.report(),
        })),
      });
    }
    const { control } = this.#router;
    if (control === undefined) return;
    const { count, last } = control.repack;
    if (count > this.#lastRepackCount && this.#now > this.#options.warmUpSeconds) {
      this.#moved.push(last!.modelsMoved);
    }
    this.#lastRepackCount = count;
    for (const { assignedWeightBytes, weightBudgetBytes } of control.workers()) {
      this.#worstOverfill = Math.max(this.#worstOverfill, assignedWeightBytes - weightBudgetBytes);
    }
  }

  #snapshot() {
    return {
      at: this.#now,
      busy: this.#devices.map(({ busySeconds }) => busySeconds),
      byModel: this.#models.map((_, index) =>
        this.#devices.reduce((sum, { counters }) => sum + counters[index]!.computeSeconds, 0)
      ),
      loadedBytes: this.#devices.reduce((sum, { loadedBytes }) => sum + loadedBytes, 0),
      dispatches: this.#devices.reduce((sum, { dispatches }) => sum + dispatches, 0),
      rows: this.#devices.reduce(
        (sum, { counters }) => sum + counters.reduce((rows, counter) => rows + counter.rows, 0),
        0,
      ),
    };
  }

  #windowOf(before: Snapshot, after: Snapshot): Window {
    const busy = after.busy.map((seconds, worker) => seconds - before.busy[worker]!);
    const mean = busy.reduce((sum, seconds) => sum + seconds, 0) / busy.length;
    const { mode, defaultReplicas } = this.#options.scheduling;
    const replicas = mode !== "lpt_packing" || defaultReplicas === "all"
      ? busy.length
      : defaultReplicas;
    const largest = Math.max(
      ...after.byModel.map((seconds, model) => seconds - before.byModel[model]!),
    );
    return {
      endsAt: after.at,
      spread: Math.max(...busy) / mean,
      bound: Math.max(1, largest / replicas / mean),
    };
  }

  #result(start: Snapshot, end: Snapshot): RunResult {
    const seconds = end.at - start.at;
    const busy = end.busy.reduce((sum, value, worker) => sum + value - start.busy[worker]!, 0);
    return {
      windows: this.#windows,
      utilization: busy / seconds / this.#options.workers,
      requests: this.#requests,
      shed: this.#shed,
      p50Ms: this.#latency.quantile(0.5) * 1000,
      p99Ms: this.#latency.quantile(0.99) * 1000,
      meanBatch: (end.rows - start.rows) / (end.dispatches - start.dispatches),
      loadedBytesPerSecond: (end.loadedBytes - start.loadedBytes) / seconds,
      repacks: this.#moved.length,
      movedPerRepack: this.#moved.reduce((sum, moved) => sum + moved, 0) /
        Math.max(1, this.#moved.length),
      worstOverfill: this.#worstOverfill,
    };
  }
}

interface Snapshot {
  readonly at: number;
  /** Seconds, by worker. */
  readonly busy: readonly number[];
  /** Seconds, by model. */
  readonly byModel: readonly number[];
  readonly loadedBytes: number;
  readonly dispatches: number;
  readonly rows: number;
}
