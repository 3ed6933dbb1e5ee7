/** A: how the fleet is doing, at a glance. */

import { type Dashboard, WORKER_VARIABLE } from "./panels.ts";
import { errorShare, max, OF_WORKER, quantile, rate, ratio, select, sum } from "./promql.ts";

const LATENCY = rate("gateway_request_latency_seconds_bucket");

export const FLEET_OVERVIEW: Dashboard = {
  uid: "rs-fleet-overview",
  title: "Fleet Overview",
  description: "Traffic, errors, latency and readiness of everything behind one gateway.",
  refreshSeconds: 10,
  variables: [WORKER_VARIABLE],
  panels: [
    {
      kind: "stat",
      title: "Requests / s",
      note: "What the gateway answers, of every RPC that it counts, whatever the outcome.",
      width: 4,
      height: 4,
      unit: "reqps",
      queries: [{ expression: sum(rate("gateway_requests_total")) }],
    },
    {
      kind: "stat",
      title: "Error rate",
      note:
        "Share of the gateway's answers that are not OK; 0 while nobody asks. Clients' own mistakes count too.",
      width: 4,
      height: 4,
      unit: "percentunit",
      steps: [{ from: 0.01, color: "orange" }, { from: 0.05, color: "red" }],
      queries: [{ expression: errorShare() }],
    },
    {
      kind: "stat",
      title: "In-flight",
      note: "ModelInfer calls that the gateways have taken and not answered yet.",
      width: 4,
      height: 4,
      queries: [{ expression: sum("gateway_inflight_requests") }],
    },
    {
      kind: "stat",
      title: "Shed / s",
      note:
        "Calls that a gateway refused because too many were in progress: more comes than the workers can do.",
      width: 4,
      height: 4,
      unit: "reqps",
      steps: [{ from: 0.001, color: "orange" }],
      queries: [{ expression: sum(rate("gateway_requests_shed_total")) }],
    },
    {
      kind: "stat",
      title: "Models routed",
      note: "Models that some worker serves, on the gateway that knows most.",
      width: 4,
      height: 4,
      queries: [{ expression: max("gateway_routing_table_size") }],
    },
    {
      kind: "stat",
      title: "Workers ready",
      note: "Workers that say they can take requests.",
      width: 4,
      height: 4,
      queries: [{ expression: sum("gateway_worker_ready") }],
    },
    {
      kind: "series",
      title: "Request latency (gateway)",
      note:
        "From taking a call to its answer, over all models, as clients see it less the network.",
      width: 12,
      height: 8,
      unit: "s",
      queries: [0.5, 0.95, 0.99].map((share) => ({
        expression: quantile(share, LATENCY),
        legend: `p${share * 100}`,
      })),
    },
    {
      kind: "stacked",
      title: "Throughput by gRPC status",
      note: "What became of the calls: OK, clients' mistakes, and failures by their gRPC status.",
      width: 12,
      height: 8,
      unit: "reqps",
      queries: [{
        expression: sum(rate("gateway_requests_total"), "status"),
        legend: "{{status}}",
      }],
    },
    {
      kind: "states",
      title: "Worker readiness",
      note: "Green while the worker is ready.",
      width: 12,
      height: 7,
      min: 0,
      max: 1,
      steps: [{ from: 1, color: "green" }],
      queries: [{
        expression: select("gateway_worker_ready", OF_WORKER),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Device memory in use",
      note: "Share of what the allocator may use; on a CPU of what the process may have.",
      width: 12,
      height: 7,
      unit: "percentunit",
      min: 0,
      max: 1,
      steps: [{ from: 0.8, color: "orange" }, { from: 0.92, color: "red" }],
      queries: [{
        expression: ratio(
          select("worker_device_memory_in_use_bytes", OF_WORKER),
          select("worker_device_memory_limit_bytes", OF_WORKER),
        ),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Routing load per worker",
      note: "Not filtered by worker: it only means something beside the others.",
      width: 24,
      height: 7,
      queries: [{
        expression: sum("gateway_worker_inflight_work", "worker", "basis"),
        legend: "{{worker}} ({{basis}})",
      }],
    },
  ],
};
