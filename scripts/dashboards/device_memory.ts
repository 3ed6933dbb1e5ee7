/** C: what fills a device's memory. */

import { type Dashboard, WORKER_VARIABLE } from "./panels.ts";
import { OF_WORKER, rate, ratio, select, type Series, sum } from "./promql.ts";

const of = (series: Series) => select(series, OF_WORKER);
/** Other labels differ between the two sides: what a worker is, is its name. */
const byWorker = (series: Series) => sum(of(series), "worker");

/** A worker without a budget has none of the cache's series: all its weights stay, the rest is 0. */
const PINNED = `(${byWorker("worker_weight_cache_pinned_bytes")} or ${
  byWorker("worker_resident_weight_bytes")
})`;
const orZero = (expression: string) => `(${expression} or 0 * ${byWorker("worker_info")})`;
const ON_DEMAND = orZero(byWorker("worker_weight_cache_max_bytes"));
const SCRATCH = orZero(byWorker("worker_weight_cache_max_scratch_bytes"));

export const DEVICE_MEMORY: Dashboard = {
  uid: "rs-gpu-memory",
  title: "Device Memory Anatomy",
  description: "Weights, scratch and what is left; loads and evictions; budgets.",
  refreshSeconds: 10,
  variables: [WORKER_VARIABLE],
  panels: [
    {
      kind: "stacked",
      title: "Live occupancy - $worker",
      note: "What is in use beyond weights is transient: inputs, outputs and scratch of programs.",
      width: 12,
      height: 8,
      repeat: "worker",
      unit: "bytes",
      queries: [
        {
          expression: byWorker("worker_resident_weight_bytes"),
          legend: "weights",
        },
        {
          expression: `clamp_min(${byWorker("worker_device_memory_in_use_bytes")} - ${
            byWorker("worker_resident_weight_bytes")
          }, 0)`,
          legend: "transient",
        },
        {
          expression: byWorker("worker_device_memory_free_bytes"),
          legend: "free",
        },
      ],
    },
    {
      kind: "stacked",
      title: "Budget plan - $worker",
      note: "How the limit is divided: weights that stay, room for the others, scratch, and slack.",
      width: 12,
      height: 8,
      repeat: "worker",
      unit: "bytes",
      queries: [
        { expression: PINNED, legend: "pinned" },
        { expression: ON_DEMAND, legend: "on demand" },
        { expression: SCRATCH, legend: "scratch" },
        {
          expression: `clamp_min(${
            byWorker("worker_device_memory_limit_bytes")
          } - ${PINNED} - ${ON_DEMAND} - ${SCRATCH}, 0)`,
          legend: "slack",
        },
      ],
    },
    {
      kind: "series",
      title: "Peak in-use vs pool limit",
      note: "The most that was in use at once since the worker started, beside what may be.",
      width: 12,
      height: 7,
      unit: "bytes",
      queries: [
        {
          expression: of("worker_device_memory_peak_in_use_bytes"),
          legend: "{{worker}} peak",
        },
        {
          expression: of("worker_device_memory_limit_bytes"),
          legend: "{{worker}} limit",
        },
      ],
    },
    {
      kind: "series",
      title: "Weight loads / s",
      note: "Times a model's weights were brought to the device because requests waited for them.",
      width: 6,
      height: 7,
      queries: [{
        expression: orZero(sum(rate("worker_weight_loads_total", OF_WORKER), "worker")),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Weight evictions / s",
      note: "Steadily above 0: the models do not fit together and take each other's place.",
      width: 6,
      height: 7,
      queries: [{
        expression: orZero(sum(rate("worker_weight_evicts_total", OF_WORKER), "worker")),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "On-demand budget utilization",
      note: "Of workers with a budget.",
      width: 8,
      height: 7,
      unit: "percentunit",
      min: 0,
      max: 1,
      steps: [{ from: 0.85, color: "orange" }, { from: 0.98, color: "red" }],
      queries: [{
        expression: ratio(
          byWorker("worker_weight_cache_resident_bytes"),
          byWorker("worker_weight_cache_max_bytes"),
        ),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Resident models per worker",
      note: "Models with their weights on the device.",
      width: 8,
      height: 7,
      queries: [{
        expression: of("worker_models_resident"),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Out-of-pool driver memory (command buffers + context)",
      note:
        "What the process has beyond the allocator's limit, and in all. On a CPU the process is " +
        "everything: its heap and libraries too.",
      width: 8,
      height: 7,
      unit: "bytes",
      queries: [
        {
          expression: of("worker_device_memory_out_of_pool_bytes"),
          legend: "{{worker}} out of pool",
        },
        {
          expression: of("worker_device_memory_process_used_bytes"),
          legend: "{{worker}} process",
        },
      ],
    },
  ],
};
