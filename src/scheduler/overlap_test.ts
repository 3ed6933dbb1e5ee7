/** Copies beside computing change when things happen, and nothing about what is chosen. */

import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type { DisciplineName } from "../config/mod.ts";
import type { DispatchRecord } from "./batch_run.ts";
import { DISCIPLINES } from "./disciplines/mod.ts";
import type { Work } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { rowsOf, SimulatedDevice, type Timing } from "./simulated_device.ts";
import { Scheduler } from "./scheduler.ts";
import type { StagingOutcome } from "./staging.ts";

/** What most dispatches here take, in milliseconds. */
const TIMING: Timing = { copyIn: 4, compute: 10, copyOut: 3 };

function setUp(overlaps: boolean, discipline: DisciplineName = "fifo") {
  const device = new SimulatedDevice();
  const records: DispatchRecord[] = [];
  const staged: Record<StagingOutcome, number> = { used: 0, discarded: 0, failed: 0 };
  const scheduler = new Scheduler({
    discipline: DISCIPLINES[discipline],
    shedsByCost: discipline === "edf",
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 1000,
    now: () => device.nowMs,
    onDispatch: (record) => records.push(record),
    onStaged: (_, outcome) => staged[outcome]++,
  });
  if (overlaps) scheduler.overlapTransfers();
  type Options = Partial<Parameters<SimulatedDevice["model"]>[1]>;
  const admit = (name: string, sizes: readonly number[], options: Options = {}) => {
    const model = device.model(name, { sizes, timing: () => TIMING, ...options });
    scheduler.admit(model);
    const submit = (value: number, rows = 1, more: Partial<Work> = {}) =>
      scheduler.submit(model, {
        inputs: [rowsOf(value, rows)],
        rows,
        variantKey: "",
        deadlineMs: undefined,
        isAborted: () => false,
        ...more,
      });
    return { model, submit };
  };
  /** Lets everything happen; nothing is left on the device. */
  const finish = async () => {
    await device.drain();
    assert.equal(device.present, 0, "something was left on the device");
    assert.ok(device.mostPresent <= 2, `${device.mostPresent} dispatches on the device at once`);
  };
  /** What ran, by model and first bytes of its rows. */
  const ran = () => device.started.map(({ model, rows }) => `${model} ${rows}`);
  return { device, scheduler, records, staged, admit, finish, ran };
}

/** Numbers from a seed, in [0, 1). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return (Math.imul(state ^ (state >>> 13), 0x297a2d39) >>> 0) / 2 ** 32;
  };
}

/** A number that the same arguments always give, in [0, 1). */
function scattered(...values: readonly number[]): number {
  return randomFrom(values.reduce((sum, value) => Math.imul(sum, 31) + value, 7))();
}

/**
 * One load on a device where every dispatch ends after a time of its own, however its copies are done:
 * several models, deadlines, callers that leave, stages that go first, batches that fail, weights that
 * come and go. Copies in take no time here, because late ones would delay dispatches.
 */
async function replay(overlaps: boolean, discipline: DisciplineName, seed: number) {
  const { device, scheduler, staged, admit, finish } = setUp(overlaps, discipline);
  const random = randomFrom(seed);
  const models = ["a", "b", "c", "d"].map((name, index) =>
    admit(name, [[1], [1, 4], [2, 8], [1, 2, 16]][index]!, {
      weight: 1 + index % 2,
      timing: ({ size, inputs }, isApart) => {
        const noise = scattered(index, ...inputs[0]!.data);
        const compute = 3 + 2 * index + size / 4 + noise;
        return { copyIn: 0, compute, copyOut: isApart ? 2 * noise : 0 };
      },
      fails: (rows) => rows.length > 1 && scattered(...rows) < 0.05,
    })
  );
  const outcomes: string[] = [];
  const load = 0.6 + random();
  let atMs = 0;
  for (let index = 0; index < 400; index++) {
    atMs += random() < 0.2 ? 20 * random() / load : 2 * random() / load;
    const at = atMs;
    const which = Math.floor(random() ** 2 * models.length);
    const rows = which === 0 ? 1 : 1 + Math.floor(2 * random());
    const deadlineMs = random() < 0.7 ? at + 5 + 120 * random() : undefined;
    const goneMs = random() < 0.1 ? at + 30 * random() : Infinity;
    const isCommitted = random() < 0.05;
    device.at(at, () =>
      void models[which]!.submit(index % 256, rows, {
        deadlineMs,
        isCommitted,
        isAborted: () => device.nowMs >= goneMs,
      }).then(
        ([output]) => outcomes[index] = `${output!.shape} ${output!.data}`,
        (error) => outcomes[index] = error.name,
      ));
    const failure = random();
    if (overlaps && failure < 0.05) {
      device.at(at, () => device.failsToStage.push(failure < 0.025 ? "later" : "at once"));
    }
  }
  await finish();
  device.nowMs = atMs + 10_000;
  const books = models.map(({ model: { name } }) => {
    const { counters, costs } = scheduler.queueOf(name)!;
    return { counters, costs, recent: scheduler.recentCompute(name) };
  });
  return { started: device.started, outcomes, books, staged };
}

for (const discipline of ["fair", "fifo", "edf"] as const) {
  Deno.test(`${discipline}: what runs, when, and what comes of it is the same with overlapped transfers`, async () => {
    const total: Record<StagingOutcome, number> = { used: 0, discarded: 0, failed: 0 };
    for (let seed = 1; seed <= 6; seed++) {
      const apart = await replay(false, discipline, seed);
      const together = await replay(true, discipline, seed);
      assert.deepEqual(together.started, apart.started, `seed ${seed}`);
      assert.deepEqual(together.outcomes, apart.outcomes, `seed ${seed}`);
      assert.deepEqual(together.books, apart.books, `seed ${seed}`);
      for (const outcome of ["used", "discarded", "failed"] as const) {
        total[outcome] += together.staged[outcome];
      }
    }
    // Else this says nothing: about a thousand dispatches that could have been staged, of each.
    assert.ok(total.used > 500 && total.discarded > 50 && total.failed > 50, JSON.stringify(total));
  });
}

Deno.test("copies in and copies out are done while the device computes", async () => {
  const replay = async (overlaps: boolean) => {
    const { device, records, admit, finish, staged } = setUp(overlaps);
    const models = [admit("a", [1]), admit("b", [1], { weight: 2 }), admit("c", [1, 4])];
    const answers = Array.from({ length: 90 }, async (_, index) => {
      const [output] = await models[(index * 7 + (index >> 3)) % 3]!.submit(index);
      assert.deepEqual([...output!.data], [index]);
    });
    await finish();
    await Promise.all(answers);
    return { device, staged, dispatches: records.length, records };
  };
  const apart = await replay(false);
  const together = await replay(true);
  const { dispatches } = apart;
  const order = ({ device }: typeof apart) =>
    device.started.map(({ model, rows }) => [model, rows]);
  assert.deepEqual(order(together), order(apart));
  assert.deepEqual([apart.device.overlapMs("copyIn"), apart.device.overlapMs("copyOut")], [0, 0]);
  assert.equal(apart.device.nowMs, dispatches * 17);
  // Only the first has nobody to hide its copy behind, and the last nobody to be hidden behind.
  assert.equal(together.device.nowMs, 4 + dispatches * 10 + 3);
  assert.equal(together.device.overlapMs("copyIn"), (dispatches - 1) * 4);
  assert.equal(together.device.overlapMs("copyOut"), (dispatches - 1) * 3);
  assert.deepEqual(together.staged, { used: dispatches - 1, discarded: 0, failed: 0 });
  // Nobody is charged for copies that cost the device nothing; each is reported once all the same.
  const charged = together.records.map(({ computeSeconds }) => Math.round(1000 * computeSeconds));
  assert.deepEqual(charged, [14, ...new Array(dispatches - 1).fill(10)]);
  assert.ok(together.records.every(({ stages }) => stages.input === 4 && stages.output === 3));
});

Deno.test("overlapped transfers leave fair shares as the weights have them", async () => {
  const { device, admit, finish } = setUp(true, "fair");
  const [a, b] = [admit("a", [1]), admit("b", [1], { weight: 2 })];
  for (let index = 0; index < 400; index++) void a.submit(0), void b.submit(0);
  await finish();
  // Both have work until `b`, which is to get two thirds, has run out.
  const saturated = device.started.slice(0, 580);
  const share = saturated.filter(({ model }) => model === "b").length / saturated.length;
  assert.ok(Math.abs(share - 2 / 3) < 0.05 * 2 / 3, `${share}`);
});

Deno.test("a batch with room that was staged still takes in who comes before its turn", async () => {
  const { device, scheduler, staged, admit, finish, ran } = setUp(true);
  const { submit } = admit("m", [1, 4]);
  for (const size of [1, 4]) scheduler.seedCost("m", "", size, 0.017);
  const answers = [0, 1, 2, 3, 4].map((value) => submit(value));
  device.at(5, () => answers.push(submit(5), submit(6)));
  await finish();
  const values = (await Promise.all(answers)).map(([output]) => [...output!.data]);
  assert.deepEqual(values, [[0], [1], [2], [3], [4], [5], [6]]);
  assert.deepEqual(ran(), ["m 0,1,2,3", "m 4,5,6,0"]);
  assert.deepEqual(staged, { used: 0, discarded: 1, failed: 0 });
});

Deno.test("a batch that has filled up since it was staged is staged once more, and no more than that", async () => {
  const { device, scheduler, staged, admit, finish, ran } = setUp(true, "edf");
  const { submit } = admit("m", [1, 4]);
  for (const size of [1, 4]) scheduler.seedCost("m", "", size, 0.017);
  for (let value = 0; value < 5; value++) void submit(value);
  device.at(5, () => [5, 6, 7].map((value) => void submit(value)));
  // Each more urgent than the one before: it would be staged instead.
  for (const [index, name] of ["x", "y", "z"].entries()) {
    const { submit } = admit(name, [1]);
    device.at(9 + index, () => void submit(9 + index, 1, { deadlineMs: 900 - index }));
  }
  await finish();
  assert.deepEqual(ran(), ["m 0,1,2,3", "z 11", "y 10", "x 9", "m 4,5,6,7"]);
  assert.deepEqual(staged, { used: 3, discarded: 2, failed: 0 });
  // Five dispatches, and two copies in vain.
  assert.equal(device.busy.copyIn.length, 7);
});

Deno.test("batches with room that keep growing are staged less and less often", async () => {
  const { device, scheduler, staged, admit, finish } = setUp(true);
  const { submit } = admit("m", [1, 4]);
  for (const size of [1, 4]) scheduler.seedCost("m", "", size, 0.017);
  // While one runs a second comes, and then a third before its turn.
  for (let round = 0; round < 400; round++) {
    device.at(round * 40, () => void submit(1));
    device.at(round * 40 + 8, () => void submit(2));
    device.at(round * 40 + 9, () => void submit(3));
  }
  await finish();
  assert.equal(staged.used, 0);
  assert.ok(staged.discarded > 5 && staged.discarded < 40, JSON.stringify(staged));
});

/** What may come between a batch being staged, at 1 ms, and its turn, at 14 ms. */
const CHANGES: {
  what: string;
  /** At 10 ms. `model` is `b`, whose first two requests are staged, of three. */
  happens: (
    bench: ReturnType<typeof setUp>,
    b: ReturnType<ReturnType<typeof setUp>["admit"]> & { last: Promise<unknown> },
  ) => unknown;
  discipline?: DisciplineName;
  ran: string[];
  /** Of the requests of `b`. */
  outcomes?: string[];
  discarded: number;
}[] = [
  { what: "nothing", happens: () => {}, ran: ["a 1", "b 10,11", "b 12"], discarded: 0 },
  {
    what: "a more urgent request",
    discipline: "edf",
    happens: ({ admit }) => void admit("c", [1]).submit(20, 1, { deadlineMs: 900 }),
    ran: ["a 1", "c 20", "b 10,11", "b 12"],
    discarded: 1,
  },
  {
    what: "a committed stage of a meta model",
    happens: ({ admit }) => void admit("c", [1]).submit(20, 1, { isCommitted: true }),
    ran: ["a 1", "c 20", "b 10,11", "b 12"],
    discarded: 1,
  },
  {
    what: "a committed stage of the same model",
    happens: (_, { submit }) => void submit(20, 1, { isCommitted: true }),
    ran: ["a 1", "b 20,10", "b 11,12"],
    discarded: 1,
  },
  {
    what: "work that needs the device to itself",
    happens: ({ scheduler, device }) =>
      void scheduler.runExclusive(() => {
        assert.equal(device.present, 0, "the device is not its own");
        return Promise.resolve();
      }),
    ran: ["a 1", "b 10,11", "b 12"],
    discarded: 1,
  },
  {
    what: "the model is unloaded",
    happens: ({ scheduler }) => scheduler.remove("b"),
    ran: ["a 1"],
    outcomes: ["NotFoundError", "NotFoundError", "NotFoundError"],
    discarded: 1,
  },
  {
    what: "its weights cannot be had",
    happens: ({ scheduler }, { model }) => scheduler.reject(model, new RangeError("too large")),
    ran: ["a 1"],
    outcomes: ["RangeError", "RangeError", "RangeError"],
    discarded: 1,
  },
  {
    what: "the worker stops at once",
    happens: ({ scheduler }, { last }) => {
      void scheduler.shutdown(0);
      return last;
    },
    ran: ["a 1"],
    outcomes: ["UnavailableError", "UnavailableError", "UnavailableError"],
    discarded: 1,
  },
  {
    what: "the worker drains",
    happens: ({ scheduler }) => void scheduler.shutdown(10_000),
    ran: ["a 1", "b 10,11", "b 12"],
    discarded: 0,
  },
  {
    what: "the model has another name",
    happens: ({ scheduler }, { model }) => {
      (model as { name: string }).name = "z";
      scheduler.rename([{ from: "b", model }]);
    },
    ran: ["a 1", "z 10,11", "z 12"],
    discarded: 0,
  },
  {
    what: "a newer version of the model",
    happens: ({ scheduler, device }, { model }) => {
      scheduler.admit(device.model("b", { sizes: [1, 2], timing: () => TIMING }));
      assert.ok(scheduler.queueOf(model.name)!.depth === 3);
    },
    ran: ["a 1", "b 10,11", "b 12"],
    discarded: 0,
  },
];

for (const { what, happens, discipline, ran, outcomes, discarded } of CHANGES) {
  Deno.test(`between staging and running: ${what}`, async () => {
    const bench = setUp(true, discipline);
    const a = bench.admit("a", [1]);
    const b = bench.admit("b", [1, 2]);
    void a.submit(1);
    const found: Promise<string>[] = [];
    bench.device.at(1, () => {
      for (const value of [10, 11, 12]) {
        const answer = b.submit(value, 1, { deadlineMs: 5000 });
        found.push(answer.then(() => "answered", (error) => error.name));
      }
    });
    bench.device.at(9, () => assert.equal(bench.device.present, 2, "nothing was staged"));
    bench.device.at(10, () => happens(bench, { ...b, last: found.at(-1)! }));
    await bench.finish();
    assert.deepEqual(bench.ran(), ran);
    assert.deepEqual(await Promise.all(found), outcomes ?? ["answered", "answered", "answered"]);
    assert.equal(bench.staged.discarded, discarded);
    if (discarded === 0) assert.equal(bench.staged.used, 2);
  });
}

Deno.test("callers that leave, and deadlines that pass, are dropped though they were staged", async () => {
  const { device, staged, admit, finish, ran } = setUp(true);
  const { submit } = admit("m", [1, 2]);
  let isGone = false;
  const answers = [0, 1, 2, 3, 4, 5].map((value) =>
    submit(value, 1, {
      isAborted: () => isGone && value === 3,
      deadlineMs: value === 4 ? 30 : undefined,
    }).then(() => "answered", (error) => error.name)
  );
  // [2, 3] is staged by now; [4, 5] will be when the deadline is still ahead.
  device.at(12, () => isGone = true);
  await finish();
  const expected = ["answered", "answered", "answered", "CancelledError", "answered", "answered"];
  assert.deepEqual(await Promise.all(answers), expected);
  assert.deepEqual(ran(), ["m 0,1", "m 2,4", "m 5"]);
  assert.equal(staged.discarded, 1);
});

Deno.test("a lone request's own memory is not read any more when it is told that it was dropped", async () => {
  for (const discipline of ["fifo", "fair"] as const) {
    const { device, scheduler, admit, finish } = setUp(true, discipline);
    const a = admit("a", [1]);
    const b = admit("b", [2], { timing: () => ({ ...TIMING, copyIn: 100 }) });
    void a.submit(0);
    let toldMs = 0;
    device.at(1, () => void b.submit(1, 2).catch(() => toldMs = device.nowMs));
    device.at(2, () => scheduler.remove("b"));
    await finish();
    // `a` copies from 0 to 4, then `b` until 104.
    assert.equal(toldMs, 104);
  }
});

Deno.test("outputs that cannot be copied fail no neighbours, though another dispatch runs by then", async () => {
  const { device, records, admit, finish, ran } = setUp(true);
  const { submit } = admit("m", [1, 2], {
    failsToLand: (rows) => rows.join() === "0,1" || rows.join() === "4",
  });
  const answers = [0, 1, 2, 3, 4].map((value) =>
    submit(value).then(([output]) => output!.data[0], (error) => error.message)
  );
  await finish();
  // The two run by themselves when the device is free of all others.
  assert.deepEqual(ran(), ["m 0,1", "m 2,3", "m 0", "m 1", "m 4"]);
  assert.deepEqual(device.started.map(({ atMs }) => atMs), [0, 14, 27, 44, 61]);
  assert.deepEqual(await Promise.all(answers), [0, 1, 2, 3, "copied in vain"]);
  assert.deepEqual(records.map(({ rows }) => rows), [2, 1, 1]);
});

Deno.test("at most two dispatches have memory on the device, however slow the copies are", async () => {
  const out = setUp(true);
  const { submit } = out.admit("m", [1], { timing: () => ({ ...TIMING, copyOut: 50 }) });
  for (let value = 0; value < 6; value++) void submit(value);
  await out.finish();
  // The third is chosen when the first is answered, and so on.
  assert.deepEqual(out.device.started.map(({ atMs }) => atMs), [0, 14, 64, 114, 164, 214]);

  const into = setUp(true);
  void into.admit("a", [1]).submit(0);
  void into.admit("b", [1], { timing: () => ({ ...TIMING, copyIn: 100 }) }).submit(1);
  const c = into.admit("c", [1]);
  into.device.at(10, () => void c.submit(2, 1, { isCommitted: true }));
  await into.finish();
  // `b` was being copied in, from 4 to 104, when `c` came first.
  assert.deepEqual(into.ran(), ["a 0", "c 2", "b 1"]);
  assert.deepEqual(into.device.started.map(({ atMs }) => atMs), [0, 104, 208]);
});

Deno.test("staging asks for no weights, and leaves out what would have to wait for them", async () => {
  const { device, scheduler, admit, finish, ran, staged } = setUp(true);
  let isResident = false;
  const asked: number[] = [];
  const a = admit("a", [1]);
  const b = admit("b", [1], { isReady: () => isResident });
  b.model.isRunnable = () => {
    asked.push(device.nowMs);
    return isResident;
  };
  void a.submit(0);
  device.at(1, () => [b.submit(1), a.submit(2), a.submit(3)]);
  device.at(20, () => {
    isResident = true;
    scheduler.wake();
  });
  await finish();
  assert.deepEqual(ran(), ["a 0", "a 2", "b 1", "a 3"]);
  assert.deepEqual(asked, [14, 24]);
  // The first for lack of anybody; then `a 2` for `b`, `b` in place of `a 3`, and `a 3`.
  assert.deepEqual(staged, { used: 3, discarded: 1, failed: 0 });
});

Deno.test("a device that says nothing before its answers are there has one dispatch at a time", async () => {
  const { device, admit, finish } = setUp(true);
  const { model, submit } = admit("m", [1]);
  const { run } = model;
  model.run = ({ onExecuted: _, ...dispatch }) => run(dispatch);
  delete model.stage;
  const answers = [0, 1, 2].map((value) => submit(value));
  await finish();
  await Promise.all(answers);
  assert.deepEqual(device.started.map(({ atMs }) => atMs), [0, 17, 34]);
  assert.equal(device.mostPresent, 1);
});

Deno.test("requests that turns of the event loop bring join a batch with room", async () => {
  const device = new SimulatedDevice();
  const rows: number[] = [];
  let turns = 0;
  const arrivals: (() => void)[] = [];
  const scheduler = new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 1000,
    now: () => device.nowMs,
    nextTurn: () => {
      turns++;
      arrivals.shift()?.();
      return Promise.resolve();
    },
    onDispatch: (record) => rows.push(record.rows),
  });
  const model: ScheduledModel = {
    name: "m",
    isCoalescable: true,
    maxRows: undefined,
    weight: 1,
    sizes: () => [1, 4, 16],
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: ({ inputs }) =>
      Promise.resolve({ outputs: [...inputs], stages: { input: 0, execute: 0, output: 0 } }),
  };
  scheduler.admit(model);
  for (const size of [1, 4, 16]) scheduler.seedCost("m", "", size, 0.01);
  const submit = () =>
    scheduler.submit(model, {
      inputs: [{ name: "x", datatype: "UINT8", shape: [1, 1], data: Uint8Array.of(1) }],
      rows: 1,
      variantKey: "",
      deadlineMs: undefined,
      isAborted: () => false,
    });
  await submit();
  assert.deepEqual([rows, turns], [[1], 0], "a lone caller waits for nobody");

  const answers = [submit(), submit()];
  arrivals.push(() => answers.push(submit()), () => answers.push(submit(), submit()));
  await setImmediate();
  await Promise.all(answers);
  assert.deepEqual(rows, [1, 5]);
  assert.equal(turns, 3, "the turn that brought nobody was the last");
});
