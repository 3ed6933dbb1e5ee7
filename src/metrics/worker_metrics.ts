/**
 * What a worker reports: requests, dispatches and losses, counted here. What is read from it at each
 * scrape is in the files `*_families.ts`; a new family goes where its kind is.
 */

import { LATENCY_BOUNDS, UNKNOWN_MODEL } from "./conventions.ts";
import { addDeviceFamilies } from "./device_families.ts";
import { addExecutableCacheFamilies } from "./executable_cache_families.ts";
import {
  type Counter,
  CounterFamily,
  type Family,
  type Histogram,
  HistogramFamily,
} from "./family.ts";
import { addModelFamilies, type DispatchCounts } from "./model_families.ts";
import { addProcessMetrics } from "./process_metrics.ts";
import { RecentSamples } from "./recent_samples.ts";
import { MetricsRegistry } from "./registry.ts";
import { addWeightFamilies } from "./weight_families.ts";
import { addInfoFamily, addTotalFamilies } from "./worker_families.ts";
import type { WorkerMetricsOptions, WorkerReadings } from "./worker_readings.ts";

/** The `method` label of calls to paths that are no method. */
const UNKNOWN_METHOD = "_unknown";

/** Stages are far shorter than requests: 10 µs to 10 s, about three bounds per decade. */
const STAGE_BOUNDS = [
  0.00001,
  0.00003,
  0.0001,
  0.0003,
  0.001,
  0.003,
  0.01,
  0.03,
  0.1,
  0.3,
  1,
  3,
  10,
];

/** Compiled sizes are mostly powers of two. */
const BATCH_BOUNDS = Array.from({ length: 11 }, (_, k) => 2 ** k);

/** Parts of a request's way. `queue` and `hooks` are per request, the others per dispatch. */
export type Stage = "queue" | "host_to_device" | "execute" | "device_to_host" | "hooks";

/** One dispatch, as the scheduler reports it. */
export interface DispatchReport {
  readonly model: string;
  /** Compiled size; 0 without a batch axis. */
  readonly size: number;
  readonly rows: number;
  /** Time each of its requests waited. */
  readonly queueSeconds: readonly number[];
  readonly computeSeconds: number;
  readonly stages: { readonly input: number; readonly execute: number; readonly output: number };
}

/** What a model's events are counted in. */
class ModelCells implements DispatchCounts {
  dispatches = 0;
  computeSeconds = 0;
  requestsServed = 0;
  rowsServed = 0;
  readonly queueWaits = new RecentSamples();
  readonly statuses = new Map<string, Counter>();
  readonly stages = new Map<Stage, Histogram>();

  batchSizes: Histogram | undefined;

  constructor(readonly latency: Histogram) {}
}

/**
 * Counts what a worker does. Reporting costs a map look-up and a few additions. Model names given here
 * must be those of bundles, which bounds the label; anything a client made up is `undefined`.
 */
export class WorkerMetrics {
  readonly #registry: MetricsRegistry;
  readonly #readings: WorkerReadings;
  readonly #cells = new Map<string, ModelCells>();
  readonly #rpcs = new Map<string, Map<string, Counter>>();
  readonly #requests: CounterFamily;
  readonly #latency: HistogramFamily;
  readonly #stages: HistogramFamily;
  readonly #rpcFamily: CounterFamily;
  readonly #loadFailures: CounterFamily;
  readonly #hookWorkersLost: CounterFamily;
  readonly #hookFailures: CounterFamily;
  readonly #batchSizes: HistogramFamily;
  readonly #staged: CounterFamily;
  readonly #dispatchTimeouts: CounterFamily;
  readonly #metaWaits: Readonly<Record<"gate" | "scratch", HistogramFamily>>;

  constructor(options: WorkerMetricsOptions) {
    const registry = new MetricsRegistry({ worker: options.worker, gpu: options.gpu });
    this.#registry = registry;
    this.#readings = options.readings;
    this.#requests = registry.add(
      new CounterFamily({
        name: "worker_requests_total",
        help: "ModelInfer calls by model and gRPC status, as the client saw it.",
        labels: ["model", "status"],
      }),
    );
    this.#latency = registry.add(
      new HistogramFamily({
        name: "worker_request_latency_seconds",
        help: "Time from receiving a ModelInfer call to its answer, whatever the outcome.",
        labels: ["model"],
      }, LATENCY_BOUNDS),
    );
    this.#stages = registry.add(
      new HistogramFamily({
        name: "worker_stage_latency_seconds",
        help: "Time in each stage: queue and hooks per request, the others per dispatch.",
        labels: ["model", "stage"],
      }, STAGE_BOUNDS),
    );
    this.#rpcFamily = registry.add(
      new CounterFamily({
        name: "worker_rpcs_total",
        help: "Calls of every RPC by method and gRPC status, also those that reached no handler.",
        labels: ["method", "status"],
      }),
    );
    for (const path of options.methods) this.#rpcs.set(path, new Map());
    this.#rpcs.set(UNKNOWN_METHOD, new Map());
    this.#loadFailures = registry.add(
      new CounterFamily({
        name: "worker_bundle_load_failures_total",
        help: "Attempts to load a bundle that failed.",
        labels: ["model"],
      }),
    );
    this.#dispatchTimeouts = registry.add(
      new CounterFamily({
        name: "worker_dispatch_timeouts_total",
        help: "Dispatches that took longer than scheduler.dispatch_timeout_seconds.",
        labels: ["model"],
      }),
    );
    this.#hookWorkersLost = registry.add(
      new CounterFamily({
        name: "worker_hook_workers_lost_total",
        help: "Hook threads that had to be ended, by reason: timeout, memory or crash.",
        labels: ["model", "reason"],
      }),
    );
    this.#hookFailures = registry.add(
      new CounterFamily({
        name: "worker_hook_failures_total",
        help: "Requests that failed through a hook: error, output, timeout, memory, crash, or " +
          "start (there was no thread).",
        labels: ["model", "reason"],
      }),
    );
    this.#batchSizes = registry.add(
      new HistogramFamily({
        name: "worker_batch_size",
        help: "Compiled size of each dispatch, padding included; 1 without a batch axis.",
        labels: ["model"],
      }, BATCH_BOUNDS),
    );
    this.#staged = registry.add(
      new CounterFamily({
        name: "worker_staged_batches_total",
        help: "Batches copied to the device while another one ran: used, discarded or failed.",
        labels: ["model", "outcome"],
      }),
    );
    const metaWait = (name: string, what: string) =>
      registry.add(
        new HistogramFamily(
          { name, help: `Time runs of a meta model waited for ${what}.`, labels: ["model"] },
          STAGE_BOUNDS,
        ),
      );
    this.#metaWaits = {
      gate: metaWait("worker_meta_gate_wait_seconds", "their place (`meta.concurrency`)"),
      scratch: metaWait("worker_scratch_wait_seconds", "scratch memory"),
    };
    addModelFamilies(registry, options.readings, (model) => this.#cellsOf(model));
    addTotalFamilies(registry, options);
    addDeviceFamilies(registry, options.readings);
    addWeightFamilies(registry, options.readings);
    addExecutableCacheFamilies(registry, options.readings);
    addInfoFamily(registry, options);
    addProcessMetrics(registry);
  }

  /** What is declared, for documentation. */
  families(): readonly Family[] {
    return this.#registry.families();
  }

  /** The exposition, in the Prometheus text format. */
  async text(): Promise<string> {
    await this.#readings.prepare();
    return await this.#registry.text();
  }

  /** A ModelInfer call ended. `model` is `undefined` when the name asked for is no model's. */
  requestEnded(model: string | undefined, status: string, seconds: number): void {
    const name = model ?? UNKNOWN_MODEL;
    const cells = this.#cellsOf(name);
    let counter = cells.statuses.get(status);
    if (counter === undefined) {
      counter = this.#requests.child(name, status);
      cells.statuses.set(status, counter);
    }
    counter.value++;
    cells.latency.observe(seconds);
  }

  /** A call ended, whichever its method. */
  rpcEnded(path: string, status: string): void {
    const statuses = this.#rpcs.get(path);
    if (statuses === undefined) return this.rpcEnded(UNKNOWN_METHOD, status);
    let counter = statuses.get(status);
    if (counter === undefined) {
      counter = this.#rpcFamily.child(path.slice(path.lastIndexOf("/") + 1), status);
      statuses.set(status, counter);
    }
    counter.value++;
  }

  /** A dispatch ran to its end. */
  dispatched(report: DispatchReport): void {
    const cells = this.#cellsOf(report.model);
    cells.dispatches++;
    cells.computeSeconds += report.computeSeconds;
    cells.requestsServed += report.queueSeconds.length;
    cells.rowsServed += report.rows;
    cells.batchSizes ??= this.#batchSizes.child(report.model);
    cells.batchSizes.observe(Math.max(1, report.size));
    const queue = this.#stageOf(report.model, cells, "queue");
    for (const seconds of report.queueSeconds) {
      queue.observe(seconds);
      cells.queueWaits.add(seconds);
    }
    this.#stageOf(report.model, cells, "host_to_device").observe(report.stages.input);
    this.#stageOf(report.model, cells, "execute").observe(report.stages.execute);
    this.#stageOf(report.model, cells, "device_to_host").observe(report.stages.output);
  }

  /** A batch was staged, to this end. */
  staged(model: string, outcome: "used" | "discarded" | "failed"): void {
    this.#staged.child(model, outcome).add();
  }

  /** A dispatch is taking longer than it may. */
  dispatchTimedOut(model: string): void {
    this.#dispatchTimeouts.child(model).add();
  }

  /** A request's hooks took this long together. */
  hooksRan(model: string, seconds: number): void {
    this.#stageOf(model, this.#cellsOf(model), "hooks").observe(seconds);
  }

  /** A bundle could not be loaded. */
  bundleFailed(model: string): void {
    this.#loadFailures.child(model).add();
  }

  /** A hook thread had to be ended. */
  hookWorkerLost(model: string, reason: "timeout" | "memory" | "crash"): void {
    this.#hookWorkersLost.child(model, reason).add();
  }

  /** A request failed through a hook. */
  hookFailed(
    model: string,
    reason: "error" | "output" | "timeout" | "memory" | "crash" | "start",
  ): void {
    this.#hookFailures.child(model, reason).add();
  }

  /** A run of a meta model waited this long for one of the two things that are bounded. */
  metaWaited(model: string, what: "gate" | "scratch", seconds: number): void {
    this.#metaWaits[what].child(model).observe(seconds);
  }

  /** Models have other names, all at once: their series go with them. */
  modelsRenamed(names: ReadonlyMap<string, string>): void {
    const targets = new Set(names.values());
    this.#relabel((name) => names.get(name) ?? (targets.has(name) ? undefined : name));
  }

  /** A model is gone, and so are its series. */
  modelRemoved(model: string): void {
    this.#relabel((name) => name === model ? undefined : name);
  }

  #relabel(change: (model: string) => string | undefined): void {
    const counters = [
      this.#requests,
      this.#loadFailures,
      this.#hookWorkersLost,
      this.#hookFailures,
      this.#staged,
      this.#dispatchTimeouts,
    ];
    const histograms = [this.#latency, this.#stages, this.#batchSizes];
    for (const family of [...counters, ...histograms, ...Object.values(this.#metaWaits)]) {
      family.relabel(change);
    }
    const cells = [...this.#cells];
    this.#cells.clear();
    for (const [name, cell] of cells) {
      const changed = change(name);
      if (changed !== undefined) this.#cells.set(changed, cell);
    }
  }

  #cellsOf(name: string): ModelCells {
    let cells = this.#cells.get(name);
    if (cells === undefined) {
      cells = new ModelCells(this.#latency.child(name));
      this.#cells.set(name, cells);
    }
    return cells;
  }

  #stageOf(name: string, cells: ModelCells, stage: Stage): Histogram {
    let histogram = cells.stages.get(stage);
    if (histogram === undefined) {
      histogram = this.#stages.child(name, stage);
      cells.stages.set(stage, histogram);
    }
    return histogram;
  }
}
