import assert from "node:assert/strict";
import { InvalidArgumentError, NotFoundError } from "../errors.ts";
import { decodeInferRequest, encodeInferResponse, requestTensors } from "../protocol/mod.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import { type Dataset, geometryOf, inferDataset } from "./dataset.ts";
import { checkDataset, type ModelIo } from "./io_check.ts";
import { InferenceClient } from "./model.ts";
import { ModelHandle } from "./model_handle.ts";

/** Adds one to every byte; notes how many calls were in progress. Calls end in reverse where they can. */
class Incrementer {
  inFlight = 0;
  most = 0;
  readonly sizes: number[] = [];
  failAt = -1;

  readonly inference = new InferenceClient(async (_path, message) => {
    this.most = Math.max(this.most, ++this.inFlight);
    const [input] = requestTensors(decodeInferRequest(message));
    this.sizes.push(input!.shape[0]!);
    const call = this.sizes.length;
    for (let turn = 0; turn < 20 - call; turn++) await Promise.resolve();
    this.inFlight--;
    if (call === this.failAt) throw new NotFoundError(`call ${call}`);
    const data = input!.data.map((byte) => byte + 1);
    return encodeInferResponse({
      modelName: "m",
      outputs: [{ name: "y", datatype: "UINT8", shape: input!.shape, data }],
    });
  });
}

function rows(range: { first: number; end: number }): NamedTensor {
  const count = range.end - range.first;
  const data = Uint8Array.from({ length: 2 * count }, (_, at) => 2 * range.first + at);
  return { name: "x", datatype: "UINT8", shape: [count, 2], data };
}

/** Items of two bytes each, that hold their own position. */
function positions(length: number): Dataset & { readonly found: Uint8Array } {
  const found = new Uint8Array(2 * length);
  return {
    found,
    length,
    bytesPerItem: 2,
    encode: (range) => [rows(range)],
    decode: ({ first }, { outputs }) => found.set(outputs[0]!.data, 2 * first),
  };
}

Deno.test("geometryOf() takes as many items as fit the slots that one item needs", () => {
  const pool = { slotBytes: 1024, slots: 8 };
  const of = (bytesPerItem: number, maxBatchSize = 100) =>
    geometryOf({ bytesPerItem, maxBatchSize }, pool);
  assert.deepEqual(of(100), { span: 1, chunk: 10, atOnce: 8 });
  assert.deepEqual(of(100, 4), { span: 1, chunk: 4, atOnce: 8 });
  assert.deepEqual(of(1025), { span: 2, chunk: 1, atOnce: 4 });
  assert.deepEqual(of(700), { span: 1, chunk: 1, atOnce: 8 });
  assert.deepEqual(of(8192), { span: 8, chunk: 1, atOnce: 1 });
  assert.throws(() => of(8193), /One item takes 8193 bytes, .* 8 slots of 1024/);
});

Deno.test("inferDataset() covers every item once, several requests at a time, whichever ends first", async () => {
  const server = new Incrementer();
  const model = new ModelHandle({ inference: server.inference, name: "m", maxBatchSize: 3 });
  const dataset = positions(11);
  await inferDataset(model, dataset, { concurrency: 3 });
  assert.deepEqual([...dataset.found], Array.from({ length: 22 }, (_, at) => at + 1));
  assert.deepEqual(server.sizes, [3, 3, 3, 2]);
  assert.equal(server.most, 3);
  await inferDataset(model, positions(0));
  assert.equal(server.sizes.length, 4);
});

Deno.test("after a failure nothing new starts, what runs is waited for, and the failure is thrown", async () => {
  const server = new Incrementer();
  server.failAt = 2;
  const model = new ModelHandle({ inference: server.inference, name: "m", maxBatchSize: 1 });
  await assert.rejects(inferDataset(model, positions(50), { concurrency: 2 }), NotFoundError);
  assert.equal(server.inFlight, 0);
  assert.ok(server.sizes.length < 10, `${server.sizes.length}`);
  const broken: Dataset = { ...positions(3), encode: () => Promise.reject(new Error("no file")) };
  await assert.rejects(inferDataset(model, broken), /no file/);
});

const IO: ModelIo = {
  inputs: [{ name: "x", datatype: "UINT8", shape: [-1, 2] }],
  outputs: [{ name: "y", datatype: "UINT8", shape: [-1, 2] }],
};

Deno.test("checkDataset() accepts what fits, and decodes an answer of zeros", async () => {
  const dataset = positions(5);
  dataset.found.fill(9);
  await checkDataset(IO, dataset, 2);
  assert.deepEqual([...dataset.found], [0, 0, 0, 0, 9, 9, 9, 9, 9, 9]);
  await checkDataset(IO, positions(0));
});

Deno.test("checkDataset() names what does not fit", async () => {
  const with_ = (change: Partial<NamedTensor>): Dataset => ({
    ...positions(4),
    encode: (range) => [{ ...rows(range), ...change }],
  });
  const wrong: readonly [Dataset, RegExp][] = [
    [with_({ name: "z" }), /There is no input "z"; the model has "x"/],
    [with_({ datatype: "INT8" }), /input "x" is INT8, the model takes UINT8/],
    [with_({ shape: [1, 3] }), /input "x" is \[1,\s?3\], the model takes/],
    [with_({ shape: [4, 3] }), /is \[4,3\], the model takes \[\?,2\]$/],
    [with_({ shape: [2, 9] }), /the axes are in reverse/],
    [with_({ data: new Uint8Array(5) }), /input "x" has 5 bytes; .* takes 2/],
    [{ ...positions(4), encode: () => [] }, /The dataset gives no input "x"/],
    [{ ...positions(4), bytesPerItem: 1 }, /encoded as 2 bytes; the dataset says 1 each/],
    [{ ...positions(4), outputs: [{ name: "q", bytesPerItem: 2 }] }, /wants output "q"; .* "y"/],
  ];
  for (const [dataset, message] of wrong) {
    await assert.rejects(checkDataset(IO, dataset), (error) => {
      assert.ok(error instanceof InvalidArgumentError, String(error));
      assert.match(error.message, message);
      return true;
    });
  }
  const reading: Dataset = {
    ...positions(1),
    decode: (_, { outputs }) => {
      if (outputs[0]!.data.length < 3) throw new RangeError("beyond the output");
    },
  };
  await assert.rejects(checkDataset(IO, reading), /beyond the output/);
});
