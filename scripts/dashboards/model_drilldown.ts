/** E: one model, everywhere. */

import type { Dashboard } from "./panels.ts";
import { errorShare, max, OF_THE_MODEL, quantile, rate, ratio, select, sum } from "./promql.ts";

export const MODEL_DRILLDOWN: Dashboard = {
  uid: "rs-model-drilldown",
  title: "Per-Model Drilldown",
  description: "Traffic, cost, waiting, residency and placement of one model.",
  refreshSeconds: 10,
  variables: [
    { name: "model", label: "Model", series: "worker_model_weight_bytes", isSingle: true },
  ],
  panels: [
    {
      kind: "text",
      title: "",
      width: 24,
      height: 2,
      markdown: "Models that only a meta model calls have no requests of their own: they show in " +
        "the panels about dispatches, and nowhere else.",
    },
    {
      kind: "stat",
      title: "Requests / s (gateway)",
      note: "Calls for this model, whatever the outcome.",
      width: 4,
      height: 4,
      unit: "reqps",
      queries: [{ expression: sum(rate("gateway_requests_total", OF_THE_MODEL)) }],
    },
    {
      kind: "stat",
      title: "Dispatches / s",
      note: "Program executions on all workers; fewer than requests where they are batched.",
      width: 4,
      height: 4,
      queries: [{ expression: sum(rate("worker_dispatch_total", OF_THE_MODEL)) }],
    },
    {
      kind: "stat",
      title: "Avg device / dispatch",
      note: "Since the workers started.",
      width: 4,
      height: 4,
      unit: "s",
      queries: [{
        expression: ratio(
          sum(select("worker_compute_seconds_total", OF_THE_MODEL)),
          sum(select("worker_dispatch_total", OF_THE_MODEL)),
        ),
      }],
    },
    {
      kind: "stat",
      title: "Error rate (gateway)",
      note: "Share of this model's answers that are not OK; 0 while nobody asks.",
      width: 4,
      height: 4,
      unit: "percentunit",
      steps: [{ from: 0.01, color: "orange" }, { from: 0.05, color: "red" }],
      queries: [{ expression: errorShare(OF_THE_MODEL) }],
    },
    {
      kind: "stat",
      title: "Resident on (workers)",
      note: "Workers that have the weights on their device now.",
      width: 4,
      height: 4,
      queries: [{ expression: sum(select("worker_model_resident", OF_THE_MODEL)) }],
    },
    {
      kind: "stat",
      title: "Weight footprint",
      note: "Device memory that the weights need on one worker.",
      width: 4,
      height: 4,
      unit: "bytes",
      queries: [{
        expression: max(select("worker_model_weight_bytes", OF_THE_MODEL)),
      }],
    },
    {
      kind: "heatmap",
      title: "Handler latency distribution - $model (gateway-fronted only)",
      note: "On the workers, waiting included.",
      width: 12,
      height: 9,
      unit: "s",
      queries: [{
        expression: sum(rate("worker_request_latency_seconds_bucket", OF_THE_MODEL), "le"),
        legend: "{{le}}",
      }],
    },
    {
      kind: "series",
      title: "Dispatch rate by worker - $model",
      note: "Uneven rates are meant where the placement is uneven: see Gateway placement.",
      width: 12,
      height: 9,
      queries: [{
        expression: sum(rate("worker_dispatch_total", OF_THE_MODEL), "worker"),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Queue depth & wait - $model",
      note: "Requests that wait on each worker, and the longest p99 of the last 1024 waits.",
      width: 12,
      height: 8,
      queries: [
        {
          expression: sum(select("worker_queue_depth", OF_THE_MODEL), "worker"),
          legend: "{{worker}} depth",
        },
        {
          expression: max(select("worker_queue_wait_seconds", OF_THE_MODEL, 'quantile="0.99"')),
          legend: "p99 wait (s)",
        },
      ],
    },
    {
      kind: "series",
      title: "Device compute by worker - $model",
      note: "Device seconds per second.",
      width: 12,
      height: 8,
      queries: [{
        expression: sum(rate("worker_compute_seconds_total", OF_THE_MODEL), "worker"),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Where the time goes (p99 by stage) - $model",
      note: "Queue and hooks are of a request, the others of a dispatch.",
      width: 12,
      height: 8,
      unit: "s",
      queries: [{
        expression: quantile(
          0.99,
          rate("worker_stage_latency_seconds_bucket", OF_THE_MODEL),
          "stage",
        ),
        legend: "{{stage}}",
      }],
    },
    {
      kind: "series",
      title: "Learned time of a dispatch by compiled size - $model",
      note: "What the scheduler reckons with; of the slowest worker.",
      width: 12,
      height: 8,
      unit: "s",
      queries: [{
        expression: max(select("worker_model_cost_seconds", OF_THE_MODEL), "size"),
        legend: "{{size}}",
      }],
    },
    {
      kind: "states",
      title: "Residency by worker - $model",
      note: "Green while the weights are on the worker's device.",
      width: 12,
      height: 7,
      min: 0,
      max: 1,
      steps: [{ from: 1, color: "green" }],
      queries: [{
        expression: select("worker_model_resident", OF_THE_MODEL),
        legend: "{{worker}}",
      }],
    },
    {
      kind: "series",
      title: "Gateway placement - $model",
      note: "The share of the model's traffic meant for each worker; nothing without lpt_packing.",
      width: 12,
      height: 7,
      queries: [{
        expression: `${select("gateway_placement_weight", OF_THE_MODEL)} > 0`,
        legend: "{{worker}}",
      }],
    },
  ],
};
