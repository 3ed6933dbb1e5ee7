import assert from "node:assert/strict";
import type { DisciplineName } from "../config/mod.ts";
import { DISCIPLINES } from "./disciplines/mod.ts";
import type { Work } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";

/** What the schedulers promise, on a device whose clock is set by what it runs. */
class Bench {
  nowMs = 0;
  readonly ran: { model: string; value: number; endMs: number }[] = [];
  readonly scheduler: Scheduler;
  /** Called as each dispatch ends: who comes then finds the next one not chosen yet. */
  onRun = () => {};
  readonly #models = new Map<string, ScheduledModel>();

  constructor(discipline: DisciplineName) {
    this.scheduler = new Scheduler({
      discipline: DISCIPLINES[discipline],
      shedsByCost: discipline === "edf",
      parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
      halfLifeSeconds: 30,
      costAlpha: 0.2,
      maxQueueDepth: 100_000,
      now: () => this.nowMs,
    });
  }

  /** A model that runs one request at a time. */
  add(name: string, costMs: number): void {
    const model: ScheduledModel = {
      name,
      isCoalescable: false,
      maxRows: undefined,
      weight: 1,
      sizes: () => [1],
      inputBatchAxes: [0],
      outputBatchAxes: [0],
      run: ({ inputs }) => {
        this.nowMs += costMs;
        const value = new DataView(inputs[0]!.data.buffer).getUint32(0);
        this.ran.push({ model: name, value, endMs: this.nowMs });
        this.onRun();
        const stages = { input: 0, execute: costMs / 1000, output: 0 };
        return Promise.resolve({ outputs: [{ ...inputs[0]!, name: "y" }], stages });
      },
    };
    this.#models.set(name, model);
    this.scheduler.admit(model);
  }

  submit(name: string, value: number, deadlineMs?: number): Promise<unknown> {
    const data = new Uint8Array(4);
    new DataView(data.buffer).setUint32(0, value);
    const work: Work = {
      inputs: [{ name: "x", datatype: "UINT8", shape: [1, 4], data }],
      rows: 1,
      variantKey: "",
      deadlineMs,
      isAborted: () => false,
    };
    return this.scheduler.submit(this.#models.get(name)!, work);
  }

  /** A client that sends again as soon as it is answered. */
  async saturate(name: string, untilMs: number): Promise<void> {
    while (this.nowMs < untilMs) await this.submit(name, 0);
  }
}

Deno.test("fifo runs a backlog of several models in exactly the order it came in", async () => {
  const bench = new Bench("fifo");
  const names = ["a", "b", "c", "d"];
  names.forEach((name, index) => bench.add(name, 1 + index * 20));
  // A fixed shuffle: the models come by turns of no pattern.
  const arrivals = Array.from({ length: 400 }, (_, value) => names[value * 7919 % 101 % 4]!);
  await Promise.all(arrivals.map((name, value) => bench.submit(name, value)));
  assert.deepEqual(bench.ran.map(({ model }) => model), arrivals);
  assert.deepEqual(bench.ran.map(({ value }) => value), arrivals.map((_, value) => value));
});

Deno.test("edf runs the most urgent request of all next, also from behind others of its model", async () => {
  const bench = new Bench("edf");
  for (const name of ["a", "b"]) bench.add(name, 10);
  const deadlines: [string, number][] = [["a", 900], ["a", 500], ["b", 400], ["a", 300], [
    "b",
    700,
  ]];
  const waiting = deadlines.map(([name, deadlineMs]) => bench.submit(name, deadlineMs, deadlineMs));
  waiting.push(bench.submit("b", 0));
  await Promise.all(waiting);
  assert.deepEqual(bench.ran.map(({ value }) => value), [300, 400, 500, 700, 900, 0]);
});

Deno.test("fair: an expensive model does not starve a cheap one, nor the cheap one it", async () => {
  const bench = new Bench("fair");
  bench.add("cheap", 1);
  bench.add("expensive", 100);
  const untilMs = 60_000;
  await Promise.all(["cheap", "cheap", "expensive", "expensive", "expensive", "expensive"]
    .map((name) => bench.saturate(name, untilMs)));
  const seconds = (name: string) => bench.scheduler.queueOf(name)!.counters.computeSeconds;
  const share = seconds("cheap") / (seconds("cheap") + seconds("expensive"));
  assert.ok(Math.abs(share - 0.5) < 0.025, `the cheap model got ${share} of the device`);
});

Deno.test("fair: models that have no work take nothing from the shares of those that have", async () => {
  const bench = new Bench("fair");
  bench.add("cheap", 1);
  bench.add("expensive", 100);
  for (let index = 0; index < 20; index++) bench.add(`idle${index}`, 1);
  const untilMs = 60_000;
  await Promise.all(
    ["cheap", "cheap", "expensive", "expensive"].map((name) => bench.saturate(name, untilMs)),
  );
  const seconds = (name: string) => bench.scheduler.queueOf(name)!.counters.computeSeconds;
  const share = seconds("cheap") / (seconds("cheap") + seconds("expensive"));
  assert.ok(Math.abs(share - 0.5) < 0.025, `the cheap model got ${share} of the device`);
});

Deno.test("fair: five saturated models of very different costs get equal parts", async () => {
  const bench = new Bench("fair");
  const costs = [1, 3, 10, 30, 100];
  for (const costMs of costs) bench.add(`m${costMs}`, costMs);
  bench.add("idle", 1);
  const clients = costs.flatMap((costMs) => [`m${costMs}`, `m${costMs}`]);
  await Promise.all(clients.map((name) => bench.saturate(name, 120_000)));
  for (const costMs of costs) {
    const { computeSeconds } = bench.scheduler.queueOf(`m${costMs}`)!.counters;
    assert.ok(Math.abs(computeSeconds / 120 - 0.2) < 0.02, `m${costMs}: ${computeSeconds} s`);
  }
});

Deno.test("fair: a request of an idle cheap model waits for one dispatch of a busy expensive one", async () => {
  const bench = new Bench("fair");
  bench.add("cheap", 1);
  bench.add("expensive", 100);
  const waits: number[] = [];
  let nextMs = 0;
  bench.onRun = () => {
    if (bench.nowMs < nextMs) return;
    // Comes once a second, in the middle of a dispatch as far as the clock is concerned.
    nextMs = bench.nowMs + 1000;
    const fromMs = bench.nowMs - 50;
    void bench.submit("cheap", 0).then(() => waits.push(bench.nowMs - fromMs));
  };
  await Promise.all([1, 2, 3, 4].map(() => bench.saturate("expensive", 20_000)));
  assert.ok(waits.length > 10);
  // What is left of the one that runs, and itself.
  assert.ok(Math.max(...waits) <= 51, `${waits}`);
});
