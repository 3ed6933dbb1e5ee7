import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { FailedPreconditionError, InternalError, InvalidArgumentError } from "../errors.ts";
import { encodeBytesElements } from "../tensor/mod.ts";
import { InferTensorContentsSchema } from "./gen/inference/grpc_service_pb.ts";
import type { InferRequest, InferTensor } from "./infer_codec.ts";
import { type InferParameter, NO_PARAMETERS, sharedMemoryParameters } from "./parameters.ts";
import { requestTensors, responseTensors, type SharedMemoryRegions } from "./tensors.ts";

function tensor(fields: Partial<InferTensor>): InferTensor {
  return {
    name: "x",
    datatype: "UINT8",
    shape: [2],
    parameters: NO_PARAMETERS,
    contents: undefined,
    ...fields,
  };
}

function request(inputs: InferTensor[], rawContents: Uint8Array[] = []): InferRequest {
  return {
    modelName: "m",
    modelVersion: "",
    id: "",
    parameters: NO_PARAMETERS,
    inputs,
    outputs: [],
    rawContents,
  };
}

function intContents(...values: number[]): Uint8Array {
  return toBinary(
    InferTensorContentsSchema,
    create(InferTensorContentsSchema, { intContents: values }),
  );
}

const inRegion = (offset: number, byteSize: number) =>
  sharedMemoryParameters({ region: "r", offset, byteSize });

Deno.test("requestTensors() takes raw contents as they are", () => {
  const raw = Uint8Array.of(1, 2);
  const [input] = requestTensors(request([tensor({})], [raw]));
  assert.deepEqual(input, { name: "x", datatype: "UINT8", shape: [2], data: raw });
  assert.equal(input!.data, raw);
});

Deno.test("requestTensors() prefers shared memory to raw contents, and those to typed ones", () => {
  const regions: SharedMemoryRegions = {
    read: ({ offset, byteSize }) => Uint8Array.of(9, 8, 7).subarray(offset, offset + byteSize),
  };
  const both = tensor({ datatype: "INT8", contents: intContents(5, 6) });
  const raw = Uint8Array.of(1, 2);
  const typed = requestTensors(request([both]));
  assert.deepEqual(typed[0]!.data, Uint8Array.of(5, 6));
  assert.deepEqual(requestTensors(request([both], [raw]))[0]!.data, raw);
  const shared = requestTensors(request([{ ...both, parameters: inRegion(1, 2) }], [raw]), regions);
  assert.deepEqual(shared[0]!.data, Uint8Array.of(8, 7));
});

Deno.test("requestTensors() takes raw contents for every input or for those not in shared memory", () => {
  const regions: SharedMemoryRegions = { read: () => Uint8Array.of(7, 7) };
  const inputs = [
    tensor({ name: "a" }),
    tensor({ name: "b", parameters: inRegion(0, 2) }),
    tensor({ name: "c" }),
  ];
  const [a, unused, c] = [Uint8Array.of(1, 1), new Uint8Array(0), Uint8Array.of(3, 3)];
  for (const raw of [[a, unused, c], [a, c]]) {
    const tensors = requestTensors(request(inputs, raw), regions);
    assert.deepEqual(tensors.map(({ data }) => [...data]), [[1, 1], [7, 7], [3, 3]]);
  }
  assert.throws(() => requestTensors(request(inputs, [a]), regions), {
    message: 'model "m": raw_input_contents has 1 entries for 3 inputs',
  });
});

Deno.test("requestTensors() keeps scalars at rank 0 and accepts tensors without elements", () => {
  const scalar = requestTensors(request([tensor({ shape: [] })], [Uint8Array.of(5)]));
  assert.deepEqual(scalar[0], {
    name: "x",
    datatype: "UINT8",
    shape: [],
    data: Uint8Array.of(5),
  });
  const empty = tensor({ datatype: "FP32", shape: [0, 4] });
  assert.equal(requestTensors(request([empty], [new Uint8Array(0)]))[0]!.data.length, 0);
  assert.equal(requestTensors(request([empty]))[0]!.data.length, 0);
  const strings = tensor({ datatype: "BYTES", shape: [0] });
  assert.equal(requestTensors(request([strings], [new Uint8Array(0)]))[0]!.data.length, 0);
});

Deno.test("requestTensors() makes booleans 0 or 1, copying only those that are not", () => {
  const input = tensor({ datatype: "BOOL", shape: [3] });
  const clean = Uint8Array.of(0, 1, 1);
  assert.equal(requestTensors(request([input], [clean]))[0]!.data, clean);
  const odd = Uint8Array.of(0, 2, 255);
  assert.deepEqual(requestTensors(request([input], [odd]))[0]!.data, Uint8Array.of(0, 1, 1));
  assert.deepEqual(odd, Uint8Array.of(0, 2, 255));
});

Deno.test("requestTensors() takes raw BYTES whose elements fill the data", () => {
  const data = encodeBytesElements(["", "ab", "🙂"]);
  const input = tensor({ datatype: "BYTES", shape: [3, 1] });
  assert.equal(requestTensors(request([input], [data]))[0]!.data, data);
});

Deno.test("requestTensors() refuses what contradicts itself, naming the tensor", async (t) => {
  const two = [Uint8Array.of(1, 2)];
  const strings = (shape: number[]) => tensor({ datatype: "BYTES", shape });
  const text = (value: string): InferParameter => ({ kind: "string", value });
  const cases: [string, InferTensor, Uint8Array[], string][] = [
    [
      "an unknown datatype",
      tensor({ datatype: "FLOAT" }),
      two,
      'input "x" of model "m" has unknown datatype "FLOAT"',
    ],
    [
      "a datatype of programs only",
      tensor({ datatype: "FP8_E5M2" }),
      two,
      'input "x" of model "m" has unknown datatype "FP8_E5M2"',
    ],
    [
      "a negative extent",
      tensor({ shape: [-1, 2] }),
      two,
      'input "x" of model "m" has a negative extent: [-1,2]',
    ],
    [
      "a product beyond 2^53",
      tensor({ shape: [2 ** 40, 2 ** 40] }),
      two,
      'input "x" of model "m" is larger than any memory: [1099511627776,1099511627776]',
    ],
    [
      "an extent of 2^63 - 1",
      tensor({ shape: [2 ** 63] }),
      two,
      'input "x" of model "m" is larger than any memory: [9223372036854776000]',
    ],
    [
      "64 axes of 2^53",
      tensor({ shape: new Array(64).fill(2 ** 53 - 1) }),
      two,
      `input "x" of model "m" is larger than any memory: [${
        new Array(64).fill(2 ** 53 - 1).join(",")
      }]`,
    ],
    [
      "too few bytes",
      tensor({ datatype: "FP32", shape: [2, 2] }),
      two,
      'input "x" of model "m" has 2 bytes; FP32[2,2] takes 16',
    ],
    [
      "too many bytes",
      tensor({ shape: [1] }),
      two,
      'input "x" of model "m" has 2 bytes; UINT8[1] takes 1',
    ],
    [
      "bytes for no elements",
      tensor({ shape: [0, 3] }),
      two,
      'input "x" of model "m" has 2 bytes; UINT8[0,3] takes 0',
    ],
    [
      "no data",
      tensor({}),
      [],
      'input "x" of model "m" has no data: neither raw_input_contents, nor contents, nor a shared-memory region',
    ],
    [
      "a BYTES length cut short",
      strings([1]),
      two,
      'input "x" of model "m": BYTES element 0 has 2 of its 4 length bytes',
    ],
    [
      "a BYTES length beyond the end",
      strings([1]),
      [Uint8Array.of(0xff, 0xff, 0xff, 0xff, 1)],
      'input "x" of model "m": BYTES element 0 claims 4294967295 bytes where 1 remain',
    ],
    [
      "too few BYTES elements",
      strings([2]),
      [Uint8Array.of(0, 0, 0, 0)],
      'input "x" of model "m" has 1 BYTES elements where its shape takes 2',
    ],
    [
      "a region without a size",
      tensor({ parameters: new Map([["shared_memory_region", text("r")]]) }),
      [],
      'input "x" of model "m" is in shared-memory region "r" but has no parameter shared_memory_byte_size',
    ],
    [
      "a region with a negative offset",
      tensor({ parameters: inRegion(-1, 2) }),
      [],
      'input "x" of model "m": parameter shared_memory_offset is out of range: -1',
    ],
    [
      "a region with a size as text",
      tensor({ parameters: new Map([...inRegion(0, 2), ["shared_memory_byte_size", text("2")]]) }),
      [],
      'input "x" of model "m": parameter shared_memory_byte_size must be an int64, got a string',
    ],
  ];
  for (const [name, input, raw, message] of cases) {
    await t.step(name, () => {
      assert.throws(() => requestTensors(request([input], raw)), (error) => {
        assert(error instanceof InvalidArgumentError);
        assert.equal(error.message, message);
        return true;
      });
    });
  }
  await t.step("a region nobody registered", () => {
    const input = tensor({ parameters: inRegion(0, 2) });
    assert.throws(() => requestTensors(request([input])), (error) => {
      assert(error instanceof FailedPreconditionError);
      assert.match(error.message, /unregistered shared memory region: "r"/);
      return true;
    });
  });
  await t.step("a region that is not the tensor's size", () => {
    const input = tensor({ parameters: inRegion(0, 3) });
    assert.throws(() => requestTensors(request([input]), { read: () => new Uint8Array(3) }), {
      message: 'input "x" of model "m" has 3 bytes; UINT8[2] takes 2',
    });
  });
  await t.step("a name that is very long, which the message cuts", () => {
    const input = tensor({ name: "n".repeat(1_000_000), datatype: "?" });
    assert.throws(() => requestTensors(request([input], two)), (error: Error) => {
      return error.message.length < 300;
    });
  });
});

Deno.test("responseTensors() pairs raw contents with the outputs that are in the message", () => {
  const base = { modelName: "m", modelVersion: "", id: "", parameters: NO_PARAMETERS };
  const outputs = [
    tensor({ name: "a", parameters: inRegion(0, 2) }),
    tensor({ name: "b" }),
    tensor({ name: "c", datatype: "INT8" }),
  ];
  const raw = [Uint8Array.of(1, 2), Uint8Array.of(3, 4)];
  const tensors = responseTensors({ ...base, outputs, rawContents: raw });
  assert.deepEqual(tensors.map(({ name, data }) => [name, ...data]), [["b", 1, 2], ["c", 3, 4]]);
  const typed = [tensor({ datatype: "INT8", contents: intContents(-1, 1) })];
  const [decoded] = responseTensors({ ...base, outputs: typed, rawContents: [] });
  assert.deepEqual(decoded!.data, Uint8Array.of(255, 1));
  assert.throws(
    () => responseTensors({ ...base, outputs, rawContents: [raw[0]!] }),
    InternalError,
  );
  assert.throws(
    () => responseTensors({ ...base, outputs: [tensor({})], rawContents: [new Uint8Array(1)] }),
    InternalError,
  );
});
