import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import type { NamedTensor } from "../tensor/mod.ts";
import { DISCIPLINES } from "./disciplines/mod.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import type { DispatchRecord } from "./batch_run.ts";
import { Scheduler } from "./scheduler.ts";

/** Milliseconds of a dispatch on each engine of the simulated device. */
const [COPY_IN, COMPUTE, COPY_OUT] = [4, 10, 3];

/** A device with one engine each for copies in, computing and copies out, on a virtual clock. */
class Device {
  nowMs = 0;
  /** Models in the order in which their dispatches began to compute. */
  readonly computed: string[] = [];
  /** Dispatches handed over and not done, at most. */
  mostInFlight = 0;
  /** Milliseconds in which a copy ran while something computed. */
  overlappedMs = 0;
  #inFlight = 0;
  #inFreeMs = 0;
  #computeFreeMs = 0;
  #outFreeMs = 0;
  #events: { readonly atMs: number; readonly happen: () => void }[] = [];

  run(name: string): Promise<void> {
    this.mostInFlight = Math.max(this.mostInFlight, ++this.#inFlight);
    const inMs = Math.max(this.nowMs, this.#inFreeMs);
    this.#inFreeMs = inMs + COPY_IN;
    this.overlappedMs += Math.max(0, Math.min(this.#inFreeMs, this.#computeFreeMs) - inMs);
    const computeMs = Math.max(this.#inFreeMs, this.#computeFreeMs);
    this.#computeFreeMs = computeMs + COMPUTE;
    this.#outFreeMs = Math.max(this.#computeFreeMs, this.#outFreeMs) + COPY_OUT;
    this.at(computeMs, () => this.computed.push(name));
    return new Promise((resolve) =>
      this.at(this.#outFreeMs, () => {
        this.#inFlight--;
        resolve();
      })
    );
  }

  at(atMs: number, happen: () => void): void {
    this.#events.push({ atMs, happen });
    this.#events.sort((a, b) => a.atMs - b.atMs);
  }

  /** Lets everything happen, one event after the other. */
  async drain(): Promise<void> {
    for (;;) {
      await setImmediate();
      const event = this.#events.shift();
      if (!event) return;
      this.nowMs = Math.max(this.nowMs, event.atMs);
      event.happen();
    }
  }
}

function setUp(overlaps: boolean, discipline: keyof typeof DISCIPLINES = "fair") {
  const device = new Device();
  const records: DispatchRecord[] = [];
  const scheduler = new Scheduler({
    discipline: DISCIPLINES[discipline],
    shedsByCost: discipline === "edf",
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 1000,
    now: () => device.nowMs,
    onDispatch: (record) => records.push(record),
  });
  if (overlaps) scheduler.overlapTransfers();
  const models = new Map<string, ScheduledModel>();
  const admit = (name: string, sizes: readonly number[], weight = 1) => {
    const model: ScheduledModel = {
      name,
      isCoalescable: sizes.length > 1,
      maxRows: undefined,
      weight,
      sizes: () => sizes,
      inputBatchAxes: [0],
      outputBatchAxes: [0],
      run: async ({ inputs }) => {
        await device.run(name);
        return {
          outputs: [...inputs],
          stages: { input: COPY_IN / 1000, execute: COMPUTE / 1000, output: COPY_OUT / 1000 },
        };
      },
    };
    models.set(name, model);
    scheduler.admit(model);
  };
  const submit = (name: string, value: number, isAborted = () => false) => {
    const input: NamedTensor = {
      name: "x",
      datatype: "UINT8",
      shape: [1, 1],
      data: Uint8Array.of(value),
    };
    return scheduler.submit(models.get(name)!, {
      inputs: [input],
      rows: 1,
      variantKey: "",
      deadlineMs: undefined,
      isAborted,
    });
  };
  return { device, scheduler, records, admit, submit };
}

for (const discipline of ["fifo", "edf"] as const) {
  Deno.test(`overlapped transfers leave the order of ${discipline} as it is, and take less time`, async () => {
    const replay = async (overlaps: boolean) => {
      const { device, records, admit, submit } = setUp(overlaps, discipline);
      admit("a", [1]);
      admit("b", [1], 2);
      admit("c", [1, 4]);
      const answers = Array.from({ length: 90 }, (_, index) => {
        const name = "abc"[(index * 7 + (index >> 3)) % 3]!;
        return submit(name, index).then(([output]) => assert.equal(output!.data[0], index));
      });
      await device.drain();
      await Promise.all(answers);
      return { device, records };
    };
    const apart = await replay(false);
    const together = await replay(true);
    assert.deepEqual(together.device.computed, apart.device.computed);
    assert.equal(apart.device.mostInFlight, 1);
    assert.equal(together.device.mostInFlight, 2);
    assert.equal(apart.device.overlappedMs, 0);
    const dispatches = apart.records.length;
    assert.equal(apart.device.nowMs, dispatches * (COPY_IN + COMPUTE + COPY_OUT));
    // The copies of all but the first and last few are hidden behind computing.
    assert.ok(together.device.nowMs <= dispatches * COMPUTE + 4 * (COPY_IN + COPY_OUT));
    assert.ok(together.device.overlappedMs >= (dispatches - 3) * COPY_IN);
  });
}

Deno.test("overlapped transfers leave fair shares as the weights have them", async () => {
  const { device, admit, submit } = setUp(true);
  admit("a", [1]);
  admit("b", [1], 2);
  const answers = [];
  for (let index = 0; index < 400; index++) answers.push(submit("a", 0), submit("b", 0));
  await device.drain();
  await Promise.all(answers);
  // Both have work until `b`, which is to get two thirds, has run out.
  const saturated = device.computed.slice(0, 580);
  const share = saturated.filter((name) => name === "b").length / saturated.length;
  assert.ok(Math.abs(share - 2 / 3) < 0.05 * 2 / 3, `${share}`);
});

Deno.test("a batch with room waits for the device, and takes in who comes meanwhile", async () => {
  const { device, scheduler, records, admit, submit } = setUp(true);
  admit("m", [1, 4]);
  for (const size of [1, 4]) scheduler.seedCost("m", "", size, 0.017);
  const answers = [0, 1, 2, 3, 4].map((value) => submit("m", value));
  device.at(5, () => answers.push(submit("m", 5), submit("m", 6)));
  await device.drain();
  await Promise.all(answers);
  assert.deepEqual(records.map(({ rows }) => rows), [4, 3]);
  assert.equal(device.mostInFlight, 1);
});

Deno.test("overlapped dispatches are not charged for each other's time", async () => {
  const { device, scheduler, records, admit, submit } = setUp(true);
  admit("m", [1]);
  const answers = Array.from({ length: 20 }, (_, value) => submit("m", value));
  await device.drain();
  await Promise.all(answers);
  const charged = records.reduce((sum, { computeSeconds }) => sum + computeSeconds, 0);
  assert.ok(Math.abs(charged - device.nowMs / 1000) < 1e-9);
  assert.ok(Math.abs(scheduler.queueOf("m")!.recentCompute(1) - charged) < charged / 100);
});

Deno.test("a caller that goes away after its copy has begun changes nothing for its neighbours", async () => {
  const { device, admit, submit } = setUp(true);
  admit("m", [1, 2]);
  let isGone = false;
  const answers = [0, 1, 2, 3, 4, 5].map((value) =>
    submit("m", value, () => isGone && value === 3)
  );
  // The second batch is on its way to the device by now, the third is not.
  device.at(2, () => isGone = true);
  await device.drain();
  const values = (await Promise.all(answers)).map(([output]) => output!.data[0]);
  assert.deepEqual(values, [0, 1, 2, 3, 4, 5]);
});

Deno.test("runExclusive() has the device to itself, also with overlapped transfers", async () => {
  const { device, scheduler, admit, submit } = setUp(true);
  admit("m", [1]);
  const answers = [0, 1, 2, 3].map((value) => submit("m", value));
  let ended = 0;
  for (const answer of answers) void answer.then(() => ended++);
  let endedBefore = -1;
  device.at(2, () =>
    void scheduler.runExclusive(() => {
      endedBefore = ended;
      return Promise.resolve();
    }));
  await device.drain();
  await Promise.all(answers);
  assert.equal(endedBefore, device.mostInFlight);
});

Deno.test("requests that turns of the event loop bring join a batch with room", async () => {
  const device = new Device();
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
