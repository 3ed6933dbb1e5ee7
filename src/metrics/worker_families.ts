/** Series of the worker as a whole. */

import { ComputedFamily, single } from "./family.ts";
import type { MetricsRegistry } from "./registry.ts";
import type { WorkerMetricsOptions, WorkerReadings } from "./worker_readings.ts";

/** Adds what a worker has of models and requests, in total. */
export function addTotalFamilies(
  registry: MetricsRegistry,
  { readings, maxConcurrentRequests }: WorkerMetricsOptions,
): void {
  const add = (type: "counter" | "gauge", name: string, help: string, read: () => number) =>
    registry.add(new ComputedFamily(type, { name, help }, single(read)));
  add(
    "gauge",
    "worker_models_loaded",
    "Regular models loaded.",
    () => [...readings.models()].length,
  );
  add(
    "gauge",
    "worker_models_resident",
    "Regular models whose weights are on the device.",
    () => residentModels(readings).length,
  );
  add(
    "gauge",
    "worker_resident_weight_bytes",
    "Device memory their weights take.",
    () => residentModels(readings).reduce((total, { weightBytes }) => total + weightBytes, 0),
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
    () => maxConcurrentRequests,
  );
}

/** Adds how the worker is configured. */
export function addInfoFamily(registry: MetricsRegistry, options: WorkerMetricsOptions): void {
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

function residentModels(readings: WorkerReadings) {
  return [...readings.models()].filter((model) => model.isResident);
}
