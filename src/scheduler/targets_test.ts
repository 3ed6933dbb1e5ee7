import assert from "node:assert/strict";
import type { NamedTensor } from "../tensor/mod.ts";
import { fifo } from "./disciplines/fifo.ts";
import type { Work } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";

const target = new Uint8Array(64);
const targets = new Map([["y", target]]);

function work(rows: number, options: Partial<Work> = {}): Work {
  const data = new Uint8Array(rows).fill(1);
  const x: NamedTensor = { name: "x", datatype: "UINT8", shape: [rows], data };
  return {
    inputs: [x],
    rows,
    variantKey: "",
    deadlineMs: undefined,
    isAborted: () => false,
    targets,
    ...options,
  };
}

/** Which dispatches were told where their outputs may go, of requests that came at once. */
async function dispatches(
  sizes: readonly number[],
  works: readonly Work[],
  run: (size: number) => void = () => {},
): Promise<[size: number, hasTargets: boolean][]> {
  const seen: [number, boolean][] = [];
  const model: ScheduledModel = {
    name: "m",
    isCoalescable: true,
    maxRows: undefined,
    weight: 1,
    sizes: () => sizes,
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: ({ size, inputs, targets: given }) => {
      seen.push([size, given === targets]);
      run(size);
      const { data, shape } = inputs[0]!;
      const found = given?.get("y", data.length)?.subarray(0, data.length) ??
        new Uint8Array(data.length);
      found.set(data);
      return Promise.resolve({
        outputs: [{ name: "y", datatype: "UINT8", shape, data: found }],
        stages: { input: 0, execute: 0, output: 0 },
      });
    },
  };
  const scheduler = new Scheduler({
    discipline: fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 8,
  });
  scheduler.admit(model);
  const results = await Promise.all(works.map((each) => scheduler.submit(model, each)));
  for (const [index, [y]] of results.entries()) {
    assert.deepEqual([...y!.data], new Array(works[index]!.rows).fill(1));
  }
  return seen;
}

Deno.test("a request that fills its batch alone may have its outputs where it wants them", async () => {
  assert.deepEqual(await dispatches([1, 4], [work(4)]), [[4, true]]);
  assert.deepEqual(await dispatches([1, 4], [work(1)]), [[1, true]]);
  assert.deepEqual(await dispatches([0], [work(1)]), [[0, true]]);
  assert.deepEqual(await dispatches([1], [work(1, { targets: undefined })]), [[1, false]]);
});

Deno.test("outputs of padded and of shared batches come in memory of the batch", async () => {
  assert.deepEqual(await dispatches([4], [work(3)]), [[4, false]]);
  assert.deepEqual(await dispatches([1, 4], [work(2), work(2)]), [[4, false]]);
});

Deno.test("requests of a batch that failed run alone, and may have them where they want again", async () => {
  const fail = (size: number) => {
    if (size === 4) throw new Error("not together");
  };
  const seen = await dispatches([1, 2, 4], [work(2), work(2)], fail);
  assert.deepEqual(seen, [[4, false], [2, true], [2, true]]);
});
