import assert from "node:assert/strict";
import { type DeviceBuffer, openPjrtBackend } from "../../src/runtime/mod.ts";
import {
  DISCIPLINES,
  type DispatchInputs,
  type RunOptions,
  type ScheduledModel,
  Scheduler,
  type StagingOutcome,
} from "../../src/scheduler/mod.ts";
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
  const staged: Record<StagingOutcome, number> = { used: 0, discarded: 0, failed: 0 };
  const scheduler = new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 1000,
    onStaged: (_, outcome) => staged[outcome]++,
  });
  scheduler.overlapTransfers();
  const run = async (
    { size, inputs }: DispatchInputs,
    { onExecuted }: RunOptions,
    staged?: DeviceBuffer,
  ) => {
    const { outputs, stages } = await backend.run(
      size === 1 ? one : four,
      staged ? [] : inputs,
      staged ? [staged] : [],
      { onExecuted },
    );
    return { outputs: [{ ...inputs[0]!, name: "y", data: outputs[0]! }], stages };
  };
  const model: ScheduledModel = {
    name: "double",
    isCoalescable: true,
    maxRows: undefined,
    weight: 1,
    sizes: () => [1, 4],
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: (dispatch) => run(dispatch, dispatch),
    stage: (dispatch) => {
      const [x] = dispatch.inputs;
      const upload = backend.upload(x!, x!.data);
      return {
        copied: upload.then(() => true),
        run: async (options) => {
          using buffer = await upload;
          return await run(dispatch, options, buffer);
        },
        release: () => void upload.then((buffer) => buffer[Symbol.dispose]()),
      };
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
    // Some answers send a few callers away whose copies may have begun.
    if (index % 12 === 0) {
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
  assert.equal(staged.failed, 0);
  assert.ok(staged.used > 0, JSON.stringify(staged));
  assert.deepEqual(backend.liveHandles(), before);
});
