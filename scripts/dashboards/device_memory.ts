/** C: what fills a device's memory. */

import { type Dashboard, WORKER_VARIABLE } from "./panels.ts";
import { OF_WORKER, rate, ratio, select, type Series, sum } from "./promql.ts";

const of = (series: Series) => select(series, OF_WORKER);
/** Other labels differ between the two sides: what a worker is, is its name. */
const byWorker = (series: Series) => sum(of(series), "worker");

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
          needs: "worker",
        },
        {
          expression: `clamp_min(${byWorker("worker_device_memory_in_use_bytes")} - ${
            byWorker("worker_resident_weight_bytes")
          }, 0)`,
          legend: "transient",
          needs: "gpu",
        },
        {
          expression: byWorker("worker_device_memory_free_bytes"),
          legend: "free",
          needs: "gpu",
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
        {
          expression: byWorker("worker_weight_cache_pinned_bytes"),
          legend: "pinned",
          needs: "weight cache",
        },
        {
          expression: byWorker("worker_weight_cache_max_bytes"),
          legend: "on demand",
          needs: "weight cache",
        },
        {
          expression: byWorker("worker_weight_cache_max_scratch_bytes"),
          legend: "scratch",
          needs: "weight cache",
        },
        {
          expression: `clamp_min(${byWorker("worker_device_memory_limit_bytes")} - ${
            byWorker("worker_weight_cache_pinned_bytes")
          } - ${byWorker("worker_weight_cache_max_bytes")} - ${
            byWorker("worker_weight_cache_max_scratch_bytes")
          }, 0)`,
          legend: "slack",
          needs: "gpu",
        },
      ],
    },
    {
      kind: "series",
      title: "Peak in-use vs pool limit",
      width: 12,
      height: 7,
      unit: "bytes",
      queries: [
        {
          expression: of("worker_device_memory_peak_in_use_bytes"),
          legend: "{{worker}} peak",
          needs: "gpu",
        },
        {
          expression: of("worker_device_memory_limit_bytes"),
          legend: "{{worker}} limit",
          needs: "gpu",
        },
      ],
    },
    {
      kind: "series",
      title: "Weight loads / s",
      width: 6,
      height: 7,
      queries: [{
        expression: sum(rate("worker_weight_loads_total", OF_WORKER), "worker"),
        legend: "{{worker}}",
        needs: "worker",
      }],
    },
    {
      kind: "series",
      title: "Weight evictions / s",
      note: "Steadily above 0: the models do not fit together and take each other's place.",
      width: 6,
      height: 7,
      queries: [{
        expression: sum(rate("worker_weight_evicts_total", OF_WORKER), "worker"),
        legend: "{{worker}}",
        needs: "worker",
      }],
    },
    {
      kind: "series",
      title: "On-demand budget utilization",
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
        needs: "weight cache",
      }],
    },
    {
      kind: "series",
      title: "Resident models per worker",
      width: 8,
      height: 7,
      queries: [{
        expression: of("worker_models_resident"),
        legend: "{{worker}}",
        needs: "worker",
      }],
    },
    {
      kind: "series",
      title: "Allocator pool: held, and held without use",
      note: "What the driver keeps outside the pool (contexts, command buffers) is not visible " +
        "through PJRT: nvidia-smi shows the whole.",
      width: 8,
      height: 7,
      unit: "bytes",
      queries: [
        {
          expression: of("worker_device_memory_pool_bytes"),
          legend: "{{worker}} held",
          needs: "gpu",
        },
        {
          expression: `clamp_min(${byWorker("worker_device_memory_pool_bytes")} - ${
            byWorker("worker_device_memory_in_use_bytes")
          }, 0)`,
          legend: "{{worker}} unused",
          needs: "gpu",
        },
      ],
    },
  ],
};
