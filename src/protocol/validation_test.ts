import assert from "node:assert/strict";
import { InvalidArgumentError } from "../errors.ts";
import type { Datatype, NamedTensor } from "../tensor/mod.ts";
import { NO_PARAMETERS, sharedMemoryParameters } from "./parameters.ts";
import { ClientContract } from "./validation.ts";

const contract = new ClientContract("m", [
  { name: "image", datatype: "FP32", shape: [-1, 3, -1], batchAxis: 0 },
  { name: "mask", datatype: "BOOL", shape: [4, -1], batchAxis: 1 },
  { name: "scale", datatype: "FP64", shape: [], batchAxis: undefined },
], [
  { name: "scores", datatype: "FP32", shape: [-1, 10], batchAxis: 0 },
  { name: "label", datatype: "BYTES", shape: [-1], batchAxis: 0 },
]);

function tensor(name: string, datatype: Datatype, shape: number[]): NamedTensor {
  return { name, datatype, shape, data: new Uint8Array(0) };
}

const image = tensor("image", "FP32", [2, 3, 5]);
const mask = tensor("mask", "BOOL", [4, 2]);
const scale = tensor("scale", "FP64", []);

Deno.test("checkInputs() puts inputs into declared order and says how many rows they have", () => {
  const checked = contract.checkInputs([scale, mask, image]);
  assert.deepEqual(checked.inputs, [image, mask, scale]);
  assert.equal(checked.rows, 2);
  const unbatched = new ClientContract("s", [
    { name: "scale", datatype: "FP64", shape: [], batchAxis: undefined },
  ], []);
  assert.equal(unbatched.checkInputs([scale]).rows, undefined);
  assert.deepEqual(new ClientContract("none", [], []).checkInputs([]), {
    inputs: [],
    rows: undefined,
  });
});

Deno.test("checkInputs() refuses what the model does not declare", async (t) => {
  const cases: [string, NamedTensor[], string][] = [
    [
      "an undeclared input",
      [image, mask, scale, tensor("extra", "FP32", [1])],
      'model "m" has no input "extra"; it takes "image", "mask", "scale"',
    ],
    ["one missing input", [image, mask], 'model "m" needs input "scale", not given'],
    ["several missing inputs", [mask], 'model "m" needs inputs "image", "scale", not given'],
    ["a repeated input", [image, image, mask], 'input "image" of model "m" is given twice'],
    [
      "another datatype",
      [tensor("image", "FP64", [2, 3, 5]), mask, scale],
      'input "image" of model "m" must be FP32[?,3,?], got FP64[2,3,5]',
    ],
    [
      "another rank",
      [tensor("image", "FP32", [3, 5]), mask, scale],
      'input "image" of model "m" must be FP32[?,3,?], got FP32[3,5]',
    ],
    [
      "another fixed extent",
      [tensor("image", "FP32", [2, 4, 5]), mask, scale],
      'input "image" of model "m" must be FP32[?,3,?], got FP32[2,4,5]',
    ],
    [
      "a vector for a scalar",
      [image, mask, tensor("scale", "FP64", [1])],
      'input "scale" of model "m" must be FP64[], got FP64[1]',
    ],
    [
      "batches that disagree",
      [image, tensor("mask", "BOOL", [4, 3]), scale],
      'inputs "image" and "mask" of model "m" disagree on the batch: 2 and 3 rows',
    ],
  ];
  for (const [name, tensors, message] of cases) {
    await t.step(name, () => {
      assert.throws(() => contract.checkInputs(tensors), (error) => {
        assert(error instanceof InvalidArgumentError);
        assert.equal(error.message, message);
        return true;
      });
    });
  }
});

Deno.test("wantedOutputs() gives those asked for in their order, or all", () => {
  const target = { region: "r", offset: 8, byteSize: 40 };
  assert.deepEqual(contract.wantedOutputs([]), [
    { name: "scores", target: undefined },
    { name: "label", target: undefined },
  ]);
  assert.deepEqual(
    contract.wantedOutputs([
      { name: "label", parameters: NO_PARAMETERS },
      { name: "scores", parameters: sharedMemoryParameters(target) },
      { name: "label", parameters: NO_PARAMETERS },
    ]),
    [
      { name: "label", target: undefined },
      { name: "scores", target },
      { name: "label", target: undefined },
    ],
  );
  assert.throws(() => contract.wantedOutputs([{ name: "logits", parameters: NO_PARAMETERS }]), {
    name: "InvalidArgumentError",
    message: 'model "m" has no output "logits"; it gives "scores", "label"',
  });
  const negative = sharedMemoryParameters({ region: "r", offset: 0, byteSize: -1 });
  assert.throws(() => contract.wantedOutputs([{ name: "scores", parameters: negative }]), {
    name: "InvalidArgumentError",
    message: 'output "scores" of model "m": parameter shared_memory_byte_size is out of range: -1',
  });
});

Deno.test("outputBytes() knows what the declaration and the rows say, and nothing else", () => {
  const outputs = new ClientContract("m", [], [
    { name: "scores", datatype: "FP32", shape: [-1, 10], batchAxis: 0 },
    { name: "boxes", datatype: "INT16", shape: [3, -1, 4], batchAxis: 1 },
    { name: "free", datatype: "FP32", shape: [-1, -1], batchAxis: 0 },
    { name: "label", datatype: "BYTES", shape: [2], batchAxis: undefined },
    { name: "table", datatype: "FP64", shape: [2, 3], batchAxis: undefined },
    { name: "scalar", datatype: "BOOL", shape: [], batchAxis: undefined },
  ]);
  const known = (rows: number | undefined) =>
    outputs.outputs.map(({ name }) => outputs.outputBytes(name, rows));
  assert.deepEqual(known(5), [200, 120, undefined, undefined, 48, 1]);
  assert.deepEqual(known(undefined), [undefined, undefined, undefined, undefined, 48, 1]);
});
