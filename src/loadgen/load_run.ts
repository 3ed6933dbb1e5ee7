/** The load itself: who sends what when, who watches, and when it is over. */

import { messageOf } from "../errors.ts";
import { Arrivals } from "./arrivals.ts";
import type { Asker } from "./asker.ts";
import type { PreparedRequest, SkippedModel } from "./load_model.ts";
import type { Outcome, OutcomeKind } from "./outcome.ts";
import type { Picker } from "./picker.ts";
import { Random } from "./random.ts";
import { type LoadResult, type RampResult, reportLine } from "./report.ts";
import { CounterChange, type NodeCounters } from "./scrape.ts";
import type { LoadgenSettings } from "./settings.ts";
import { Tally } from "./tally.ts";
import { verdictOf } from "./verdict.ts";

/** Time; a test brings its own. */
export interface LoadClock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Ends early, without an error, when the signal does. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

export interface LoadRunOptions {
  readonly settings: LoadgenSettings;
  readonly requests: readonly PreparedRequest[];
  readonly skipped: readonly SkippedModel[];
  readonly picker: Picker;
  /** Requests take its ways in turn. */
  readonly asker: Asker;
  /** `undefined`: nobody looks. Resolves to `undefined` when the page could not be fetched in time. */
  readonly scrape: ((signal: AbortSignal) => Promise<NodeCounters | undefined>) | undefined;
  readonly clock: LoadClock;
  readonly print: (line: string) => void;
  /** Shows the live line. */
  readonly showProgress?: (line: string) => void;
  /**
   * Ends the load early, as if its time were over; what is in flight has `STOP_GRACE_MS` then, and nothing
   * of the warm-up is waited for.
   */
  readonly stop: AbortSignal;
  /** Ends everything at once. */
  readonly abandon?: AbortSignal;
}

/** Of requests without a deadline of their own. */
const DEFAULT_DEADLINE_MS = 10_000;
const PROGRESS_EVERY_MS = 1000;
/** Between two attempts of the warm-up at a model that is not available. */
const ASK_AGAIN_MS = 500;
/** Within the 10 s that container engines wait between SIGTERM and SIGKILL, with room for the end. */
const STOP_GRACE_MS = 3000;

/** One run; use it once. */
export class LoadRun {
  readonly #options: LoadRunOptions;
  readonly #tally: Tally;
  /** Ends the sending of new requests. */
  readonly #over = new AbortController();
  /** Ends everything, watchers too. */
  readonly #done = new AbortController();
  /** Ends requests in flight. */
  readonly #cut = new AbortController();
  readonly #deadlineMs: number;
  #sent = 0;
  #inFlight = 0;
  #concurrency: number;
  #onSlot: (() => void) | undefined;
  #unsent = 0;
  /** Requests that were given up in flight. */
  #abandoned = 0;
  /** Answers that were compared with something. */
  #checked = 0;
  #isWarmingUp = false;
  /** A mistake of this program that a request ran into. */
  #defect: { readonly error: unknown } | undefined;
  #startMs = 0;
  #reportedMs = 0;
  #silentWindows = 0;
  #answeredBefore = 0;
  #isStalled = false;
  #ramp: RampResult | undefined;
  readonly #loads = new CounterChange("loads");
  readonly #evicts = new CounterChange("evicts");
  #atStart: NodeCounters | undefined;

  constructor(options: LoadRunOptions) {
    const { settings, requests } = options;
    this.#options = options;
    this.#tally = new Tally(new Set(requests.map(({ model }) => model)));
    this.#deadlineMs = settings.deadlineSeconds > 0
      ? settings.deadlineSeconds * 1000
      : DEFAULT_DEADLINE_MS;
    this.#concurrency = isRamp(settings) ? settings.rampStart : settings.concurrency;
    const { stop, abandon } = options;
    stop.addEventListener("abort", () => void this.#stopEarly(), { once: true });
    if (stop.aborted) void this.#stopEarly();
    abandon?.addEventListener("abort", () => this.#giveUp(), { once: true });
  }

  /** Runs to the end, whatever happens to requests. Nothing is in flight any more when it settles. */
  async run(): Promise<LoadResult> {
    const { settings, clock, scrape } = this.#options;
    if (settings.warmup) await this.#warmUp();
    this.#atStart = await scrape?.(this.#cut.signal);
    this.#changesTo(this.#atStart);
    this.#startMs = this.#reportedMs = clock.now();
    const endMs = this.#startMs + settings.durationSeconds * 1000;
    const watchers = [this.#reportLoop(), this.#progressLoop(), this.#endAt(endMs)];
    if (isRamp(settings)) await this.#climb();
    else if (settings.rate > 0) await this.#openLoop(endMs);
    else await this.#closedLoop(settings.concurrency);
    this.#over.abort();
    const seconds = (clock.now() - this.#startMs) / 1000;
    this.#done.abort();
    await Promise.all(watchers);
    if (this.#defect) throw this.#defect.error;
    const after = await this.#report();
    return verdictOf({
      settings,
      seconds,
      tally: this.#tally,
      checked: this.#checked,
      unsent: this.#unsent,
      abandoned: this.#abandoned,
      skipped: this.#options.skipped,
      ramp: this.#ramp,
      isStalled: this.#isStalled,
      countersBefore: this.#atStart,
      countersAfter: after,
    });
  }

  async #warmUp(): Promise<void> {
    const { requests, asker, settings, clock, print, showProgress } = this.#options;
    // For all of them together, so that a server that is not there is not waited for again and again.
    const patientUntilMs = clock.now() + settings.warmupDeadline * 1000;
    this.#isWarmingUp = true;
    for (const [index, request] of requests.entries()) {
      showProgress?.(`warm-up ${index + 1}/${requests.length}: ${request.model}`);
      for (let way = 0; way < asker.ways; way++) {
        if (this.#over.signal.aborted) break;
        const outcome = await this.#askPatiently(request, way, patientUntilMs);
        if (outcome.kind === "ok") this.#tally.models.get(request.model)!.warm++;
        else if (this.#cut.signal.aborted) this.#abandoned++;
        else if (this.#tally.addWarmUpFailure(request.model, outcome)) {
          print(`first error: ${request.model}: in the warm-up: ${outcome.text}`);
        }
      }
    }
    this.#isWarmingUp = false;
    if (this.#over.signal.aborted) return;
    if (settings.expect !== "none") {
      print(`warm-up done: ${requests.length} requests per way, ${this.#checked} answers checked`);
    }
  }

  /** Asks again while the model is not available: it may be on its way, as others are ready already. */
  async #askPatiently(
    request: PreparedRequest,
    way: number,
    untilMs: number,
  ): Promise<Outcome> {
    const { settings, clock, print } = this.#options;
    for (let isFirst = true;; isFirst = false) {
      const { outcome } = await this.#ask(request, way, settings.warmupDeadline * 1000);
      const isPassing = outcome.kind === "error" && outcome.status === "UNAVAILABLE";
      if (!isPassing || clock.now() >= untilMs || this.#over.signal.aborted) return outcome;
      if (isFirst) print(`waiting for ${request.model}: ${outcome.text}`);
      await clock.sleep(ASK_AGAIN_MS, this.#over.signal);
    }
  }

  /** What was asked to end soon ends soon, whatever the deadlines of requests in flight are. */
  async #stopEarly(): Promise<void> {
    this.#over.abort();
    if (!this.#isWarmingUp) await this.#options.clock.sleep(STOP_GRACE_MS, this.#done.signal);
    // Where all has ended by itself, what is left is the last look at the metrics page.
    if (!this.#done.signal.aborted) this.#giveUp();
  }

  /** Ends sending and everything that is in flight. */
  #giveUp(): void {
    this.#over.abort();
    this.#cut.abort();
    this.#onSlot?.();
  }

  /** Workers that each send one request after the other. */
  async #closedLoop(count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, () => this.#worker()));
  }

  async #worker(): Promise<void> {
    const { picker, clock } = this.#options;
    let failures = 0;
    while (!this.#over.signal.aborted) {
      const kind = await this.#fire(picker.next(), clock.now());
      const isBroken = kind === "error" || kind === "teardown";
      failures = isBroken ? failures + 1 : 0;
      // A server that is gone fails calls at once, and a closed loop would do nothing but ask again.
      if (isBroken) await clock.sleep(Math.min(1000, 5 * 2 ** failures), this.#over.signal);
      else if (kind !== "ok") await clock.sleep(1, this.#over.signal);
    }
  }

  async #openLoop(endMs: number): Promise<void> {
    const { settings, clock, picker } = this.#options;
    const arrivals = new Arrivals({
      startMs: this.#startMs,
      rate: settings.rate,
      spacing: settings.arrivals,
      random: new Random(settings.seed + 1),
    });
    let dueMs = arrivals.next();
    for (; dueMs < endMs && !this.#over.signal.aborted; dueMs = arrivals.next()) {
      // Timers go off on whole milliseconds, some a little early; no request may go before it is due.
      for (let waitMs = dueMs - clock.now(); waitMs > 0 && !this.#over.signal.aborted;) {
        await clock.sleep(Math.ceil(waitMs), this.#over.signal);
        waitMs = dueMs - clock.now();
      }
      while (this.#inFlight >= this.#concurrency && !this.#over.signal.aborted) {
        await new Promise<void>((resolve) => this.#onSlot = resolve);
      }
      if (this.#over.signal.aborted) break;
      void this.#fire(picker.next(), dueMs);
    }
    const nowMs = clock.now();
    for (; dueMs < Math.min(endMs, nowMs); dueMs = arrivals.next()) {
      this.#unsent++;
      this.#tally.addUnsent(nowMs - dueMs);
    }
    while (this.#inFlight > 0) await new Promise<void>((resolve) => this.#onSlot = resolve);
  }

  /** Raises the concurrency step by step until something is shed. */
  async #climb(): Promise<void> {
    const { settings, clock, scrape } = this.#options;
    const workers: Promise<void>[] = [];
    const shedAtStart = this.#tally.counts.shed;
    // Where the page could not be had at the start, the first that can is what others are held against.
    let baseline = this.#atStart;
    for (;;) {
      while (workers.length < this.#concurrency) workers.push(this.#worker());
      const [okBefore, stepStartMs] = [this.#tally.counts.ok, clock.now()];
      await clock.sleep(settings.rampStepSeconds * 1000, this.#over.signal);
      const seconds = (clock.now() - stepStartMs) / 1000;
      const counters = await scrape?.(this.#cut.signal);
      baseline ??= counters;
      const hasShed = this.#tally.counts.shed > shedAtStart ||
        shedBy(counters) > shedBy(baseline);
      const isLast = this.#concurrency >= settings.rampMax || this.#over.signal.aborted;
      if (hasShed || isLast) {
        const rate = (this.#tally.counts.ok - okBefore) / Math.max(1e-9, seconds);
        this.#ramp = { concurrency: this.#concurrency, rate, hasShed };
        break;
      }
      const next = Math.max(
        this.#concurrency + 1,
        Math.round(this.#concurrency * settings.rampFactor),
      );
      this.#concurrency = Math.min(settings.rampMax, next);
    }
    this.#over.abort();
    await Promise.all(workers);
  }

  async #fire(request: PreparedRequest, dueMs: number): Promise<OutcomeKind> {
    const { asker, clock, print } = this.#options;
    const way = this.#sent++ % asker.ways;
    this.#inFlight++;
    const sentMs = clock.now();
    const { outcome, endMs } = await this.#ask(request, way, this.#deadlineMs);
    this.#inFlight--;
    if (this.#cut.signal.aborted && outcome.kind !== "ok") this.#abandoned++;
    else {
      const isFirstError = this.#tally.add({
        model: request.model,
        rows: request.rows,
        outcome,
        latencyMs: endMs - dueMs,
        serviceMs: endMs - sentMs,
      });
      if (isFirstError) print(`first error: ${request.model}: ${outcome.text}`);
    }
    const onSlot = this.#onSlot;
    this.#onSlot = undefined;
    onSlot?.();
    return outcome.kind;
  }

  /** Never rejects. `endMs` is when the answer was there. */
  async #ask(
    request: PreparedRequest,
    way: number,
    deadlineMs: number,
  ): Promise<{ readonly outcome: Outcome; readonly endMs: number }> {
    const { asker, clock } = this.#options;
    try {
      const asked = await asker.ask(request, way, { deadlineMs, signal: this.#cut.signal });
      if (asked.isChecked) this.#checked++;
      return asked;
    } catch (error) {
      // A mistake. The others end first: what they use must not be taken from under them.
      this.#defect ??= { error };
      this.#giveUp();
      return { outcome: { kind: "error", text: messageOf(error) }, endMs: clock.now() };
    }
  }

  async #endAt(endMs: number): Promise<void> {
    const { clock } = this.#options;
    const isOver = this.#over.signal;
    for (let leftMs = endMs - clock.now(); leftMs > 0 && !isOver.aborted;) {
      await clock.sleep(leftMs, isOver);
      leftMs = endMs - clock.now();
    }
    this.#over.abort();
    this.#onSlot?.();
  }

  async #reportLoop(): Promise<void> {
    const { settings, clock } = this.#options;
    const isDone = this.#done.signal;
    const intervalMs = settings.reportSeconds * 1000;
    for (let dueMs = this.#startMs + intervalMs;; dueMs += intervalMs) {
      // A page that takes its time must not make intervals longer; those that are missed altogether are.
      dueMs = Math.max(dueMs, clock.now());
      await clock.sleep(dueMs - clock.now(), isDone);
      if (isDone.aborted) return;
      const answered = this.#answered;
      await this.#report();
      this.#watchStall(answered);
      if (this.#isStalled) return;
    }
  }

  /** Requests that got an answer. Running out of time is none, unless running out of it is the point. */
  get #answered(): number {
    const { finished, counts } = this.#tally;
    return this.#options.settings.deadlineSeconds > 0 ? finished : finished - counts.dead;
  }

  /** Gives up when windows pass without an answer although requests wait for one. */
  #watchStall(answered: number): void {
    const { settings, print } = this.#options;
    const isSilent = answered === this.#answeredBefore && this.#inFlight > 0;
    this.#answeredBefore = answered;
    this.#silentWindows = isSilent ? this.#silentWindows + 1 : 0;
    if (settings.stallWindows === 0 || this.#silentWindows < settings.stallWindows) return;
    print(
      `no answer in ${this.#silentWindows} intervals with ${this.#inFlight} requests in flight`,
    );
    this.#isStalled = true;
    this.#giveUp();
  }

  async #report(): Promise<NodeCounters | undefined> {
    const { settings, clock, scrape, print } = this.#options;
    const counters = await scrape?.(this.#cut.signal);
    const changes = this.#changesTo(counters);
    const nowMs = clock.now();
    const line = this.#tally.closeWindow((window) =>
      reportLine({
        elapsedSeconds: (nowMs - this.#startMs) / 1000,
        windowSeconds: (nowMs - this.#reportedMs) / 1000,
        concurrency: isRamp(settings) ? this.#concurrency : undefined,
        tally: this.#tally,
        window,
        counters: scrape ? counters : "off",
        changes,
      })
    );
    this.#reportedMs = nowMs;
    print(line);
    return counters;
  }

  #changesTo(counters: NodeCounters | undefined): Record<"loads" | "evicts", number> {
    return {
      loads: counters ? this.#loads.next(counters) : 0,
      evicts: counters ? this.#evicts.next(counters) : 0,
    };
  }

  async #progressLoop(): Promise<void> {
    const { clock, showProgress, settings } = this.#options;
    if (showProgress === undefined) return;
    const isDone = this.#done.signal;
    let [ok, atMs] = [this.#tally.counts.ok, clock.now()];
    for (;;) {
      await clock.sleep(PROGRESS_EVERY_MS, isDone);
      if (isDone.aborted) return;
      const { counts, errors } = this.#tally;
      const nowMs = clock.now();
      const rate = 1000 * (counts.ok - ok) / Math.max(1, nowMs - atMs);
      const elapsed = Math.round((nowMs - this.#startMs) / 1000);
      showProgress(
        `${elapsed}/${Math.round(settings.durationSeconds)}s in flight ${this.#inFlight}, ` +
          `${Math.round(rate)} ok/s, ok ${counts.ok}, err ${errors}, dead ${counts.dead}, ` +
          `shed ${counts.shed}`,
      );
      [ok, atMs] = [counts.ok, nowMs];
    }
  }
}

/** Whether the settings ask for a ramp. */
export function isRamp(settings: LoadgenSettings): boolean {
  return settings.rampStepSeconds > 0;
}

function shedBy(counters: NodeCounters | undefined): number {
  return counters ? counters.gatewayShed + counters.workerShed : 0;
}
