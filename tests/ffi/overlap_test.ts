import assert from "node:assert/strict";
import { openPjrtBackend } from "../../src/runtime/mod.ts";
import { DISCIPLINES, type ScheduledModel, Scheduler } from "../../src/scheduler/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { cpuPlugin, mlir } from "./subject.ts";

const WIDTH = 16_384;

/** `(x: FP32[size, WIDTH]) -> x + x`. */
function double(size: number): Uint8Array {
  const type = `tensor<${size}x${WIDTH}xf32>`;
  return mlir(
    `(%x: ${type}) -> ${type}`,
    `  %y = stablehlo.add %x, %x : ${type}
  return %y : ${type}`,
  );
}

Deno.test("overlapped dispatches on a real device: every answer is its caller's, nothing is left", async () => {
  await using backend = await openPjrtBackend({
    pluginPath: cpuPlugin(),
    platform: "cpu",
    overlapTransfers: true,
  });
  assert.equal(backend.overlapsTransfers, true);
  using one = await backend.compile(double(1));
  using four = await backend.compile(double(4));
  const before = backend.liveHandles();
  const scheduler = new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 1000,
  });
  scheduler.overlapTransfers();
  let inFlight = 0;
  let mostInFlight = 0;
  const model: ScheduledModel = {
    name: "double",
    isCoalescable: true,
    maxRows: undefined,
    weight: 1,
    sizes: () => [1, 4],
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: async ({ size, inputs }) => {
      mostInFlight = Math.max(mostInFlight, ++inFlight);
      try {
        const { outputs, stages } = await backend.run(size === 1 ? one : four, inputs, []);
        return { outputs: [{ ...inputs[0]!, name: "y", data: outputs[0]! }], stages };
      } finally {
        inFlight--;
      }
    },
  };
  scheduler.admit(model);
  const gone = new Set<number>();
  const outcomes = await Promise.allSettled(Array.from({ length: 120 }, async (_, index) => {
    const values = new Float32Array(WIDTH).fill(index);
    const input: NamedTensor = {
      name: "x",
      datatype: "FP32",
      shape: [1, WIDTH],
      data: new Uint8Array(values.buffer),
    };
    const [output] = await scheduler.submit(model, {
      inputs: [input],
      rows: 1,
      variantKey: "",
      deadlineMs: undefined,
      isAborted: () => gone.has(index),
    });
    // Every answer sends a few callers away whose copies may have begun.
    if (index % 4 === 0) {
      for (let next = index + 1; next < index + 20; next += 7) gone.add(next);
    }
    const found = new Float32Array(output!.data.slice().buffer);
    assert.ok(found.every((value) => value === 2 * index), `answer ${index}`);
  }));
  await scheduler.shutdown(0);
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === "fulfilled") continue;
    assert.ok(gone.has(index), `${index}: ${outcome.reason}`);
    assert.match(String(outcome.reason), /The caller went away/);
  }
  assert.equal(mostInFlight, 2);
  assert.deepEqual(backend.liveHandles(), before);
});
