/** G: whether the devices share the work. No variable: leaving a device out would answer another question. */

import type { Dashboard } from "./panels.ts";
import { rate, ratio, sum } from "./promql.ts";

/** Busy share of each worker's device. */
const BUSY = sum(rate("worker_compute_seconds_total"), "worker");
const SPREAD = `stddev(${BUSY}) / (avg(${BUSY}) > 0)`;
const SHARE = `${BUSY} / scalar(${sum(BUSY)} > 0)`;
/** Each model's share of the planned work, laid on the workers that should do it. */
const PLANNED = "sum by (worker) (gateway_placement_weight * on (model) group_left () " +
  "max by (model) (gateway_model_utilization)) / scalar(sum(gateway_model_utilization) > 0)";

export const GPU_WORK_BALANCE: Dashboard = {
  uid: "rs-gpu-work-balance",
  title: "GPU Work Balance",
  description: "Device seconds per second on each worker, and how evenly they fall.",
  refreshSeconds: 30,
  variables: [],
  panels: [
    {
      kind: "stat",
      title: "Work spread across GPUs",
      note: "Standard deviation over mean.",
      width: 5,
      height: 4,
      unit: "percentunit",
      steps: [{ from: 0.1, color: "orange" }, { from: 0.25, color: "red" }],
      queries: [{ expression: SPREAD }],
    },
    {
      kind: "stat",
      title: "Busiest / idlest GPU",
      note: "How many times more the busiest device does; nothing while one does nothing.",
      width: 5,
      height: 4,
      queries: [{
        expression: `clamp_min(${ratio(`max(${BUSY})`, `min(${BUSY})`)}, 1)`,
      }],
    },
    {
      kind: "stat",
      title: "Fleet GPU utilization",
      note: "Device seconds per second, the mean of all workers.",
      width: 5,
      height: 4,
      unit: "percentunit",
      queries: [{ expression: `avg(${BUSY})` }],
    },
    {
      kind: "stat",
      title: "Busiest GPU utilization",
      note: "Device seconds per second; near 1 this device is what limits its models.",
      width: 5,
      height: 4,
      unit: "percentunit",
      queries: [{ expression: `max(${BUSY})` }],
    },
    {
      kind: "stat",
      title: "GPUs doing work",
      note: "Workers with a dispatch in the interval.",
      width: 4,
      height: 4,
      queries: [{ expression: `count(${BUSY} > 0) or vector(0)` }],
    },
    {
      kind: "stacked",
      title: "Share of fleet GPU work, per GPU",
      note: "Of the device seconds of all workers together.",
      width: 12,
      height: 8,
      unit: "percentunit",
      min: 0,
      max: 1,
      queries: [{ expression: SHARE, legend: "{{worker}}" }],
    },
    {
      kind: "series",
      title: "Per-GPU utilization over time",
      note: "Device seconds per second.",
      width: 12,
      height: 8,
      unit: "percentunit",
      queries: [
        { expression: BUSY, legend: "{{worker}}" },
        { expression: `avg(${BUSY})`, legend: "mean" },
      ],
    },
    {
      kind: "series",
      title: "Work spread over time",
      note: "Standard deviation over mean, and what lies between the busiest and the idlest.",
      width: 12,
      height: 8,
      unit: "percentunit",
      queries: [
        { expression: SPREAD, legend: "deviation / mean" },
        { expression: `max(${BUSY}) - min(${BUSY})`, legend: "max - min" },
      ],
    },
    {
      kind: "series",
      title: "Planned share vs actual share, per GPU",
      note:
        "What the last packing meant each worker to do, beside what it does: apart for long, a repack is due.",
      width: 12,
      height: 8,
      unit: "percentunit",
      queries: [
        { expression: SHARE, legend: "{{worker}} actual" },
        { expression: PLANNED, legend: "{{worker}} planned" },
      ],
    },
    {
      kind: "table",
      title: "Per-GPU work breakdown",
      note: "One row for each worker; routed/s is what the gateway sent there under lpt_packing.",
      width: 24,
      height: 8,
      by: "worker",
      sortBy: "utilization",
      columns: [
        { title: "utilization", expression: BUSY, unit: "percentunit" },
        { title: "share", expression: SHARE, unit: "percentunit" },
        {
          title: "off an even share",
          expression: `abs(${SHARE} - scalar(1 / count(${BUSY})))`,
          unit: "percentunit",
        },
        {
          title: "req/s",
          expression: sum(rate("worker_requests_served_total"), "worker"),
          unit: "reqps",
        },
        {
          title: "rows/s",
          expression: sum(rate("worker_rows_served_total"), "worker"),
        },
        {
          title: "routed/s",
          expression: sum(rate("gateway_replica_routed_total"), "worker"),
          unit: "reqps",
        },
      ],
    },
    {
      kind: "bars",
      title: "What each GPU is busy with (top model-on-GPU pairs)",
      note: "Device seconds per second of the 25 that take most.",
      width: 24,
      height: 10,
      unit: "percentunit",
      queries: [{
        expression: `topk(25, ${sum(rate("worker_compute_seconds_total"), "worker", "model")} > 0)`,
        legend: "{{model}} on {{worker}}",
      }],
    },
  ],
};
