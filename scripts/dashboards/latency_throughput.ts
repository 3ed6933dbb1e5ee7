/** B: how long requests take, and where the time goes. */

import { type Dashboard, WORKER_VARIABLE } from "./panels.ts";
import {
  among,
  max,
  OF_WORKER,
  orNothing,
  quantile,
  rangeRate,
  rate,
  ratio,
  select,
  sum,
} from "./promql.ts";

const LATENCY = rate("gateway_request_latency_seconds_bucket");
/** Calls per second of the models that were called. */
const CALLED = `${sum(rangeRate("worker_request_latency_seconds_count", OF_WORKER), "model")} > 0`;

export const LATENCY_THROUGHPUT: Dashboard = {
  uid: "rs-latency-throughput",
  title: "Latency & Throughput",
  description: "End-to-end latency, waiting, coalescing, and which models cost most.",
  refreshSeconds: 10,
  variables: [WORKER_VARIABLE],
  panels: [
    {
      kind: "heatmap",
      title: "Request latency distribution (gateway, end-to-end)",
      note:
        "How many calls took how long. Two bands mean two kinds of requests, or a queue that comes and goes.",
      width: 12,
      height: 9,
      unit: "s",
      queries: [{ expression: sum(LATENCY, "le"), legend: "{{le}}" }],
    },
    {
      kind: "series",
      title: "Latency percentiles (gateway, end-to-end)",
      note: "Over all models; the table below has each model's own.",
      width: 12,
      height: 9,
      unit: "s",
      queries: [0.5, 0.95, 0.99].map((share) => ({
        expression: quantile(share, LATENCY),
        legend: `p${share * 100}`,
      })),
    },
    {
      kind: "series",
      title: "Coalescing factor (rows / dispatch) by worker",
      note: "1: every row runs by itself. What programs could take is in Coalescing & Batching.",
      width: 8,
      height: 8,
      queries: [{
        expression: ratio(
          sum(rate("worker_rows_served_total", OF_WORKER), "worker"),
          sum(rate("worker_dispatch_total", OF_WORKER), "worker"),
        ),
        legend: "{{worker}}",
      }],
    },
    ...["0.5", "0.99"].map((share) => ({
      kind: "series" as const,
      title: `Queue-wait p${Number(share) * 100} by worker`,
      note: "Of the model that waits longest; over each model's last 1024 requests.",
      width: 8,
      height: 8,
      unit: "s",
      queries: [{
        expression: max(
          select("worker_queue_wait_seconds", OF_WORKER, `quantile="${share}"`),
          "worker",
        ),
        legend: "{{worker}}",
      }],
    })),
    {
      kind: "series",
      title: "Hook failures / s",
      note: "By model and reason; 0 while no hook has failed.",
      width: 12,
      height: 8,
      queries: [{
        expression: orNothing(
          sum(rate("worker_hook_failures_total", OF_WORKER), "model", "reason"),
        ),
        legend: "{{model}} {{reason}}",
      }],
    },
    {
      kind: "series",
      title: "Waits of meta models before they run (p99)",
      note: "For a place (meta.concurrency), and for scratch memory; 0 without meta models.",
      width: 12,
      height: 8,
      unit: "s",
      queries: [
        {
          expression: orNothing(
            quantile(0.99, rate("worker_meta_gate_wait_seconds_bucket", OF_WORKER), "model"),
          ),
          legend: "{{model}} place",
        },
        {
          expression: orNothing(
            quantile(0.99, rate("worker_scratch_wait_seconds_bucket", OF_WORKER), "model"),
          ),
          legend: "{{model}} scratch",
        },
      ],
    },
    {
      kind: "series",
      title: "Top models by request rate",
      note: "The fifteen that are asked for most, at the gateway.",
      width: 24,
      height: 8,
      unit: "reqps",
      queries: [{
        expression: `topk(15, ${sum(rate("gateway_requests_total"), "model")})`,
        legend: "{{model}}",
      }],
    },
    {
      kind: "table",
      title: "Per-model latency & device cost (worst offenders)",
      note:
        "Latency on the worker, waiting included, beside the device time of a dispatch: far more latency than device time is waiting.",
      width: 24,
      height: 10,
      by: "model",
      sortBy: "p99",
      columns: [
        {
          title: "req/s",
          expression: CALLED,
          unit: "reqps",
        },
        {
          title: "device/disp",
          expression: among(
            CALLED,
            ratio(
              sum(rangeRate("worker_compute_seconds_total", OF_WORKER), "model"),
              sum(rangeRate("worker_dispatch_total", OF_WORKER), "model"),
            ),
          ),
          unit: "s",
        },
        ...[0.5, 0.95, 0.99].map((share) => ({
          title: `p${share * 100}`,
          expression: among(
            CALLED,
            quantile(
              share,
              rangeRate("worker_request_latency_seconds_bucket", OF_WORKER),
              "model",
            ),
          ),
          unit: "s",
        })),
      ],
    },
  ],
};
