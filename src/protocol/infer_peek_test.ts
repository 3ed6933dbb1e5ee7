import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { InvalidArgumentError } from "../errors.ts";
import { ModelInferRequestSchema } from "./gen/inference/grpc_service_pb.ts";
import { peekInferRequest } from "./infer_peek.ts";

const message = toBinary(
  ModelInferRequestSchema,
  create(ModelInferRequestSchema, {
    modelName: "model",
    id: "req-1",
    parameters: {
      reactant_timeout_ns: { parameterChoice: { case: "int64Param", value: 2_000_000n } },
    },
    inputs: [
      { name: "a", datatype: "FP32", shape: [1n] },
      { name: "b", datatype: "FP32", shape: [7n, 300n], contents: { fp32Contents: [1, 2, 3, 4] } },
    ],
    outputs: [{ name: "y" }],
    rawInputContents: [new Uint8Array(4), new Uint8Array(100_000)],
  }),
);

Deno.test("peekInferRequest() finds name, id, budget and shape in the first bytes", () => {
  const peek = peekInferRequest([message.subarray(0, 120)], { tensor: "b", isWhole: false });
  assert.deepEqual(peek, {
    modelName: "model",
    id: "req-1",
    remainingBudgetMs: 2,
    shape: [7, 300],
    isComplete: true,
  });
  const nameOnly = peekInferRequest([message.subarray(0, 60)], { isWhole: false });
  assert.equal(nameOnly.isComplete, true);
  assert.equal(nameOnly.shape, undefined);
});

Deno.test("peekInferRequest() never takes a prefix for more than it is", () => {
  const whole = peekInferRequest([message], { tensor: "b", isWhole: true });
  for (let length = 0; length < 200; length++) {
    const chunks = [message.subarray(0, length >> 1), message.subarray(length >> 1, length)];
    const peek = peekInferRequest(chunks, { tensor: "b", isWhole: false });
    if (peek.isComplete) assert.deepEqual(peek, whole);
    else assert.equal(peek.shape === undefined || peek.shape.length === 2, true);
  }
});

Deno.test("peekInferRequest() stops looking for a tensor where the inputs end", () => {
  const peek = peekInferRequest([message.subarray(0, 200)], { tensor: "nope", isWhole: false });
  assert.equal(peek.isComplete, true);
  assert.equal(peek.shape, undefined);
});

Deno.test("peekInferRequest() reads fields that come in another order", () => {
  const nameLast = Uint8Array.of(
    ...[0x3a, 2, 9, 9], // raw contents
    ...[0x2a, 7, 0x1a, 2, 5, 6, 0x0a, 1, 0x62], // input with its shape before its name
    ...[0x0a, 1, 0x6d], // model name
  );
  const options = { tensor: "b", isWhole: true };
  const peek = peekInferRequest([nameLast], options);
  assert.equal(peek.modelName, "m");
  assert.deepEqual(peek.shape, [5, 6]);
});

Deno.test("peekInferRequest() refuses garbage, and a whole message that ends early", () => {
  const garbage = Uint8Array.of(0x07, 0xff, 0xff);
  for (const isWhole of [true, false]) {
    assert.throws(() => peekInferRequest([garbage], { isWhole }), InvalidArgumentError);
  }
  const axes = Uint8Array.of(0x2a, 70, 0x1a, 65, ...new Array(68).fill(1));
  assert.throws(() => peekInferRequest([axes], { tensor: "x", isWhole: false }), /64 axes/);
  const early = message.subarray(0, 3);
  assert.throws(() => peekInferRequest([early], { isWhole: true }), InvalidArgumentError);
  assert.equal(peekInferRequest([early], { isWhole: false }).isComplete, false);
});
