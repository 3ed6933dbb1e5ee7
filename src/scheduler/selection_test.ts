/** What is remembered between choices against choices made from nothing, on random traces. */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import { planBatch } from "./batch_plan.ts";
import { DISCIPLINES } from "./disciplines/mod.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";
import { DEFAULT_COST_SECONDS } from "./selection.ts";

const NAMES = ["a", "b", "c", "d"];
const VARIANTS = ["", "wide"];
const SIZES = [1, 2, 4];
const PARAMETERS = { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 };

/** A request as the test knows it. */
interface Known {
  readonly id: number;
  readonly model: ScheduledModel;
  readonly rows: number;
  readonly variantKey: string;
  readonly deadlineMs: number | undefined;
  readonly isCommitted: boolean;
  readonly enqueuedMs: number;
  isAborted: boolean;
  state: "waits" | "ran" | "failed";
}

type DisciplineName = keyof typeof DISCIPLINES;

/** Runs a trace; every dispatch is compared with what all that waits would have it be. */
async function replay(
  { discipline, seed, gathers, waitMs }: {
    discipline: DisciplineName;
    seed: number;
    gathers: boolean;
    waitMs: number;
  },
): Promise<{ ran: number; failed: number; dispatches: number }> {
  let state = seed;
  const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const below = (count: number) => Math.floor(random() * count);
  const shedsByCost = discipline === "edf";
  let nowMs = 0;
  let dispatches = 0;
  const known: Known[] = [];
  const runnable = new Map(NAMES.map((name) => [name, true]));
  const current = new Map<string, ScheduledModel>();
  const problems: string[] = [];
  let finish: (() => void) | undefined;
  let isOver = false;

  const scheduler = new Scheduler({
    discipline: DISCIPLINES[discipline],
    shedsByCost,
    parameters: PARAMETERS,
    halfLifeSeconds: 0.2,
    costAlpha: 0.3,
    maxQueueDepth: 1000,
    now: () => nowMs,
    batchWaitMs: () => waitMs,
    ...(gathers ? { nextTurn: () => settle() } : {}),
  });

  /** What waits for a name, in order, as far as it is alive at its turn. */
  const waiting = (name: string) =>
    known.filter((one) => one.state === "waits" && one.model.name === name)
      .sort((a, b) =>
        Number(b.isCommitted) - Number(a.isCommitted) || urgency(a, b) || a.id - b.id
      );
  const urgency = (a: Known, b: Known) => {
    if (discipline !== "edf" || a.isCommitted) return 0;
    const [first, second] = [a.deadlineMs ?? 1e12, b.deadlineMs ?? 1e12];
    return first - second;
  };
  const isDead = (one: Known) => {
    if (one.isAborted) return true;
    if (one.deadlineMs === undefined) return false;
    const costs = scheduler.queueOf(one.model.name)!.costs.get(one.variantKey);
    const least = costs?.size ? Math.min(...costs.values()) : DEFAULT_COST_SECONDS;
    const margin = shedsByCost && !one.isCommitted ? 1000 * least : 0;
    return nowMs + margin >= one.deadlineMs;
  };

  /** The choice made from nothing: ids of the batch and its size. */
  const expected = (): { ids: number[]; size: number } | undefined => {
    const fit = [];
    for (const name of NAMES) {
      const queue = scheduler.queueOf(name);
      if (!queue) continue;
      let all = waiting(name);
      // Only what could be part of the next batch is looked at; the rest stays where it is.
      for (;;) {
        const reach = new Set(all.slice(0, SIZES.at(-1)).filter(isDead));
        if (reach.size === 0) break;
        all = all.filter((one) => !reach.has(one));
      }
      const [front] = all;
      if (!front || !runnable.get(name)) continue;
      const costs = queue.costs.get(front.variantKey);
      const plan = planBatch(all, {
        sizes: SIZES,
        isCoalescable: true,
        maxRows: undefined,
        costs: queue.planningCosts(front.variantKey),
      });
      const deadlines = all.map(({ deadlineMs }) => deadlineMs ?? Infinity);
      const untilMs = Math.min(...all.map(({ enqueuedMs }) => enqueuedMs)) + waitMs;
      const costMs = 1000 * Math.max(costs?.get(plan.size) ?? 0, DEFAULT_COST_SECONDS);
      const mayWait = waitMs > 0 && !front.isCommitted &&
        untilMs + costMs < Math.min(...deadlines) &&
        all.every((one) => one.variantKey === front.variantKey && one.model === front.model) &&
        all.reduce((sum, { rows }) => sum + rows, 0) < SIZES.at(-1)!;
      if (mayWait && untilMs > nowMs) continue;
      fit.push({
        all,
        plan,
        candidate: {
          name,
          frontOrder: front.id,
          earliestDeadline: shedsByCost ? Math.min(...deadlines) : Infinity,
          weight: queue.weight,
          recentCompute: recent(name),
          plannedCost: costs?.get(plan.size) ?? DEFAULT_COST_SECONDS,
          plannedRows: plan.rows,
          isCoalesced: plan.take > 1,
        },
        hasCommitted: front.isCommitted,
      });
    }
    const committed = fit.filter(({ hasCommitted }) => hasCommitted);
    const among = committed.length > 0 ? committed : fit;
    if (among.length === 0) return undefined;
    const choose = committed.length > 0 ? DISCIPLINES.fifo : DISCIPLINES[discipline];
    const candidates = among.map(({ candidate }) => candidate);
    const chosen = among[candidates.indexOf(choose(candidates, PARAMETERS))]!;
    return {
      ids: chosen.all.slice(0, chosen.plan.take).map(({ id }) => id),
      size: chosen.plan.size,
    };
  };
  /** Booked device time by name, each halved by its age: the sum the decay clock stands for. */
  const booked = new Map<string, { atMs: number; seconds: number }[]>();
  const recent = (name: string) =>
    (booked.get(name) ?? []).reduce(
      (sum, { atMs, seconds }) => sum + seconds / 2 ** ((nowMs - atMs) / 200),
      0,
    );

  const makeModel = (name: string): ScheduledModel => {
    const model: ScheduledModel = {
      name,
      isCoalescable: true,
      maxRows: undefined,
      weight: 1 + NAMES.indexOf(name),
      sizes: () => SIZES,
      inputBatchAxes: [0],
      outputBatchAxes: [0],
      isRunnable: () => runnable.get(name)!,
      run: async ({ size, inputs }) => {
        dispatches++;
        const ids = [...new Set(new Uint32Array(inputs[0]!.data.slice().buffer))]
          .filter((id) => id > 0).map((id) => id - 1);
        // Asked in the same breath as the choice was made: nothing has changed since.
        const should = expected();
        if (JSON.stringify({ ids, size }) !== JSON.stringify(should)) {
          problems.push(`${JSON.stringify({ ids, size })} ran, not ${JSON.stringify(should)}`);
        }
        for (const id of ids) known[id]!.state = "ran";
        const startMs = nowMs;
        if (!isOver) await new Promise<void>((resolve) => finish = resolve);
        nowMs += 1 + below(8) + size;
        const bookings = booked.get(name) ?? [];
        booked.set(name, [...bookings, { atMs: nowMs, seconds: (nowMs - startMs) / 1000 }]);
        return { outputs: [...inputs], stages: { input: 0, execute: 0, output: 0 } };
      },
    };
    return model;
  };
  for (const name of NAMES) {
    const model = makeModel(name);
    current.set(name, model);
    scheduler.admit(model);
  }

  const submit = () => {
    const name = NAMES[below(NAMES.length)]!;
    const id = known.length;
    const one: Known = {
      id,
      model: current.get(name)!,
      rows: 1 + below(3),
      variantKey: VARIANTS[below(10) < 8 ? 0 : 1]!,
      deadlineMs: below(3) === 0 ? nowMs + 5 + below(120) : undefined,
      isCommitted: below(12) === 0,
      enqueuedMs: nowMs,
      isAborted: false,
      state: "waits",
    };
    known.push(one);
    const data = new Uint8Array(new Uint32Array(one.rows).fill(id + 1).buffer);
    scheduler.submit(one.model, {
      inputs: [{ name: "x", datatype: "UINT32", shape: [one.rows], data }],
      rows: one.rows,
      variantKey: one.variantKey,
      deadlineMs: one.deadlineMs,
      isAborted: () => one.isAborted,
      isCommitted: one.isCommitted,
    }).then(
      () => assert.equal(one.state, "ran"),
      () => {
        one.state = "failed";
      },
    );
  };
  const changes: (() => void)[] = [
    submit,
    submit,
    submit,
    submit,
    () => {
      const one = known[below(known.length)];
      if (one?.state === "waits") one.isAborted = true;
    },
    () => {
      const name = NAMES[below(NAMES.length)]!;
      runnable.set(name, !runnable.get(name));
      scheduler.wake();
    },
    () => {
      const queue = scheduler.queueOf(NAMES[below(NAMES.length)]!);
      if (queue) queue.weight = 1 + below(5);
    },
    () => {
      const name = NAMES[below(NAMES.length)]!;
      scheduler.seedCost(name, VARIANTS[below(2)]!, SIZES[below(3)]!, (1 + below(20)) / 1000);
    },
    () => {
      // The next version: what waits still runs on the one before, never in one batch with it.
      const name = NAMES[below(NAMES.length)]!;
      current.set(name, makeModel(name));
    },
    () => {
      if (below(4) > 0) return;
      const model = current.get(NAMES[below(NAMES.length)]!)!;
      for (const one of known) {
        if (one.model === model && one.state === "waits") one.state = "failed";
      }
      scheduler.reject(model, new Error("lost"));
    },
    () => nowMs += below(6),
  ];
  for (let step = 0; step < 400; step++) {
    for (let count = below(6); count >= 0; count--) changes[below(changes.length)]!();
    if (below(3) > 0) finish?.();
    await settle();
  }
  assert.deepEqual(problems.slice(0, 3), []);
  const count = (state: Known["state"]) => known.filter((one) => one.state === state).length;
  const stopped = scheduler.shutdown(0);
  isOver = true;
  finish?.();
  await stopped;
  return { ran: count("ran"), failed: count("failed"), dispatches };
}

const settle = () => new Promise<void>((resolve) => void setImmediate(resolve));

for (const discipline of ["fifo", "edf", "fair"] as const) {
  Deno.test(`what ${discipline} runs is what a choice from nothing would run`, async () => {
    const totals = { ran: 0, failed: 0, dispatches: 0 };
    for (let seed = 1; seed <= 12; seed++) {
      const waitMs = seed % 3 === 0 ? 15 : 0;
      const found = await replay({ discipline, seed, gathers: seed % 2 === 0, waitMs });
      totals.ran += found.ran;
      totals.failed += found.failed;
      totals.dispatches += found.dispatches;
    }
    // The traces are not idle ones.
    assert.ok(totals.dispatches > 500 && totals.ran > totals.dispatches, JSON.stringify(totals));
    assert.ok(totals.failed > 100, JSON.stringify(totals));
  });
}
