/**
 * Every `worker_*` metric: name, help, type and labels in one place. Owners only report events to
 * `WorkerMetrics` or answer `WorkerReadings` when somebody scrapes.
 */

import {
  ComputedFamily,
  type Counter,
  CounterFamily,
  type Family,
  type Histogram,
  HistogramFamily,
  type Reading,
} from "./family.ts";
import { addProcessMetrics } from "./process_metrics.ts";
import { RecentSamples } from "./recent_samples.ts";
import { MetricsRegistry } from "./registry.ts";

/** The `model` label of requests for names that are no model, however many there are. */
export const UNKNOWN_MODEL = "_unknown";
/** The `method` label of calls to paths that are no method. */
const UNKNOWN_METHOD = "_unknown";

/** 0.001 · 2^k for k = 0…13. */
export const LATENCY_BOUNDS: readonly number[] = Array.from(
  { length: 14 },
  (_, k) => Number((0.001 * 2 ** k).toPrecision(6)),
);

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

const QUEUE_QUANTILES = ["0.5", "0.99"];

/** Parts of a request's way. `queue` and `hooks` are per request, the others per dispatch. */
export type Stage = "queue" | "host_to_device" | "execute" | "device_to_host" | "hooks";

/** A model's figures at this moment. */
export interface ModelReading {
  readonly name: string;
  readonly queueDepth: number;
  readonly weightBytes: number;
  /** Its weights are on the device now. */
  readonly isResident: boolean;
  /** They stay there for good. */
  readonly isPinned: boolean;
  /** Largest batch with the configured cap; 0 without a batch axis. */
  readonly maxBatchSize: number;
}

/** Device memory at this moment, in bytes; `undefined` figures are not exported. */
export interface DeviceMemoryReading {
  readonly inUseBytes: number;
  readonly limitBytes: number | undefined;
  readonly peakInUseBytes: number | undefined;
  readonly poolBytes: number | undefined;
}

/** The cache of compiled programs: counts since the start, and its size on disk. */
export interface ExecutableCacheReading {
  readonly hits: number;
  readonly misses: number;
  /** By what was wrong. */
  readonly errors: Readonly<Record<string, number>>;
  readonly bytes: number;
}

/** Weights that come and go, in bytes on the device; counts since the start. */
export interface WeightReading {
  /** On demand, now. */
  readonly residentBytes: number;
  /** On demand, at most. */
  readonly maxBytes: number;
  readonly pinnedBytes: number;
  readonly maxScratchBytes: number;
  /** All weights together, at most. */
  readonly poolBytes: number;
  readonly loads: number;
  readonly loadSeconds: number;
  readonly loadedBytes: number;
  readonly evictions: number;
  readonly compactions: number;
}

/** What is asked of the worker at each scrape. */
export interface WorkerReadings {
  /** Regular models that are loaded. A model that is not named loses its per-model series. */
  models(): Iterable<ModelReading>;
  /** Models of which an older version serves because the newest bundle could not be loaded. */
  failedUpdates(): Iterable<string>;
  inflightRequests(): number;
  requestsShed(): number;
  /** `undefined` when there is no device yet, or it keeps no account (CPU). */
  deviceMemory(): DeviceMemoryReading | undefined;
  /** `undefined` where all weights stay on the device. */
  weights(): WeightReading | undefined;
  /** Native runtime handles alive, by kind. */
  nativeHandles(): Readonly<Record<string, number>>;
  /** `undefined` where there is none. */
  executableCache(): ExecutableCacheReading | undefined;
}

export interface WorkerMetricsOptions {
  readonly worker: string;
  /** The physical device; empty on a CPU. See `gpuLabel`. */
  readonly gpu: string;
  readonly deviceOrdinal: number;
  /** `static`, `dynamic` or `explicit`. */
  readonly controlMode: string;
  readonly discipline: string;
  /** 0: no cap. */
  readonly maxConcurrentRequests: number;
  /** gRPC paths that are served; any other path shares one label. */
  readonly methods: Iterable<string>;
  readonly readings: WorkerReadings;
}

/** One dispatch, as the scheduler reports it. */
export interface DispatchReport {
  readonly model: string;
  readonly rows: number;
  /** Time each of its requests waited. */
  readonly queueSeconds: readonly number[];
  readonly computeSeconds: number;
  readonly stages: { readonly input: number; readonly execute: number; readonly output: number };
}

/** What a model's events are counted in. */
class ModelCells {
  dispatches = 0;
  computeSeconds = 0;
  requestsServed = 0;
  rowsServed = 0;
  readonly queueWaits = new RecentSamples();
  readonly statuses = new Map<string, Counter>();
  readonly stages = new Map<Stage, Histogram>();

  constructor(readonly latency: Histogram) {}
}

/**
 * Counts what a worker does. Reporting costs a map look-up and a few additions. Model names given here
 * must be those of bundles, which bounds the label; anything a client made up is `undefined`.
 */
export class WorkerMetrics {
  readonly #registry: MetricsRegistry;
  readonly #cells = new Map<string, ModelCells>();
  readonly #rpcs = new Map<string, Map<string, Counter>>();
  readonly #requests: CounterFamily;
  readonly #latency: HistogramFamily;
  readonly #stages: HistogramFamily;
  readonly #rpcFamily: CounterFamily;
  readonly #loadFailures: CounterFamily;
  readonly #hookWorkersLost: CounterFamily;

  constructor(options: WorkerMetricsOptions) {
    const registry = new MetricsRegistry({ worker: options.worker, gpu: options.gpu });
    this.#registry = registry;
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
    this.#hookWorkersLost = registry.add(
      new CounterFamily({
        name: "worker_hook_workers_lost_total",
        help: "Hook threads that had to be ended, by reason: timeout, memory or crash.",
        labels: ["model", "reason"],
      }),
    );
    this.#addModelFamilies(options.readings);
    addWorkerFamilies(registry, options);
    addProcessMetrics(registry);
  }

  /** What is declared, for documentation. */
  families(): readonly Family[] {
    return this.#registry.families();
  }

  /** The exposition, in the Prometheus text format. */
  text(): Promise<string> {
    return this.#registry.text();
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
    const queue = this.#stageOf(report.model, cells, "queue");
    for (const seconds of report.queueSeconds) {
      queue.observe(seconds);
      cells.queueWaits.add(seconds);
    }
    this.#stageOf(report.model, cells, "host_to_device").observe(report.stages.input);
    this.#stageOf(report.model, cells, "execute").observe(report.stages.execute);
    this.#stageOf(report.model, cells, "device_to_host").observe(report.stages.output);
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
    const families = [this.#requests, this.#latency, this.#stages];
    for (const family of [...families, this.#loadFailures, this.#hookWorkersLost]) {
      family.relabel(change);
    }
    const cells = [...this.#cells];
    this.#cells.clear();
    for (const [name, cell] of cells) {
      const changed = change(name);
      if (changed !== undefined) this.#cells.set(changed, cell);
    }
  }

  /** Series that exist for as long as the model is loaded. */
  #addModelFamilies(readings: WorkerReadings): void {
    const add = (
      type: "counter" | "gauge",
      name: string,
      help: string,
      read: (model: ModelReading, cells: ModelCells) => number,
    ) => {
      const family = { name, help, labels: ["model"] };
      this.#registry.add(
        new ComputedFamily(type, family, () =>
          Array.from(
            readings.models(),
            (model): Reading => [[model.name], read(model, this.#cellsOf(model.name))],
          )),
      );
    };
    add("counter", "worker_dispatch_total", "Program executions.", (_, cells) => cells.dispatches);
    add(
      "counter",
      "worker_compute_seconds_total",
      "Time spent in dispatches: copies to and from the device, and execution.",
      (_, cells) => cells.computeSeconds,
    );
    add(
      "counter",
      "worker_requests_served_total",
      "Requests in successful dispatches.",
      (_, cells) => cells.requestsServed,
    );
    add(
      "counter",
      "worker_rows_served_total",
      "Rows in successful dispatches.",
      (_, cells) => cells.rowsServed,
    );
    add("gauge", "worker_queue_depth", "Requests waiting.", (model) => model.queueDepth);
    this.#registry.add(
      new ComputedFamily("gauge", {
        name: "worker_model_update_failed",
        help: "1 while an older version serves because the newest bundle could not be loaded.",
        labels: ["model"],
      }, () => {
        const failed = new Set(readings.failedUpdates());
        const names = new Set([...readings.models()].map(({ name }) => name)).union(failed);
        return Array.from(names, (name) => [[name], Number(failed.has(name))]);
      }),
    );
    this.#registry.add(
      new ComputedFamily(
        // Gauges must not have the label `quantile`, which the dashboards ask for.
        "summary",
        {
          name: "worker_queue_wait_seconds",
          help: "Time the last 1024 requests waited before their dispatch began.",
          labels: ["model", "quantile"],
        },
        () =>
          [...readings.models()].flatMap(({ name }) =>
            QUEUE_QUANTILES.map((quantile): Reading => [
              [name, quantile],
              this.#cellsOf(name).queueWaits.quantile(Number(quantile)),
            ])
          ),
      ),
    );
    add(
      "gauge",
      "worker_model_resident",
      "1 when the model's weights are on the device.",
      (model) => Number(model.isResident),
    );
    add(
      "gauge",
      "worker_model_pinned",
      "1 when they stay on the device for good.",
      (model) => Number(model.isPinned),
    );
    add(
      "gauge",
      "worker_model_weight_bytes",
      "Device memory the model's weights need.",
      (model) => model.weightBytes,
    );
    add(
      "gauge",
      "worker_model_max_batch_size",
      "Largest batch, with the configured cap; 0 without a batch axis.",
      (model) => model.maxBatchSize,
    );
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

/** Series of the worker as a whole. */
function addWorkerFamilies(registry: MetricsRegistry, options: WorkerMetricsOptions): void {
  const { readings } = options;
  const add = (
    type: "counter" | "gauge",
    name: string,
    help: string,
    read: () => number | undefined,
  ) =>
    registry.add(
      new ComputedFamily(type, { name, help }, () => {
        const value = read();
        return value === undefined ? [] : [[[], value]];
      }),
    );
  add(
    "gauge",
    "worker_models_loaded",
    "Regular models loaded.",
    () => [...readings.models()].length,
  );
  const resident = () => [...readings.models()].filter((model) => model.isResident);
  add(
    "gauge",
    "worker_models_resident",
    "Regular models whose weights are on the device.",
    () => resident().length,
  );
  add(
    "gauge",
    "worker_resident_weight_bytes",
    "Device memory their weights take.",
    () => resident().reduce((total, { weightBytes }) => total + weightBytes, 0),
  );
  add(
    "gauge",
    "worker_inflight_requests",
    "ModelInfer calls in progress.",
    () => readings.inflightRequests(),
  );
  add(
    "counter",
    "worker_requests_shed_total",
    "ModelInfer calls refused because too many were in progress.",
    () => readings.requestsShed(),
  );
  add(
    "gauge",
    "worker_max_concurrent_requests",
    "ModelInfer calls that may be in progress; 0: no cap.",
    () => options.maxConcurrentRequests,
  );
  for (const [figure, help, read] of DEVICE_MEMORY) {
    add("gauge", `worker_device_memory_${figure}_bytes`, help, () => {
      const memory = readings.deviceMemory();
      return memory === undefined ? undefined : read(memory);
    });
  }
  registry.add(
    new ComputedFamily("gauge", {
      name: "worker_native_handles",
      help: "Handles of the device runtime that are alive.",
      labels: ["kind"],
    }, () => Object.entries(readings.nativeHandles()).map(([kind, count]) => [[kind], count])),
  );
  for (const [name, type, help, read] of WEIGHTS) {
    add(type, name, help, () => {
      const weights = readings.weights();
      return weights === undefined ? undefined : read(weights);
    });
  }
  for (const [figure, type, help, read] of EXECUTABLE_CACHE) {
    add(type, `worker_executable_cache_${figure}`, help, () => {
      const cache = readings.executableCache();
      return cache === undefined ? undefined : read(cache);
    });
  }
  registry.add(
    new ComputedFamily("counter", {
      name: "worker_executable_cache_errors_total",
      help: "Entries that were damaged, unreadable or refused, and programs left unwritten.",
      labels: ["problem"],
    }, () =>
      Object.entries(readings.executableCache()?.errors ?? {})
        .map(([problem, count]) => [[problem], count])),
  );
  const residency = options.controlMode === "explicit" ? "externally_managed" : "self_managed";
  registry.add(
    new ComputedFamily("gauge", {
      name: "worker_info",
      help: "Always 1; how the worker is configured.",
      labels: ["worker", "device_ordinal", "control_mode", "discipline", "residency_mode"],
    }, () => [[[
      options.worker,
      String(options.deviceOrdinal),
      options.controlMode,
      options.discipline,
      residency,
    ], 1]]),
  );
}

const DEVICE_MEMORY: readonly (readonly [
  figure: string,
  help: string,
  read: (memory: DeviceMemoryReading) => number | undefined,
])[] = [
  ["in_use", "Device memory in use by the allocator.", (memory) => memory.inUseBytes],
  ["limit", "Device memory the allocator may use.", (memory) => memory.limitBytes],
  [
    "free",
    "Device memory the allocator may still use.",
    ({ limitBytes, inUseBytes }) =>
      limitBytes === undefined ? undefined : Math.max(0, limitBytes - inUseBytes),
  ],
  ["peak_in_use", "Most device memory in use so far.", (memory) => memory.peakInUseBytes],
  ["pool", "Device memory the allocator holds.", (memory) => memory.poolBytes],
];

const WEIGHTS: readonly (readonly [
  name: string,
  type: "counter" | "gauge",
  help: string,
  read: (weights: WeightReading) => number,
])[] = [
  [
    "worker_weight_cache_resident_bytes",
    "gauge",
    "Weights on the device on demand.",
    (weights) => weights.residentBytes,
  ],
  [
    "worker_weight_cache_max_bytes",
    "gauge",
    "Device memory that weights may take on demand.",
    (weights) => weights.maxBytes,
  ],
  [
    "worker_weight_cache_pinned_bytes",
    "gauge",
    "Weights that stay on the device for good.",
    (weights) => weights.pinnedBytes,
  ],
  [
    "worker_weight_cache_max_scratch_bytes",
    "gauge",
    "The most device memory one dispatch takes besides weights.",
    (weights) => weights.maxScratchBytes,
  ],
  [
    "worker_weight_pool_bytes",
    "gauge",
    "Device memory that all weights together may take.",
    (weights) => weights.poolBytes,
  ],
  [
    "worker_weight_loads_total",
    "counter",
    "Times a model's weights were brought to the device on demand.",
    (weights) => weights.loads,
  ],
  [
    "worker_weight_load_bytes_total",
    "counter",
    "Bytes those loads moved.",
    (weights) => weights.loadedBytes,
  ],
  [
    "worker_weight_load_seconds_total",
    "counter",
    "Time those loads took, each by itself.",
    (weights) => weights.loadSeconds,
  ],
  [
    "worker_weight_evicts_total",
    "counter",
    "Times a model's weights had to leave the device for others.",
    (weights) => weights.evictions,
  ],
  [
    "worker_weight_compactions_total",
    "counter",
    "Times all weights on demand were taken off the device at once.",
    (weights) => weights.compactions,
  ],
];

const EXECUTABLE_CACHE: readonly (readonly [
  figure: string,
  type: "counter" | "gauge",
  help: string,
  read: (cache: ExecutableCacheReading) => number,
])[] = [
  ["hits_total", "counter", "Programs loaded instead of compiled.", (cache) => cache.hits],
  ["misses_total", "counter", "Programs that had to be compiled.", (cache) => cache.misses],
  ["bytes", "gauge", "Compiled programs on disk.", (cache) => cache.bytes],
];

/**
 * The `gpu` label: which physical device this is, from `CUDA_VISIBLE_DEVICES` and the ordinal among the
 * visible ones. The only entry of that list, else the one at the ordinal (none there: empty); without
 * the variable the ordinal itself.
 */
export function gpuLabel(visibleDevices: string | undefined, deviceOrdinal: number): string {
  if (visibleDevices === undefined) return String(deviceOrdinal);
  const devices = visibleDevices.split(",").map((device) => device.trim()).filter((d) => d !== "");
  if (devices.length === 0) return String(deviceOrdinal);
  return devices.length === 1 ? devices[0]! : devices[deviceOrdinal] ?? "";
}
