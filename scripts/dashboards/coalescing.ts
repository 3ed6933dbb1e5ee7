/** F: how full batches are, and what that costs. */

import { type Dashboard, WORKER_VARIABLE } from "./panels.ts";
import { among, max, OF_WORKER, rangeRate, ratio, select, sum } from "./promql.ts";

const of = (series: Parameters<typeof rangeRate>[0]) => sum(rangeRate(series, OF_WORKER), "model");
const DISPATCHES = of("worker_dispatch_total");
const MAX_BATCH = max(select("worker_model_max_batch_size", OF_WORKER), "model");
const EFFECTIVE_BATCH = ratio(of("worker_rows_served_total"), DISPATCHES);
/**
 * Of what programs computed, the share that was no request's; a sum of sizes counts the padding. Not below 0:
 * rates over more time than there is data are guesses, each by itself.
 */
const PADDING = `clamp_min(1 - ${
  ratio(of("worker_rows_served_total"), of("worker_batch_size_sum"))
}, 0)`;
/** 0: every dispatch had one row; 1: every one was full. Nothing for models that take one row. */
const FILL = `(${EFFECTIVE_BATCH} - 1) / ((${MAX_BATCH} > 1) - 1)`;

export const COALESCING: Dashboard = {
  uid: "rs-coalescing",
  title: "Coalescing & Batching",
  description: "Rows and requests per dispatch, against what the programs could take.",
  refreshSeconds: 30,
  variables: [WORKER_VARIABLE],
  panels: [
    {
      kind: "text",
      title: "How to read this",
      width: 24,
      height: 8,
      markdown: [
        "One line per model that was dispatched in the time shown.",
        "",
        "- **disp/s**: program executions per second",
        "- **eff batch**: rows per dispatch; **req-merge**: requests per dispatch",
        "- **max batch**: rows the largest program takes, with the configured cap",
        "- **fill**: (eff batch - 1) / (max batch - 1), 0 when nothing coalesces and 1 when every " +
        "batch is full; models that take one row have none",
        "- **padding**: rows that were computed for nobody, because the compiled size was larger",
        "- **device s/s**: device seconds per second; **device/disp**: device seconds per dispatch",
        "",
        "A model with a high device s/s and a low fill would gain most from more concurrency, a " +
        "waiting window, or fewer replicas.",
      ].join("\n"),
    },
    {
      kind: "table",
      title: "Per-model batching & device cost (sorted by device usage)",
      note: "Over the time shown; the columns are explained above.",
      width: 24,
      height: 11,
      by: "model",
      sortBy: "device s/s",
      columns: [
        { title: "disp/s", expression: `${DISPATCHES} > 0` },
        { title: "eff batch", expression: EFFECTIVE_BATCH },
        {
          title: "req-merge",
          expression: ratio(of("worker_requests_served_total"), DISPATCHES),
        },
        { title: "max batch", expression: among(`${DISPATCHES} > 0`, MAX_BATCH) },
        { title: "fill", expression: FILL, unit: "percentunit" },
        { title: "padding", expression: PADDING, unit: "percentunit" },
        {
          title: "device s/s",
          expression: `${of("worker_compute_seconds_total")} > 0`,
        },
        {
          title: "device/disp",
          expression: ratio(of("worker_compute_seconds_total"), DISPATCHES),
          unit: "s",
        },
      ],
    },
    {
      kind: "bars",
      title: "Most under-filled batchable models (bottom 20 by fill)",
      note: "Most room in their batches. Of interest where the device is busy, see the table.",
      width: 24,
      height: 9,
      unit: "percentunit",
      min: 0,
      max: 1,
      queries: [{ expression: `bottomk(20, ${FILL})`, legend: "{{model}}" }],
    },
  ],
};
