/** D: what the gateway knows, decides and compares. */

import type { Dashboard } from "./panels.ts";
import { max, OF_MODELS, quantile, rate, select, sum } from "./promql.ts";

const WORK = sum("gateway_worker_inflight_work", "worker");

export const SCHEDULING_PLACEMENT: Dashboard = {
  uid: "rs-scheduling-placement",
  title: "Scheduling & Placement",
  description: "Routes, replicas, work in flight, and which worker has which model.",
  refreshSeconds: 30,
  variables: [{ name: "model", label: "Model", series: "gateway_model_utilization" }],
  panels: [
    {
      kind: "stat",
      title: "Routing table size",
      note: "Models that some worker serves, on the gateway that knows most.",
      width: 6,
      height: 4,
      queries: [{ expression: max("gateway_routing_table_size") }],
    },
    {
      kind: "stat",
      title: "Workers ready",
      note: "Workers that say they can take requests.",
      width: 6,
      height: 4,
      queries: [{ expression: sum("gateway_worker_ready") }],
    },
    {
      kind: "stat",
      title: "Metrics scrape OK",
      note:
        "Workers whose metrics the gateway could fetch; those of the others are missing everywhere.",
      width: 6,
      height: 4,
      queries: [{ expression: sum("gateway_worker_metrics_up") }],
    },
    {
      kind: "stat",
      title: "Max replicas (any model)",
      note: "Workers that the most spread model is placed on.",
      width: 6,
      height: 4,
      queries: [{ expression: max("gateway_model_replicas") }],
    },
    {
      kind: "series",
      title: "Models placed per worker",
      note: "With a share of the traffic above 0.",
      width: 12,
      height: 7,
      queries: [{
        expression: "count by (worker) (gateway_placement_weight > 0)",
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "In-flight per worker (replica outstanding)",
      note: "Items, not requests.",
      width: 12,
      height: 7,
      queries: [{
        expression: sum("gateway_replica_outstanding", "worker"),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Gateway to worker call latency (p99)",
      note: "One call to one worker, without the gateway's own part.",
      width: 12,
      height: 7,
      unit: "s",
      queries: [{
        expression: quantile(0.99, rate("gateway_worker_latency_seconds_bucket"), "worker"),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "In-flight work per worker (what the router compares)",
      note: "In the unit of the basis: device seconds, items or requests.",
      width: 12,
      height: 7,
      queries: [{
        expression: sum("gateway_worker_inflight_work", "worker", "basis"),
        legend: "{{worker}} ({{basis}})",
      }],
    },
    {
      kind: "series",
      title: "Work imbalance across workers (max - min)",
      note:
        "In the unit of the basis. It should come and go; what stays is a placement that does not fit the load.",
      width: 12,
      height: 7,
      queries: [{
        expression: `max(${WORK}) - min(${WORK})`,
        legend: "max - min",
      }],
    },
    {
      kind: "label",
      title: "Work basis in force",
      note: "What scheduling.work_basis counts.",
      width: 6,
      height: 7,
      queries: [{
        expression: max("gateway_worker_inflight_work", "basis"),
        legend: "{{basis}}",
      }],
    },
    {
      kind: "states",
      title: "Worker metrics scrape health",
      note: "Green while the gateway could fetch the worker's metrics.",
      width: 6,
      height: 7,
      min: 0,
      max: 1,
      steps: [{ from: 1, color: "green" }],
      queries: [{
        expression: max("gateway_worker_metrics_up", "worker"),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Top models by utilization",
      note: "Device seconds per second, as of the last packing.",
      width: 12,
      height: 9,
      queries: [{
        expression: `topk(25, ${select("gateway_model_utilization", OF_MODELS)})`,
        legend: "{{model}}",
      }],
    },
    {
      kind: "series",
      title: "Model placement (weight by worker)",
      note: "The share of a model's traffic meant for each worker, as of the last packing.",
      width: 12,
      height: 9,
      queries: [{
        expression: `${select("gateway_placement_weight", OF_MODELS)} > 0`,
        legend: "{{model}} on {{worker}}",
      }],
    },
  ],
};
