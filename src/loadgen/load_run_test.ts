import assert from "node:assert/strict";
import {
  CancelledError,
  DeadlineExceededError,
  InternalError,
  ResourceExhaustedError,
  UnavailableError,
} from "../errors.ts";
import { AnswerCheck } from "./answer_check.ts";
import { LocalAsker } from "./asker.ts";
import type { PreparedRequest } from "./load_model.ts";
import { LoadRun } from "./load_run.ts";
import { outcomeOf } from "./outcome.ts";
import { Picker } from "./picker.ts";
import { Random } from "./random.ts";
import { type LoadResult, resultAsJson, summaryLines } from "./report.ts";
import type { NodeCounters } from "./scrape.ts";
import type { Sender } from "./senders.ts";
import { LOADGEN_SETTINGS, type LoadgenSettings, readSettings } from "./settings.ts";
import { VirtualClock } from "./virtual_clock.ts";

function settingsWith(values: Partial<Record<keyof LoadgenSettings, string>>): LoadgenSettings {
  const byFlag = new Map(
    Object.entries(values).map(([key, value]) => [
      LOADGEN_SETTINGS[key as keyof LoadgenSettings].flag,
      value,
    ]),
  );
  return readSettings({ flag: (name) => byFlag.get(name), variable: () => undefined });
}

function request(model: string): PreparedRequest {
  return { model, rows: 2, inputs: [], message: [], outputs: undefined, golden: undefined };
}

/** Runs a load against `send`, in virtual time. */
async function load(
  values: Partial<Record<keyof LoadgenSettings, string>>,
  send: (clock: VirtualClock, model: string, signal: AbortSignal) => Promise<void>,
  { models = ["m"], scrape, stop = new AbortController().signal, abandon }: {
    models?: string[];
    scrape?: (signal: AbortSignal) => Promise<NodeCounters | undefined>;
    stop?: AbortSignal;
    abandon?: AbortSignal;
  } = {},
): Promise<{ result: LoadResult; lines: string[] }> {
  const settings = settingsWith({ warmup: "false", ...values });
  const clock = new VirtualClock();
  const requests = models.map(request);
  const lines: string[] = [];
  const sender: Sender = {
    send: ({ model }, { signal }) => send(clock, model, signal).then(() => []),
  };
  const random = new Random(1);
  const run = new LoadRun({
    settings,
    requests,
    skipped: [],
    picker: new Picker({
      choices: requests.map((one) => ({ weight: 1, requests: [one] })),
      sweepEvery: settings.sweepEvery,
      burst: 1,
      random,
    }),
    asker: new LocalAsker({
      senders: [sender],
      check: new AnswerCheck("none", 0),
      now: () => clock.now(),
    }),
    scrape,
    clock,
    print: (line) => lines.push(line),
    stop,
    abandon,
  });
  const result = await run.run();
  await clock.settled();
  return { result, lines };
}

function counters(loads: number, evicts: number, shed = 0): NodeCounters {
  const series = { loads: new Map([["", loads]]), evicts: new Map([["", evicts]]) };
  return { loads, evicts, gatewayShed: shed, workerShed: 0, series };
}

Deno.test("an open loop counts from when requests were due: a pause is in every latency of its time", async () => {
  // 10 a second, evenly; the server answers at once, but not between 1 s and 3 s.
  const { result } = await load(
    { rate: "10", arrivals: "constant", durationSeconds: "5", concurrency: "1", metrics: "off" },
    async (clock) => {
      if (clock.now() >= 1000 && clock.now() < 3000) await clock.sleep(3000 - clock.now());
    },
  );
  const { tally } = result;
  assert.equal(tally.counts.ok, 50);
  assert.equal(result.unsent, 0);
  // Due at 1.0, 1.1, …, 2.9 s and all answered at 3 s: 20 of 50 requests, 0.1 to 2 s late.
  assert.equal(Math.round(tally.latency.max), 2000);
  assert.ok(tally.latency.quantile(0.59) < 1, `${tally.latency.quantile(0.59)}`);
  assert.ok(Math.abs(tally.latency.quantile(0.8) - 1000) < 110, `${tally.latency.quantile(0.8)}`);
  // Only one of them waited after it was sent.
  assert.ok(tally.service.quantile(0.97) < 1, `${tally.service.quantile(0.97)}`);
  const summary = [...summaryLines(result)];
  // (0.1 + 0.2 + … + 2.0) s of 50 requests; 2 s of 50.
  assert.match(summary[1]!, /^-- latency mean=420\.0ms .* max=2000\.0ms$/);
  assert.match(summary[2]!, /^-- of that after sending mean=40\.0ms .* max=2000\.0ms$/);
});

Deno.test("an open loop against a server that is too slow says what it could not send", async () => {
  const { result } = await load(
    { rate: "100", arrivals: "constant", durationSeconds: "2", concurrency: "2", metrics: "off" },
    (clock) => clock.sleep(100),
  );
  // Two at a time, 100 ms each: 40 of 200 in 2 s.
  assert.equal(result.tally.counts.ok, 40);
  assert.equal(result.unsent, 160);
  assert.equal(result.code, 0);
});

Deno.test("a pause that lasts to the end of an open loop is in its latencies", async () => {
  // 10 a second for 10 s, answered at once until 5 s; then nothing until the load is over.
  const { result } = await load(
    { rate: "10", arrivals: "constant", durationSeconds: "10", concurrency: "1", metrics: "off" },
    async (clock) => {
      if (clock.now() >= 5000) await clock.sleep(10_000 - clock.now());
    },
  );
  const { tally, unsent } = result;
  assert.deepEqual([tally.counts.ok, unsent], [51, 49]);
  // Half of the callers were answered at once; those due at 5.0, 5.1, …, 9.9 s waited 5 to 0.1 s at least.
  assert.equal(Math.round(tally.latency.max), 5000);
  assert.ok(tally.latency.quantile(0.49) < 1, `${tally.latency.quantile(0.49)}`);
  assert.ok(Math.abs(tally.latency.quantile(0.75) - 2500) < 60, `${tally.latency.quantile(0.75)}`);
  assert.equal(tally.latency.count, 100);
  assert.equal(tally.service.count, 51);
});

Deno.test("a closed loop prints a line per interval with totals, this interval's change and latencies", async () => {
  let scrapes = 0;
  const figures = [counters(10, 4), counters(12, 4), undefined, counters(15, 5), counters(15, 5)];
  const { result, lines } = await load(
    { durationSeconds: "3", reportSeconds: "1", concurrency: "2" },
    (clock) => clock.sleep(100),
    { models: ["a", "b"], scrape: () => Promise.resolve(figures[scrapes++]) },
  );
  assert.ok(lines.length >= 3, lines.join("\n"));
  assert.match(
    lines[0]!,
    /^\[t\+1s\] ok=(18|20) err=0 dead=0\(\+0\) shed=0\(\+0\) rps=(18|20)\.0 mean=100\.0ms min=100\.0ms p50=100\.0ms p95=100\.0ms max=100\.0ms loads=12\(\+2\) evicts=4\(\+0\) gw_shed=0 wk_shed=0$/,
  );
  assert.match(lines[1]!, / cache=\?$/);
  assert.match(lines[2]!, / loads=15\(\+3\) evicts=5\(\+1\) gw_shed=0 wk_shed=0$/);
  assert.equal(result.tally.counts.ok, 60);
  assert.equal(result.tally.rows, 120);
  assert.equal(result.code, 0);
  assert.deepEqual(result.countersBefore, counters(10, 4));
});

Deno.test("answers that stop coming end the run, and what was cut off is no error", async () => {
  const { result, lines } = await load(
    {
      durationSeconds: "60",
      reportSeconds: "1",
      stallWindows: "3",
      metrics: "off",
      concurrency: "4",
    },
    (clock, _, signal) =>
      clock.now() < 2000 ? clock.sleep(100) : new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(new CancelledError("cut")));
      }),
  );
  assert.equal(result.code, 4);
  assert.equal(result.tally.errors, 0);
  assert.ok(lines.some((line) => line.includes("(nothing completed)")), lines.join("\n"));
  assert.ok(lines.includes("no answer in 3 intervals with 4 requests in flight"), lines.join("\n"));
  assert.ok(result.seconds < 10, `${result.seconds}`);
});

/** Sends that are answered at once until `untilMs`, and then not before they are cut or run out of time. */
function silentFrom(untilMs: number, deadlineMs: number) {
  return async (clock: VirtualClock, _: string, signal: AbortSignal) => {
    if (clock.now() < untilMs) return await clock.sleep(100);
    await clock.sleep(deadlineMs, signal);
    throw signal.aborted ? new CancelledError("cut") : new DeadlineExceededError("late");
  };
}

Deno.test("a server that only lets requests run out of time is a stall, unless that is the point", async () => {
  const values = {
    durationSeconds: "600",
    reportSeconds: "5",
    stallWindows: "4",
    metrics: "off",
    concurrency: "4",
  };
  const silent = await load(values, silentFrom(20_000, 10_000));
  assert.equal(silent.result.code, 4);
  assert.ok(silent.result.seconds < 60, `${silent.result.seconds}`);
  const wanted = await load(
    { ...values, durationSeconds: "60", deadlineSeconds: "2" },
    silentFrom(20_000, 2000),
  );
  assert.equal(wanted.result.code, 0);
});

Deno.test("a signal ends the sending; what is still in flight after a while is given up and no error", async () => {
  const stop = new AbortController();
  const { result } = await load(
    { durationSeconds: "600", metrics: "off", concurrency: "4", reportSeconds: "60" },
    (clock, model, signal) => {
      if (clock.now() >= 5000) stop.abort();
      return silentFrom(5000, 300_000)(clock, model, signal);
    },
    { stop: stop.signal },
  );
  assert.ok(result.seconds >= 5 && result.seconds < 9, `${result.seconds}`);
  // The first of the four that is not answered stops the others.
  assert.deepEqual([result.code, result.abandoned, result.tally.errors], [0, 1, 0]);
  assert.ok(result.tally.counts.ok >= 4 * 49, `${result.tally.counts.ok}`);
});

Deno.test("what a signal ended is told with the counters as they are then", async () => {
  const stop = new AbortController();
  const { result, lines } = await load(
    { durationSeconds: "600", concurrency: "2" },
    async (clock) => {
      await clock.sleep(100);
      if (clock.now() >= 5000) stop.abort();
    },
    {
      stop: stop.signal,
      scrape: async (signal) => {
        await Promise.resolve();
        return signal.aborted ? undefined : counters(stop.signal.aborted ? 7 : 3, 0);
      },
    },
  );
  assert.match(lines.at(-1)!, / loads=7\(\+4\) /);
  assert.equal(result.countersAfter?.loads, 7);
});

Deno.test("a second signal waits for nothing, and in the warm-up the first does not either", async () => {
  const [stop, abandon] = [new AbortController(), new AbortController()];
  let asked = 0;
  const { result } = await load(
    { durationSeconds: "600", metrics: "off", concurrency: "1", reportSeconds: "60" },
    (clock, model, signal) => {
      if (++asked === 3) {
        stop.abort();
        void clock.sleep(10).then(() => abandon.abort());
      }
      return silentFrom(asked < 3 ? 1e9 : 0, 300_000)(clock, model, signal);
    },
    { stop: stop.signal, abandon: abandon.signal },
  );
  assert.ok(result.seconds < 1, `${result.seconds}`);
  assert.deepEqual([result.tally.counts.ok, result.abandoned], [2, 1]);

  const early = new AbortController();
  const warmUp = await load(
    { durationSeconds: "600", metrics: "off", warmup: "true" },
    (clock, model, signal) => {
      early.abort();
      return silentFrom(0, 300_000)(clock, model, signal);
    },
    { stop: early.signal, models: ["a", "b"] },
  );
  assert.deepEqual([warmUp.result.tally.finished, warmUp.result.abandoned], [0, 1]);
  assert.ok(warmUp.result.seconds < 1);
  assert.equal(warmUp.result.code, 3);
});

Deno.test("a mistake of the program ends the run when nothing is in flight any more, and is thrown", async () => {
  for (const rate of ["0", "100"]) {
    let [calls, inFlight] = [0, 0];
    const run = load(
      { durationSeconds: "600", metrics: "off", concurrency: "4", rate },
      async (clock, model, signal) => {
        if (++calls === 20) throw new TypeError("a mistake");
        inFlight++;
        await silentFrom(100, 9000)(clock, model, signal).finally(() => inFlight--);
      },
    );
    await assert.rejects(run, /a mistake/);
    assert.equal(inFlight, 0);
  }
});

Deno.test("the warm-up waits for models that are on their way, but not for ever", async () => {
  const { result, lines } = await load(
    { durationSeconds: "1", metrics: "off", warmup: "true", warmupDeadline: "60" },
    async (clock, model) => {
      await clock.sleep(10);
      const readyMs = { a: 5000, b: 20_000 }[model]!;
      if (clock.now() < readyMs) throw new UnavailableError(`${model} is still loading`);
    },
    { models: ["a", "b"] },
  );
  assert.equal(result.code, 0);
  assert.deepEqual(lines.slice(0, 2), [
    "waiting for a: UNAVAILABLE: a is still loading",
    "waiting for b: UNAVAILABLE: b is still loading",
  ]);
  const gone = await load(
    { durationSeconds: "1", metrics: "off", warmup: "true", warmupDeadline: "60" },
    (clock) => {
      assert.ok(clock.now() < 65_000);
      return Promise.reject(new UnavailableError("refused"));
    },
    { models: ["a", "b"] },
  );
  assert.equal(gone.result.code, 1);
});

Deno.test("reports come at their times although the page takes its own", async () => {
  let clockOfRun: VirtualClock | undefined;
  const { lines } = await load(
    { durationSeconds: "12", reportSeconds: "4", concurrency: "1" },
    (clock) => {
      clockOfRun = clock;
      return clock.sleep(100);
    },
    {
      scrape: async () => {
        await clockOfRun?.sleep(3000);
        return undefined;
      },
    },
  );
  const times = lines.flatMap((line) => /^\[t\+(\d+)s\]/.exec(line)?.[1] ?? []);
  // Each is printed when the page has been waited for.
  assert.deepEqual(times.slice(0, 2), ["7", "11"]);
});

Deno.test("a ramp does not take sheds of before it began for its own", async () => {
  let scrapes = 0;
  const { result } = await load(
    { durationSeconds: "60", rampStepSeconds: "1", rampStart: "4", rampMax: "8" },
    (clock) => clock.sleep(10),
    // The page could not be had at the start, and the node has shed requests earlier.
    { scrape: () => Promise.resolve(scrapes++ === 0 ? undefined : counters(0, 0, 7)) },
  );
  assert.deepEqual([result.ramp?.concurrency, result.ramp?.hasShed], [8, false]);
});

Deno.test("a ramp stops where requests are shed and reports that concurrency", async () => {
  let inFlight = 0;
  const { result, lines } = await load(
    {
      durationSeconds: "60",
      rampStepSeconds: "1",
      rampStart: "2",
      rampFactor: "2",
      rampMax: "64",
      reportSeconds: "1",
      metrics: "off",
    },
    async (clock) => {
      if (inFlight >= 10) throw new ResourceExhaustedError("too many");
      inFlight++;
      await clock.sleep(10);
      inFlight--;
    },
  );
  assert.equal(result.ramp?.concurrency, 16);
  assert.equal(result.ramp?.hasShed, true);
  assert.ok(result.ramp!.rate > 900 && result.ramp!.rate < 1100, `${result.ramp!.rate}`);
  assert.ok(result.seconds < 5);
  // A ramp means to get there.
  assert.equal(result.code, 0);
  assert.match(lines[0]!, /^\[t\+1s\] conc=[24] ok=/);
});

Deno.test("a ramp without an end to what the server takes stops at its last step", async () => {
  const { result } = await load(
    { durationSeconds: "60", rampStepSeconds: "1", rampStart: "4", rampMax: "6", metrics: "off" },
    (clock) => clock.sleep(10),
  );
  assert.deepEqual([result.ramp?.concurrency, result.ramp?.hasShed], [6, false]);
  const names: string[] = [];
  const collect = (value: unknown) => {
    if (typeof value !== "object" || value === null || value instanceof Map) return;
    if (!Array.isArray(value)) names.push(...Object.keys(value));
    Object.values(value).forEach(collect);
  };
  collect(resultAsJson(result, settingsWith({})));
  assert.ok(names.includes("has_shed"));
  // Names of the JSON are of one spelling.
  assert.deepEqual(names.filter((name) => /[^a-z0-9_]/.test(name)), []);
});

Deno.test("the JSON has counters under names of the same spelling", async () => {
  const { result } = await load(
    { durationSeconds: "1" },
    (clock) => clock.sleep(10),
    { scrape: () => Promise.resolve(counters(3, 1, 2)) },
  );
  const { counters: found } = resultAsJson(result, {}) as Record<string, Record<string, unknown>>;
  const sums = { loads: 3, evicts: 1, gateway_shed: 2, worker_shed: 0 };
  assert.deepEqual(found, { before: sums, after: sums });
});

Deno.test("the exit code says what was wrong, and the first error is shown once", async () => {
  const run = (failure: Error, values: Partial<Record<keyof LoadgenSettings, string>> = {}) => {
    let calls = 0;
    return load(
      { durationSeconds: "1", concurrency: "1", metrics: "off", reportSeconds: "5", ...values },
      async (clock) => {
        await clock.sleep(10);
        if (++calls % 2 === 0) throw failure;
      },
    );
  };
  const broken = await run(new UnavailableError("gone"));
  assert.equal(broken.result.code, 1);
  assert.match(broken.result.verdict, /^FAILED: \d+ errors$/);
  assert.deepEqual(
    broken.lines.filter((line) => line.includes("first error")),
    ["first error: m: UNAVAILABLE: gone"],
  );
  const cut = await run(new InternalError("stream reset"));
  assert.deepEqual(
    cut.lines.filter((line) => line.includes("first error")),
    ["first error: m: INTERNAL: stream reset"],
  );
  const late = new DeadlineExceededError("late");
  assert.equal((await run(late)).result.code, 1);
  assert.equal((await run(late, { deadlineSeconds: "0.5" })).result.code, 0);
  assert.equal((await run(new ResourceExhaustedError("full"))).result.code, 1);
  assert.equal((await run(new InternalError("stream reset"))).result.code, 1);
  assert.equal(
    (await run(new InternalError("stream reset"), { deadlineSeconds: "1" })).result.code,
    0,
  );
  const none = await load(
    { durationSeconds: "1", concurrency: "1", metrics: "off", minOkPerModel: "5" },
    (clock) => clock.sleep(300),
  );
  assert.equal(none.result.code, 3);
  assert.deepEqual(none.result.shortfalls, ["m has 4 successes of 5"]);
  const dead = await load(
    { durationSeconds: "1", concurrency: "1", metrics: "off", deadlineSeconds: "0.1" },
    silentFrom(0, 100),
  );
  assert.deepEqual([dead.result.code, dead.result.verdict], [3, "SHORTFALL: no request succeeded"]);
});

Deno.test("a server that fails every call at once does not keep the loop from ending", async () => {
  const { result } = await load(
    { durationSeconds: "30", concurrency: "8", metrics: "off" },
    () => Promise.reject(new UnavailableError("refused")),
  );
  // Each worker backs off to one attempt a second.
  assert.ok(result.tally.counts.error < 8 * 60, `${result.tally.counts.error}`);
  assert.equal(result.tally.samples.error.length, 20);
});

Deno.test("outcomeOf() tells overload, lateness and cut connections from errors", () => {
  const kinds = [
    new DeadlineExceededError("x"),
    new UnavailableError("the deadline passed before dispatch"),
    new UnavailableError("connection refused"),
    new ResourceExhaustedError("x"),
    new InternalError(""),
    new InternalError("Received RST_STREAM with code 2"),
    new InternalError("the hook failed"),
  ].map((error) => outcomeOf(error).kind);
  assert.deepEqual(kinds, ["dead", "dead", "error", "shed", "teardown", "teardown", "error"]);
  assert.equal(
    outcomeOf(new InternalError("two\r\nlines\x1b[31m")).text,
    "INTERNAL: two lines [31m",
  );
});
