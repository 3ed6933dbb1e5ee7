/** The counters of a node that the report shows. */

import { directClient } from "../direct_http.ts";

/** Sums over all series of a name. */
export interface NodeCounters {
  readonly loads: number;
  readonly evicts: number;
  readonly gatewayShed: number;
  readonly workerShed: number;
  /** Loads and evictions of each series there is. */
  readonly series: Readonly<Record<"loads" | "evicts", ReadonlyMap<string, number>>>;
}

/** The families behind them. */
const FAMILIES = {
  loads: "worker_weight_loads_total",
  evicts: "worker_weight_evicts_total",
  gatewayShed: "gateway_requests_shed_total",
  workerShed: "worker_requests_shed_total",
} as const;

const LIMIT_MS = 3000;

/** Fetches a metrics page. `undefined` when it does not come within 3 s, or before the signal does. */
export async function scrapeCounters(
  url: string,
  signal: AbortSignal,
): Promise<NodeCounters | undefined> {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)]);
    using client = directClient(url);
    const response = await fetch(url, { client, signal: limit });
    const text = await response.text();
    return response.ok ? countersIn(text) : undefined;
  } catch {
    // Whatever is wrong with it, the load goes on; the report says that it does not know.
    return undefined;
  }
}

/** Sums the counters in the Prometheus text format; a family that is not there counts 0. */
export function countersIn(text: string): NodeCounters {
  const sums = sumsIn(text, Object.values(FAMILIES));
  const of = (key: keyof typeof FAMILIES) => sums.get(FAMILIES[key])!;
  const seriesOf = (key: keyof typeof FAMILIES) =>
    new Map(
      Array.from(samplesIn(text, new Set([FAMILIES[key]])), ({ labels, value }) => [labels, value]),
    );
  return {
    loads: of("loads"),
    evicts: of("evicts"),
    gatewayShed: of("gatewayShed"),
    workerShed: of("workerShed"),
    series: { loads: seriesOf("loads"), evicts: seriesOf("evicts") },
  };
}

/**
 * How much one kind of counter rose from look to look. Each series is held against its own last value: a worker
 * whose page could not be had for a while comes back with its lifetime, and one that was started again
 * begins at nothing; neither must show as so many loads, or hide others.
 */
export class CounterChange {
  readonly #key: "loads" | "evicts";
  readonly #last = new Map<string, number>();
  #isFirst = true;

  constructor(key: "loads" | "evicts") {
    this.#key = key;
  }

  /** The rise since the last call; nothing at the first. */
  next({ series }: NodeCounters): number {
    let rise = 0;
    for (const [labels, value] of series[this.#key]) {
      const last = this.#last.get(labels) ?? (this.#isFirst ? value : 0);
      // A counter that fell counts from nothing.
      rise += value >= last ? value - last : value;
      this.#last.set(labels, value);
    }
    this.#isFirst = false;
    return rise;
  }
}

/** The sum over all series of each of these exact names; 0 for those that are not there. */
export function sumsIn(text: string, names: Iterable<string>): Map<string, number> {
  const sums = new Map(Array.from(names, (name) => [name, 0]));
  for (const { name, value } of samplesIn(text, new Set(sums.keys()))) {
    sums.set(name, sums.get(name)! + value);
  }
  return sums;
}

/** One series of a metrics page. */
export interface Sample {
  readonly name: string;
  /** As they stand there, braces included; empty without any. */
  readonly labels: string;
  /** Finite. */
  readonly value: number;
}

/** The series of these exact names. */
export function* samplesIn(text: string, names: ReadonlySet<string>): Generator<Sample> {
  for (const line of text.split("\n")) {
    const name = /^[A-Za-z_:][\w:]*/.exec(line)?.[0] ?? "";
    if (!names.has(name)) continue;
    // A label's value may hold anything, braces and spaces included; what follows the last one cannot.
    const end = Math.max(name.length, line.lastIndexOf("}") + 1);
    const value = Number(line.slice(end).trim().split(/\s/)[0]);
    if (Number.isFinite(value)) yield { name, labels: line.slice(name.length, end), value };
  }
}
