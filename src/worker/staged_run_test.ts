/** Models, weights and scheduler together, on a device that copies while it computes. */

import assert from "node:assert/strict";
import { loadBundle } from "../bundle/mod.ts";
import { resolveServerConfig } from "../config/mod.ts";
import { silentLogger } from "../log.ts";
import { MockBackend, type MockDefinition, WeightStore } from "../runtime/mod.ts";
import { DISCIPLINES, type DispatchRecord, Scheduler, type Work } from "../scheduler/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import {
  float32Bytes,
  safetensors,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { DeviceInputs } from "./device_inputs.ts";
import { type BuiltProgram, LoadedModel } from "./loaded_model.ts";
import { SharedPool } from "./shared_pool.ts";

const WIDTH = 2;
const SIZES = [1, 2] as const;
const WEIGHT_BYTES = 4 * WIDTH;

function add(size: number): MockDefinition {
  const x = { datatype: "FP32", shape: [size, WIDTH] } as const;
  const moved = 4 * size * WIDTH;
  return {
    parameters: [x, { datatype: "FP32", shape: [WIDTH] }],
    results: [x],
    memory: {
      generatedCodeBytes: 0,
      argumentBytes: moved + WEIGHT_BYTES,
      outputBytes: moved,
      temporaryBytes: 0,
    },
    compute: ([x, w]) => {
      const offsets = new Float32Array(w!.slice().buffer);
      const values = new Float32Array(x!.slice().buffer);
      return [new Uint8Array(values.map((value, at) => value + offsets[at % WIDTH]!).buffer)];
    },
  };
}

/** Models that add 100 to the first column and 200 to the second. */
class Bench implements AsyncDisposable {
  readonly backend = new MockBackend({
    programs: Object.fromEntries(SIZES.map((size) => [`add.b${size}`, add(size)])),
    overlapsTransfers: true,
  });
  readonly store: WeightStore;
  readonly records: DispatchRecord[] = [];
  readonly outcomes: string[] = [];
  readonly scheduler = new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 100,
    onDispatch: (record) => this.records.push(record),
    onStaged: (model, outcome) => this.outcomes.push(`${model} ${outcome}`),
  });
  readonly #programs = new SharedPool<BuiltProgram>(({ program }) => program[Symbol.dispose]());

  constructor(arenaBytes?: number) {
    this.scheduler.overlapTransfers();
    this.store = new WeightStore({
      backend: this.backend,
      logger: silentLogger,
      arena: arenaBytes === undefined ? undefined : { bytes: arenaBytes, from: "the test" },
      fraction: 1,
      wiggle: 0,
      isExternallyManaged: false,
      sharedMode: undefined,
      onChange: () => this.scheduler.wake(),
    });
  }

  async load(root: string, name: string): Promise<LoadedModel> {
    const tensor = (name: string) => ({ name, dtype: "f32", shape: "nd", dims: { d: WIDTH } });
    const directory = await writeBundle(root, name, {
      "manifest.yaml": JSON.stringify({
        format_version: "2.0",
        axis_order: "row_major",
        executable_inputs: [tensor("x")],
        executable_outputs: [tensor("y")],
        batching: { compiled_batch_sizes: SIZES },
      }),
      ...Object.fromEntries(SIZES.map((size) => [`model.b${size}.mlir`, `add.b${size}`])),
      "weights.safetensors": safetensors([
        { name: "w", dtype: "F32", shape: [WIDTH], data: float32Bytes([100, 200]) },
      ]),
    });
    const bundle = await loadBundle(directory, name);
    assert.ok(bundle.kind === "model");
    const model = await LoadedModel.load(bundle, {
      backend: this.backend,
      executableCache: undefined,
      compileSettings: {},
      compile: (work) => work(),
      programs: this.#programs,
      weights: this.store,
      floor: undefined,
      isWanted: (model) => this.scheduler.queueOf(model.name)?.front?.model === model,
      onWeightsLost: (lost, error) => this.scheduler.reject(lost, error),
      weight: 1,
      maxRows: undefined,
      onRead: () => Promise.resolve(),
      hooks: { ...resolveServerConfig({}).config.hooks, size: 1 },
      logger: silentLogger,
      onHookWorkerLost: () => {},
    });
    this.scheduler.admit(model);
    return model;
  }

  /** One row of `value`s. */
  submit(model: LoadedModel, value: number, more: Partial<Work> = {}): Promise<number[]> {
    const x: NamedTensor = {
      name: "x",
      datatype: "FP32",
      shape: [1, WIDTH],
      data: float32Bytes(new Array(WIDTH).fill(value)),
    };
    return this.scheduler.submit(model, {
      inputs: [x],
      rows: 1,
      variantKey: "",
      deadlineMs: undefined,
      isAborted: () => false,
      ...more,
    }).then(([y]) => [...new Float32Array(y!.data.slice().buffer)]);
  }

  /** Lets a dispatch run, has another one staged meanwhile, and calls back before its turn. */
  async between(first: LoadedModel, submit: () => void, then: () => unknown): Promise<void> {
    const executing = this.backend.gate("execute");
    const one = this.submit(first, 0);
    await executing.reached;
    const copying = this.backend.gate("upload");
    submit();
    await copying.reached;
    copying.open();
    await then();
    executing.open();
    await one;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.scheduler.shutdown(0);
    await this.store[Symbol.asyncDispose]();
    assert.deepEqual(this.backend.liveHandles(), { buffer: 0, executable: 0 });
    assert.equal(this.store.account.inUseBytes, 0);
  }
}

Deno.test("a staged batch runs on what was copied, and frees it", async () => {
  await using root = await temporaryDirectory();
  await using bench = new Bench();
  using model = await bench.load(root.path, "m");
  const answers: Promise<number[]>[] = [];
  await bench.between(model, () => {
    answers.push(bench.submit(model, 1), bench.submit(model, 2));
  }, () => {});
  assert.deepEqual(await Promise.all(answers), [[101, 201], [102, 202]]);
  assert.deepEqual(bench.outcomes, ["m used"]);
  assert.deepEqual(bench.records.map(({ size }) => size), [1, 2]);
  // The weights, and one staged input.
  assert.equal(bench.backend.calls.upload, 2);
});

Deno.test("outputs are copied to the host while the next batch executes", async () => {
  await using root = await temporaryDirectory();
  await using bench = new Bench();
  using model = await bench.load(root.path, "m");
  const landing = bench.backend.gate("download");
  const first = bench.submit(model, 1);
  await landing.reached;
  const executing = bench.backend.gate("execute");
  const second = bench.submit(model, 2);
  await executing.reached;
  landing.open();
  assert.deepEqual(await first, [101, 201]);
  assert.equal(bench.records.length, 1);
  executing.open();
  assert.deepEqual(await second, [102, 202]);
});

Deno.test("a copy that fails fails nobody", async () => {
  await using root = await temporaryDirectory();
  await using bench = new Bench();
  using model = await bench.load(root.path, "m");
  const answers: Promise<number[]>[] = [];
  bench.backend.failNext("upload", new Error("no room for it"));
  await bench.between(model, () => void answers.push(bench.submit(model, 1)), () => {});
  assert.deepEqual(await answers[0], [101, 201]);
  assert.deepEqual(bench.outcomes, ["m failed"]);
});

Deno.test("a model that is unloaded while its batch is staged leaves nothing behind", async () => {
  await using root = await temporaryDirectory();
  await using bench = new Bench();
  using kept = await bench.load(root.path, "kept");
  const gone = await bench.load(root.path, "gone");
  let outcome: Promise<unknown> | undefined;
  await bench.between(kept, () => {
    outcome = bench.submit(gone, 1).catch((error) => error.status);
  }, () => {
    bench.scheduler.remove("gone");
    gone[Symbol.dispose]();
  });
  assert.equal(await outcome, "NOT_FOUND");
  assert.deepEqual(bench.outcomes, ["gone discarded"]);
});

Deno.test("staging neither brings weights in nor lets any go", async () => {
  await using root = await temporaryDirectory();
  // Room for the weights of one model, and for two dispatches.
  await using bench = new Bench(WEIGHT_BYTES + 4 * 4 * 2 * WIDTH);
  using a = await bench.load(root.path, "a");
  using b = await bench.load(root.path, "b");
  assert.deepEqual(await bench.submit(a, 1), [101, 201]);
  const { loads, evictions } = bench.store.reading()!;
  assert.deepEqual([loads, evictions], [1, 0]);

  const executing = bench.backend.gate("execute");
  const answers = [bench.submit(a, 2)];
  await executing.reached;
  // `b` has waited longer, but has no weights here: the second of `a` is staged, and runs.
  const copying = bench.backend.gate("upload");
  answers.push(bench.submit(b, 3), bench.submit(a, 4));
  await copying.reached;
  assert.deepEqual(bench.store.reading()!.loads, 1);
  assert.deepEqual([a.weights.isResident, b.weights.isResident], [true, false]);
  copying.open();
  executing.open();
  assert.deepEqual(await Promise.all(answers), [[102, 202], [103, 203], [104, 204]]);
  const { loads: all, evictions: gone } = bench.store.reading()!;
  assert.deepEqual([all, gone], [2, 1]);
  assert.deepEqual(bench.records.map(({ model }) => model), ["a", "a", "a", "b"]);
});

Deno.test("DeviceInputs: memory is booked until it is freed, however copying ends", async () => {
  const bench = new Bench();
  const input = { datatype: "UINT8", shape: [3], data: Uint8Array.of(1, 2, 3) } as const;
  for (const [failures, isThere] of [[0, true], [1, false], [2, false]] as const) {
    for (let count = 0; count < failures; count++) {
      bench.backend.failNext("upload", new Error("not this one"));
    }
    const inputs = new DeviceInputs(bench.backend, [input, input], bench.store.account);
    assert.equal(bench.store.account.inUseBytes, 6);
    assert.equal(await inputs.copied, isThere);
    assert.equal(inputs.buffers.length, isThere ? 2 : 0);
    assert.equal(bench.backend.liveHandles().buffer, isThere ? 2 : 0);
    inputs[Symbol.dispose]();
    inputs[Symbol.dispose]();
    await inputs.copied;
    assert.equal(bench.backend.liveHandles().buffer, 0);
    assert.equal(bench.store.account.inUseBytes, 0);
  }
});

Deno.test("DeviceInputs: disposed while copying, they are freed when nobody reads the host's memory", async () => {
  const bench = new Bench();
  const gate = bench.backend.gate("upload");
  const input = { datatype: "UINT8", shape: [3], data: Uint8Array.of(1, 2, 3) } as const;
  const inputs = new DeviceInputs(bench.backend, [input], bench.store.account);
  await gate.reached;
  inputs[Symbol.dispose]();
  assert.equal(bench.store.account.inUseBytes, 3);
  gate.open();
  await inputs.copied;
  assert.equal(bench.backend.liveHandles().buffer, 0);
  assert.equal(bench.store.account.inUseBytes, 0);
});
