/** What is chosen and what runs are the same, whatever happens to the queue in between. */

import assert from "node:assert/strict";
import type { NamedTensor } from "../tensor/mod.ts";
import { DISCIPLINES } from "./disciplines/mod.ts";
import type { Work } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";

interface Ran {
  readonly version: string;
  readonly variantKey: string;
  readonly size: number;
  readonly values: number[];
}

function setUp() {
  const ran: Ran[] = [];
  const scheduler = new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 10,
    now: () => 0,
  });
  const model = (version: string): ScheduledModel => ({
    name: "m",
    isCoalescable: true,
    maxRows: undefined,
    weight: 1,
    sizes: () => [1, 4],
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: ({ variantKey, size, inputs }) => {
      ran.push({ version, variantKey, size, values: [...inputs[0]!.data] });
      return Promise.resolve({
        outputs: [...inputs],
        stages: { input: 0, execute: 0, output: 0 },
      });
    },
  });
  return { ran, scheduler, model };
}

function work(values: number[], options: Partial<Work> = {}): Work {
  const x: NamedTensor = {
    name: "x",
    datatype: "UINT8",
    shape: [values.length],
    data: Uint8Array.from(values),
  };
  return {
    inputs: [x],
    rows: values.length,
    variantKey: "",
    deadlineMs: undefined,
    isAborted: () => false,
    ...options,
  };
}

/** Microtasks from submitting to dispatching, and one more. */
const TURNS = [0, 1, 2, 3, 4, 5];

async function afterTurns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await undefined;
}

Deno.test("a stage that comes while the device is handed a batch runs as what it is", async () => {
  for (const turns of TURNS) {
    const { ran, scheduler, model } = setUp();
    const m = model("1");
    scheduler.admit(m);
    const first = scheduler.submit(m, work([1]));
    await afterTurns(turns);
    const committed = { isCommitted: true, variantKey: "other" };
    const stage = scheduler.submit(m, work([7, 8, 9], committed));
    const [[one], [three]] = await Promise.all([first, stage]);
    assert.deepEqual([[...one!.data], [...three!.data]], [[1], [7, 8, 9]], `${turns} turns`);
    for (const { variantKey, size, values } of ran) {
      assert.equal(size, values.length);
      assert.equal(variantKey, values[0] === 1 ? "" : "other", `${turns} turns`);
    }
  }
});

Deno.test("what is chosen of a version that is rejected meanwhile does not run another's request on it", async () => {
  for (const turns of TURNS) {
    const { ran, scheduler, model } = setUp();
    const [old, current] = [model("old"), model("current")];
    scheduler.admit(old);
    const lost = scheduler.submit(old, work([1])).catch((error) => error);
    const kept = scheduler.submit(current, work([2]));
    await afterTurns(turns);
    scheduler.reject(old, new Error("no weights"));
    await Promise.all([lost, kept]);
    for (const { version, values } of ran) {
      assert.equal(version, values[0] === 1 ? "old" : "current", `${turns} turns`);
    }
  }
});

Deno.test("a model that is removed meanwhile fails its requests and nothing else", async () => {
  for (const turns of TURNS) {
    const { scheduler, model } = setUp();
    const m = model("1");
    scheduler.admit(m);
    const outcome = scheduler.submit(m, work([1])).then(() => "ran", (error) => error.status);
    await afterTurns(turns);
    scheduler.remove("m");
    scheduler.admit(m);
    const [output] = await scheduler.submit(m, work([2]));
    assert.deepEqual([...output!.data], [2]);
    assert.match(await outcome, /^(ran|NOT_FOUND)$/);
    await scheduler.shutdown(0);
  }
});
