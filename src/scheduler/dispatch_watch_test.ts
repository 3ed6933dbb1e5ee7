import assert from "node:assert/strict";
import type { ServerError } from "../errors.ts";
import { DISCIPLINES } from "./disciplines/mod.ts";
import { DispatchWatch } from "./dispatch_watch.ts";
import type { Work } from "./queue.ts";
import type { RunOptions, RunOutcome, ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";

/** A watch whose clock the test moves, and what it told. */
function watched(timeoutMs = 30_000) {
  const clock = { ms: 1000 };
  const told: string[] = [];
  const watch = new DispatchWatch({
    timeoutMs,
    now: () => clock.ms,
    onOverdue: (model) => told.push(`${model} is overdue`),
    onReturned: (model, seconds) => told.push(`${model} took ${seconds}`),
  });
  /** Lets time pass, with looks as `start` has them made. */
  const pass = (ms: number) => {
    for (const endMs = clock.ms + ms; clock.ms < endMs;) {
      clock.ms = Math.min(endMs, clock.ms + 1000);
      watch.look();
    }
  };
  return { clock, told, watch, pass };
}

/** Work that tells how it was given up. */
function work(given: ServerError[], name = "x"): Work {
  return {
    inputs: [{ name, datatype: "UINT8", shape: [1, 1], data: new Uint8Array(1) }],
    rows: 1,
    variantKey: "",
    deadlineMs: undefined,
    isAborted: () => given.length > 0,
    giveUp: (reason) => given.push(reason),
  };
}

/** Lets everything else go on. */
const turn = () => new Promise((resolve) => setTimeout(resolve, 0));

Deno.test("a dispatch that takes longer than it may is answered once, and told of until it is over", () => {
  const { told, watch, pass } = watched();
  const given: ServerError[] = [];
  const slow = watch.begin("slow", [work(given), work(given)]);
  pass(20_000);
  const quick = watch.begin("quick", [work(given)]);
  pass(9_000);
  assert.deepEqual([given, told, watch.overdue], [[], [], undefined]);
  pass(2_000);
  assert.deepEqual(given.map(({ status }) => status), ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]);
  assert.match(
    given[0]!.message,
    /^Running model "slow" takes longer than 30 s \(scheduler\.dispatch_timeout_seconds\)$/,
  );
  assert.deepEqual([told, watch.overdue], [["slow is overdue"], slow]);
  watch.end(quick);
  pass(14_000);
  watch.end(slow);
  assert.deepEqual([told, watch.overdue], [["slow is overdue", "slow took 45"], undefined]);
});

Deno.test("time does not count while weights are waited for, nor while this process stood still", () => {
  const { clock, told, watch, pass } = watched();
  const dispatch = watch.begin("m", []);
  dispatch.isWaiting = true;
  pass(100_000);
  dispatch.isWaiting = false;
  pass(10_000);
  clock.ms += 600_000;
  watch.look();
  assert.deepEqual(told, []);
  pass(18_000);
  assert.deepEqual(told, ["m is overdue"]);
});

Deno.test("requests of a hanging device are answered, those that wait for it stay, and it goes on later", async () => {
  const { told, watch, pass } = watched();
  const scheduler = new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 10,
    watch,
  });
  const runs: PromiseWithResolvers<RunOutcome>[] = [];
  const options: RunOptions[] = [];
  const model: ScheduledModel = {
    name: "m",
    isCoalescable: false,
    maxRows: undefined,
    weight: 1,
    sizes: () => [1],
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: (run) => {
      options.push(run);
      runs.push(Promise.withResolvers());
      return runs.at(-1)!.promise;
    },
  };
  scheduler.admit(model);
  const [first, second]: ServerError[][] = [[], []];
  const stuck = scheduler.submit(model, work(first!));
  const next = scheduler.submit(model, work(second!));
  while (runs.length === 0) await turn();
  options[0]!.onWaiting!();
  pass(60_000);
  options[0]!.onWait!(60);
  pass(31_000);
  assert.deepEqual([first!.length, second!.length, told], [1, 0, ["m is overdue"]]);
  const outcome = (value: number): RunOutcome => ({
    outputs: [{ name: "y", datatype: "UINT8", shape: [1, 1], data: new Uint8Array([value]) }],
    stages: { input: 0, execute: 1, output: 0 },
  });
  runs[0]!.resolve(outcome(1));
  assert.equal((await stuck)[0]!.data[0], 1, "whoever holds its memory hears when it is over");
  while (runs.length === 1) await turn();
  assert.deepEqual(told, ["m is overdue", "m took 91"]);
  runs[1]!.resolve(outcome(2));
  assert.equal((await next)[0]!.data[0], 2);
  assert.equal(watch.overdue, undefined);
});

Deno.test("start() looks by itself", async () => {
  const { promise, resolve } = Promise.withResolvers<string>();
  const watch = new DispatchWatch({
    timeoutMs: 20,
    now: () => performance.now(),
    onOverdue: resolve,
    onReturned: () => {},
  });
  using _looks = watch.start();
  watch.begin("m", []);
  assert.equal(await promise, "m");
});
