/** What is printed: the report line, the summary, the verdict. */

import { fileSpelling } from "../config/mod.ts";
import type { LatencyHistogram } from "./histogram.ts";
import type { SkippedModel } from "./load_model.ts";
import { FAILURE_KINDS } from "./outcome.ts";
import type { NodeCounters } from "./scrape.ts";
import type { Tally, Window } from "./tally.ts";

/** What one report line is made of. */
export interface ReportInput {
  /** Since the load began. */
  readonly elapsedSeconds: number;
  readonly windowSeconds: number;
  /** Set while ramping. */
  readonly concurrency: number | undefined;
  readonly tally: Tally;
  readonly window: Window;
  /** `undefined` when the page could not be fetched, `off` when nobody asked for it. */
  readonly counters: NodeCounters | undefined | "off";
  /** Loads and evictions since the report before; none without counters. */
  readonly changes: Readonly<Record<"loads" | "evicts", number>>;
}

/** One line: totals with this window's change, latencies of this window only. */
export function reportLine(input: ReportInput): string {
  const { tally, window } = input;
  const { counts } = tally;
  const rate = window.ok / Math.max(1e-3, input.windowSeconds);
  return [
    `[t+${Math.round(input.elapsedSeconds)}s]`,
    ...(input.concurrency === undefined ? [] : [`conc=${input.concurrency}`]),
    `ok=${counts.ok}`,
    `err=${tally.errors}`,
    `dead=${counts.dead}(+${window.dead})`,
    `shed=${counts.shed}(+${window.shed})`,
    `rps=${rate.toFixed(1)}`,
    latencies(window.latency),
    ...nodePart(input),
  ].join(" ");
}

function latencies(latency: LatencyHistogram): string {
  if (latency.count === 0) return "(nothing completed)";
  return [
    `mean=${ms(latency.mean)}`,
    `min=${ms(latency.min)}`,
    `p50=${ms(latency.quantile(0.5))}`,
    `p95=${ms(latency.quantile(0.95))}`,
    `max=${ms(latency.max)}`,
  ].join(" ");
}

function nodePart({ counters, changes }: ReportInput): string[] {
  if (counters === "off") return [];
  if (counters === undefined) return ["cache=?"];
  return [
    `loads=${counters.loads}(+${changes.loads})`,
    `evicts=${counters.evicts}(+${changes.evicts})`,
    `gw_shed=${counters.gatewayShed}`,
    `wk_shed=${counters.workerShed}`,
  ];
}

function ms(milliseconds: number): string {
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 1)}ms`;
}

/** The outcome of a ramp. */
export interface RampResult {
  /** At which requests were shed, or the last one. */
  readonly concurrency: number;
  /** Successes per second at it. */
  readonly rate: number;
  readonly hasShed: boolean;
}

/** Everything there is to say in the end. */
export interface LoadResult {
  readonly code: number;
  /** One line. */
  readonly verdict: string;
  readonly seconds: number;
  readonly tally: Tally;
  /** Answers that were compared with something. */
  readonly checked: number;
  /** Requests of an open loop that were due but could not be sent. */
  readonly unsent: number;
  /** Requests that were given up in flight, because of a stall or a signal. */
  readonly abandoned: number;
  readonly skipped: readonly SkippedModel[];
  readonly ramp: RampResult | undefined;
  /** Models with fewer successes than asked for. */
  readonly shortfalls: readonly string[];
  readonly countersBefore: NodeCounters | undefined;
  readonly countersAfter: NodeCounters | undefined;
}

/** The summary for people; the verdict is its last line. */
export function* summaryLines(result: LoadResult): Generator<string> {
  const { tally, ramp, seconds } = result;
  const { counts, latency } = tally;
  const rate = counts.ok / Math.max(1e-9, seconds);
  yield `-- ${seconds.toFixed(1)} s: ok=${counts.ok} err=${tally.errors} dead=${counts.dead} ` +
    `shed=${counts.shed} rows=${tally.rows} rps=${rate.toFixed(1)}`;
  if (latency.count > 0) {
    yield `-- latency ${figuresLine(latency)}`;
  }
  if (tally.service.count > 0 && latency.mean > 1.01 * tally.service.mean) {
    yield `-- of that after sending ${figuresLine(tally.service)}`;
  }
  if (counts.teardown > 0) yield `-- ${counts.teardown} of the errors were cut connections`;
  if (counts.wrong > 0) yield `-- ${counts.wrong} of the errors were wrong answers`;
  if (result.checked > 0) yield `-- ${result.checked} answers checked`;
  if (result.unsent > 0) {
    yield `-- ${result.unsent} requests were due but never sent: the server fell behind the rate`;
  }
  if (result.abandoned > 0) yield `-- ${result.abandoned} requests were given up in flight`;
  yield* modelTable(tally);
  for (const { name, reason } of result.skipped) yield `-- skipped ${name}: ${reason}`;
  if (ramp) {
    yield `-- ramp: ${ramp.hasShed ? "requests were shed at" : "nothing was shed up to"} ` +
      `concurrency ${ramp.concurrency}, at ${ramp.rate.toFixed(1)} requests/s`;
  }
  for (const kind of FAILURE_KINDS) {
    for (const sample of tally.samples[kind]) yield `-- ${kind}: ${sample}`;
  }
  for (const shortfall of result.shortfalls) yield `-- shortfall: ${shortfall}`;
  yield `loadgen: ${result.verdict}`;
}

function figuresLine(latency: LatencyHistogram): string {
  return `mean=${ms(latency.mean)} p50=${ms(latency.quantile(0.5))} ` +
    `p95=${ms(latency.quantile(0.95))} p99=${ms(latency.quantile(0.99))} ` +
    `p99.9=${ms(latency.quantile(0.999))} max=${ms(latency.max)}`;
}

function modelTable(tally: Tally): string[] {
  const rows = [["model", "warm", "ok", "err", "dead", "shed", "rows", "mean_ms", "p99_ms"]];
  for (const [name, model] of tally.models) {
    const { counts, latency } = model;
    const errors = counts.error + counts.teardown + counts.wrong;
    const numbers = [model.warm, counts.ok, errors, counts.dead, counts.shed, model.rows];
    rows.push([
      name,
      ...numbers.map(String),
      latency.mean.toFixed(2),
      latency.quantile(0.99).toFixed(2),
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    `   ${
      row.map((cell, column) =>
        column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)
      ).join("  ")
    }`
  );
}

/**
 * The result as plain data for machines, under names that stay: they are listed in README.md.
 * Times are in milliseconds where the name says so, else in seconds.
 */
export function resultAsJson(
  result: LoadResult,
  settings: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const { tally, seconds } = result;
  const { counts } = tally;
  return {
    exit_code: result.code,
    verdict: result.verdict,
    seconds,
    requests_per_second: counts.ok / Math.max(1e-9, seconds),
    totals: {
      ...counts,
      rows: tally.rows,
      unsent: result.unsent,
      abandoned: result.abandoned,
      checked: result.checked,
    },
    latency_ms: figures(tally.latency),
    service_ms: figures(tally.service),
    models: Object.fromEntries(
      Array.from(tally.models, ([name, model]) => [name, {
        warm: model.warm,
        ...model.counts,
        rows: model.rows,
        latency_ms: figures(model.latency),
      }]),
    ),
    skipped: result.skipped,
    shortfalls: result.shortfalls,
    ramp: rampAsJson(result.ramp),
    counters: {
      before: sumsOf(result.countersBefore),
      after: sumsOf(result.countersAfter),
    },
    samples: tally.samples,
    settings: Object.fromEntries(
      Object.entries(settings).map(([field, value]) => [fileSpelling(field), value]),
    ),
  };
}

function rampAsJson(ramp: RampResult | undefined): Record<string, number | boolean> | null {
  if (ramp === undefined) return null;
  const { concurrency, rate, hasShed } = ramp;
  return { concurrency, rate, has_shed: hasShed };
}

function sumsOf(counters: NodeCounters | undefined): Record<string, number> | null {
  if (counters === undefined) return null;
  const { loads, evicts, gatewayShed, workerShed } = counters;
  return { loads, evicts, gateway_shed: gatewayShed, worker_shed: workerShed };
}

function figures(latency: LatencyHistogram): Record<string, number> {
  const rounded = (value: number) => Number(value.toFixed(4));
  return {
    count: latency.count,
    mean: rounded(latency.mean),
    min: rounded(latency.min),
    p50: rounded(latency.quantile(0.5)),
    p90: rounded(latency.quantile(0.9)),
    p95: rounded(latency.quantile(0.95)),
    p99: rounded(latency.quantile(0.99)),
    p999: rounded(latency.quantile(0.999)),
    max: rounded(latency.max),
  };
}
