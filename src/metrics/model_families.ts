/** Series that a model has for as long as it is loaded. */

import { ComputedFamily, type Reading } from "./family.ts";
import type { RecentSamples } from "./recent_samples.ts";
import type { MetricsRegistry } from "./registry.ts";
import type { HookReading, MetaReading, ModelReading, WorkerReadings } from "./worker_readings.ts";

const QUEUE_QUANTILES = ["0.5", "0.99"];

/** What was counted of a model's dispatches. */
export interface DispatchCounts {
  readonly dispatches: number;
  readonly computeSeconds: number;
  readonly requestsServed: number;
  readonly rowsServed: number;
  readonly queueWaits: RecentSamples;
}

/** Adds the per-model families that are read at each scrape. */
export function addModelFamilies(
  registry: MetricsRegistry,
  readings: WorkerReadings,
  cellsOf: (model: string) => DispatchCounts,
): void {
  const add = (
    type: "counter" | "gauge",
    name: string,
    help: string,
    read: (model: ModelReading, cells: DispatchCounts) => number,
  ) => {
    const family = { name, help, labels: ["model"] };
    registry.add(
      new ComputedFamily(type, family, () =>
        Array.from(
          readings.models(),
          (model): Reading => [[model.name], read(model, cellsOf(model.name))],
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
  registry.add(
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
  registry.add(
    new ComputedFamily(
      // Read like the gauge that others export: same name, same labels. But only a summary may have
      // the label `quantile`. The histogram to aggregate is `worker_stage_latency_seconds`.
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
            cellsOf(name).queueWaits.quantile(Number(quantile)),
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
  add(
    "gauge",
    "worker_model_recent_compute_seconds",
    "Device time the model took of late, halved every half-life: what `fair` shares out.",
    (model) => model.recentComputeSeconds,
  );
  registry.add(
    new ComputedFamily(
      "gauge",
      {
        name: "worker_model_cost_seconds",
        help: "Learned time of a dispatch by compiled size; of several variants the longest.",
        labels: ["model", "size"],
      },
      () =>
        [...readings.models()].flatMap(({ name, costSeconds }) =>
          Array.from(costSeconds, ([size, cost]): Reading => [[name, String(size)], cost])
        ),
    ),
  );
  addMetaFamilies(registry, readings);
  addHookFamilies(registry, readings);
}

function addMetaFamilies(registry: MetricsRegistry, readings: WorkerReadings): void {
  const add = (name: string, help: string, read: (meta: MetaReading) => number) =>
    registry.add(
      new ComputedFamily(
        "counter",
        { name, help, labels: ["model"] },
        () => Array.from(readings.metas(), (meta): Reading => [[meta.name], read(meta)]),
      ),
    );
  add(
    "worker_meta_dispatches_total",
    "Successful runs of a meta model.",
    (meta) => meta.dispatches,
  );
  add(
    "worker_meta_compute_seconds_total",
    "Time those runs spent in the models they called, whose waiting is part of it.",
    (meta) => meta.computeSeconds,
  );
}

function addHookFamilies(registry: MetricsRegistry, readings: WorkerReadings): void {
  const add = (name: string, help: string, read: (hooks: HookReading) => number) =>
    registry.add(
      new ComputedFamily(
        "gauge",
        { name, help, labels: ["model"] },
        () => Array.from(readings.hooks(), (hooks): Reading => [[hooks.name], read(hooks)]),
      ),
    );
  add("worker_hook_threads", "Threads that run the model's hooks.", ({ threads }) => threads);
  add(
    "worker_hook_heap_bytes",
    "JavaScript heaps of those threads, in use or not.",
    ({ heapBytes }) => heapBytes,
  );
  add(
    "worker_hook_external_bytes",
    "Memory outside these heaps that their objects hold, buffers above all.",
    ({ externalBytes }) => externalBytes,
  );
}
