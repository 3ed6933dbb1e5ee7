import assert from "node:assert/strict";
import {
  CancelledError,
  DeadlineExceededError,
  InternalError,
  ResourceExhaustedError,
  UnavailableError,
} from "../errors.ts";
import { AnswerCheck } from "./answer_check.ts";
import type { PreparedRequest } from "./load_model.ts";
import { LoadRun } from "./load_run.ts";
import { outcomeOf } from "./outcome.ts";
import { Picker } from "./picker.ts";
import { Random } from "./random.ts";
import type { LoadResult } from "./report.ts";
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
  { models = ["m"], scrape }: {
    models?: string[];
    scrape?: () => Promise<NodeCounters | undefined>;
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
    senders: [sender],
    check: new AnswerCheck("none", 0),
    scrape,
    clock,
    print: (line) => lines.push(line),
    stop: new AbortController().signal,
  });
  const result = await run.run();
  await clock.settled();
  return { result, lines };
}

function counters(loads: number, evicts: number, shed = 0): NodeCounters {
  return { loads, evicts, gatewayShed: shed, workerShed: 0 };
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
  assert.throws(() => outcomeOf(new TypeError("a defect")), TypeError);
});
