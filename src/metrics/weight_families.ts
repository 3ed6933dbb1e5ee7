/** Series of workers whose weights come and go, under a budget. */

import { ComputedFamily, single } from "./family.ts";
import type { MetricsRegistry } from "./registry.ts";
import type { WeightReading, WorkerReadings } from "./worker_readings.ts";

/** Adds the families of a weight budget. */
export function addWeightFamilies(registry: MetricsRegistry, readings: WorkerReadings): void {
  for (const [name, type, help, read] of WEIGHTS) {
    const value = () => {
      const weights = readings.weights();
      return weights === undefined ? undefined : read(weights);
    };
    registry.add(new ComputedFamily(type, { name, help }, single(value)));
  }
}

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
    "The most device memory that dispatches take besides weights.",
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
