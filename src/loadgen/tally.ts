/** What became of the requests: totals, this window, and each model, in memory that does not grow. */

import { LatencyHistogram } from "./histogram.ts";
import { FAILURE_KINDS, type Outcome, type OutcomeKind } from "./outcome.ts";

/** Messages kept of each kind of failure. */
const KEPT_ERRORS = 20;
const KEPT_OTHERS = 5;

/** One model's requests. */
export class ModelTally {
  /** Requests of the warm-up that succeeded. */
  warm = 0;
  readonly counts: Record<OutcomeKind, number> = zeroCounts();
  /** In successful requests. */
  rows = 0;
  /** Of successful requests, from when they should have been sent. */
  readonly latency = new LatencyHistogram();
}

/** A finished request. */
export interface Finished {
  readonly model: string;
  readonly rows: number;
  readonly outcome: Outcome;
  /** From when it should have been sent, in milliseconds. */
  readonly latencyMs: number;
  /** From when it was sent. */
  readonly serviceMs: number;
}

/** Counts of one report interval. */
export interface Window {
  readonly ok: number;
  readonly dead: number;
  readonly shed: number;
  readonly latency: LatencyHistogram;
}

function zeroCounts(): Record<OutcomeKind, number> {
  return { ok: 0, dead: 0, shed: 0, teardown: 0, wrong: 0, error: 0 };
}

export class Tally {
  readonly counts: Record<OutcomeKind, number> = zeroCounts();
  readonly models: ReadonlyMap<string, ModelTally>;
  /** Of successful requests from when they were due, and of those that `addUnsent` tells about. */
  readonly latency = new LatencyHistogram();
  /** Of successful requests, from when they were sent. */
  readonly service = new LatencyHistogram();
  /** First messages of each kind. */
  readonly samples: Readonly<Record<Exclude<OutcomeKind, "ok">, string[]>>;
  readonly #window = new LatencyHistogram();
  readonly #windowStart: Record<OutcomeKind, number> = zeroCounts();

  constructor(models: Iterable<string>) {
    this.models = new Map(Array.from(models, (name) => [name, new ModelTally()]));
    this.samples = { dead: [], shed: [], teardown: [], wrong: [], error: [] };
  }

  /** Requests that ended, well or not. */
  get finished(): number {
    return this.counts.ok + FAILURE_KINDS.reduce((sum, kind) => sum + this.counts[kind], 0);
  }

  /** Requests that failed and had no business to, whatever the mode: the `err` of the report. */
  get errors(): number {
    return this.counts.error + this.counts.teardown + this.counts.wrong;
  }

  /** Rows of successful requests. */
  get rows(): number {
    return [...this.models.values()].reduce((sum, { rows }) => sum + rows, 0);
  }

  /** Counts one request. @returns whether its failure is the first error of all, which is shown at once */
  add({ model, rows, outcome, latencyMs, serviceMs }: Finished): boolean {
    const tally = this.models.get(model)!;
    this.counts[outcome.kind]++;
    tally.counts[outcome.kind]++;
    if (outcome.kind === "ok") {
      tally.rows += rows;
      for (const histogram of [this.latency, this.#window, tally.latency]) {
        histogram.record(latencyMs);
      }
      this.service.record(serviceMs);
      return false;
    }
    return this.#keep(model, outcome.kind, outcome.text);
  }

  /**
   * Notes a request of an open loop that was due but could not be sent before the end. Its latency would have
   * been this at least: leaving it out would hide just those pauses that lasted to the end.
   */
  addUnsent(waitedMs: number): void {
    this.latency.record(waitedMs);
    this.#window.record(waitedMs);
  }

  /** Notes a failure of the warm-up, which counts as an error. */
  addWarmUpFailure(model: string, { kind, text }: Outcome): boolean {
    const counted = kind === "ok" ? "error" : kind;
    this.counts[counted]++;
    this.models.get(model)!.counts[counted]++;
    return this.#keep(model, counted, `in the warm-up: ${text}`);
  }

  /** What happened since the last call; starts the next window. The histogram is valid until then. */
  closeWindow<T>(look: (window: Window) => T): T {
    const delta = (kind: OutcomeKind) => this.counts[kind] - this.#windowStart[kind];
    const result = look({
      ok: delta("ok"),
      dead: delta("dead"),
      shed: delta("shed"),
      latency: this.#window,
    });
    this.#window.reset();
    Object.assign(this.#windowStart, this.counts);
    return result;
  }

  /** @returns whether it is the first error, or the first wrong answer */
  #keep(model: string, kind: Exclude<OutcomeKind, "ok">, text: string): boolean {
    const isError = kind === "error" || kind === "teardown" || kind === "wrong";
    const isFirstError = isError &&
      (this.errors === 1 || (kind === "wrong" && this.counts.wrong === 1));
    const kept = this.samples[kind];
    const limit = kind === "error" || kind === "wrong" ? KEPT_ERRORS : KEPT_OTHERS;
    if (kept.length < limit) kept.push(`${model}: ${text.slice(0, 500)}`);
    return isFirstError;
  }
}
