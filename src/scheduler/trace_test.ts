import assert from "node:assert/strict";
import { DISCIPLINES } from "./disciplines/mod.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";

/** One arrival of a recorded load. */
interface Arrival {
  readonly atMs: number;
  readonly model: string;
  readonly deadlineMs: number;
}

/** Milliseconds one dispatch of each model takes. */
const COSTS: Readonly<Record<string, number>> = { quick: 3, slow: 11 };

/**
 * Replays arrivals on a virtual clock that only the device moves.
 * @returns arrivals in the order they ran, and how many of them were done by their deadlines
 */
async function replay(
  arrivals: readonly Arrival[],
  discipline: "fifo" | "edf",
): Promise<{ ran: Arrival[]; met: number }> {
  let nowMs = 0;
  let next = 0;
  const ran: Arrival[] = [];
  const pending: Promise<unknown>[] = [];
  const models = new Map<string, ScheduledModel>();
  const scheduler = new Scheduler({
    discipline: DISCIPLINES[discipline],
    shedsByCost: discipline === "edf",
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 10_000,
    now: () => nowMs,
  });
  const admitDue = () => {
    while (next < arrivals.length && arrivals[next]!.atMs <= nowMs) {
      const { model, deadlineMs } = arrivals[next]!;
      const index = new Uint8Array(new Uint32Array([next++]).buffer);
      const tensor = { name: "i", datatype: "UINT32", shape: [1], data: index } as const;
      const work = {
        inputs: [tensor],
        rows: 1,
        variantKey: "",
        deadlineMs,
        isAborted: () => false,
      };
      pending.push(scheduler.submit(models.get(model)!, work).catch(() => {}));
    }
  };
  for (const [name, costMs] of Object.entries(COSTS)) {
    const model: ScheduledModel = {
      name,
      isCoalescable: false,
      maxRows: undefined,
      weight: 1,
      sizes: () => [1],
      inputBatchAxes: [0],
      outputBatchAxes: [0],
      run: ({ inputs }) => {
        nowMs += costMs;
        ran.push(arrivals[new Uint32Array(inputs[0]!.data.slice().buffer)[0]!]!);
        if (nowMs <= ran.at(-1)!.deadlineMs) met++;
        admitDue();
        const stages = { input: 0, execute: costMs / 1000, output: 0 };
        return Promise.resolve({ outputs: [inputs[0]!], stages });
      },
    };
    models.set(name, model);
    scheduler.admit(model);
    scheduler.seedCost(name, "", 1, costMs / 1000);
  }
  let met = 0;
  while (next < arrivals.length) {
    nowMs = Math.max(nowMs, arrivals[next]!.atMs);
    admitDue();
    await Promise.all(pending.splice(0));
  }
  await Promise.all(pending);
  return { ran, met };
}

/** A load from a fixed seed: more work than the device can do, budgets as `budgetMs` draws them. */
function overload(count: number, budgetMs: (random: () => number) => number): Arrival[] {
  let state = 12345;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  let atMs = 0;
  return Array.from({ length: count }, () => {
    atMs += random() * 8; // 4 ms between arrivals on average; a dispatch takes 5.4 ms on average
    const model = random() < 0.7 ? "quick" : "slow";
    return { atMs, model, deadlineMs: atMs + budgetMs(random) };
  });
}

Deno.test("edf meets more deadlines than fifo on the same overloaded trace, and starts nothing in vain", async () => {
  const arrivals = overload(3000, (random) => 15 + random() * 120);
  const [fifo, edf] = [await replay(arrivals, "fifo"), await replay(arrivals, "edf")];
  assert.ok(
    edf.met > fifo.met * 1.05,
    `edf met ${edf.met}, fifo ${fifo.met} of ${arrivals.length}`,
  );
  assert.equal(edf.met, edf.ran.length, "something ran that could not finish in time");
  assert.ok(fifo.met < fifo.ran.length);
});

Deno.test("edf is fifo while every request has the same budget and the device keeps up", async () => {
  const calm = overload(1000, () => 1e9).map((arrival, index) => ({
    ...arrival,
    atMs: index * 4,
    deadlineMs: index * 4 + 1e9,
  }));
  const [fifo, edf] = [await replay(calm, "fifo"), await replay(calm, "edf")];
  assert.deepEqual(edf.ran, fifo.ran);
  assert.deepEqual(fifo.ran.map(({ atMs }) => atMs), calm.map(({ atMs }) => atMs));
});
