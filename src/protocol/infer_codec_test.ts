import assert from "node:assert/strict";
import {
  create,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { InternalError, InvalidArgumentError } from "../errors.ts";
import {
  type InferParameterSchema,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
} from "./gen/inference/grpc_service_pb.ts";
import {
  decodeInferRequest,
  decodeInferResponse,
  encodeInferRequest,
  encodeInferResponse,
  type InferTensor,
} from "./infer_codec.ts";
import type { InferParameter, InferParameters } from "./parameters.ts";
import { Random } from "./testing/random.ts";

function joined(chunks: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}

/** Cuts bytes into chunks at random places, empty chunks included. */
function cut(bytes: Uint8Array, random: Random): Uint8Array[] {
  const places = Array.from({ length: random.below(6) }, () => random.below(bytes.length + 1));
  places.sort((a, b) => a - b);
  return [0, ...places].map((start, index) => bytes.slice(start, places[index] ?? bytes.length));
}

const TEXTS = [
  "",
  "x",
  "input__0",
  "naïve",
  "モデル",
  "🙂",
  "a".repeat(63),
  "b".repeat(300),
  "\0\ufeff",
];

function randomParameters(random: Random): Map<string, InferParameter> {
  const map = new Map<string, InferParameter>();
  for (let count = random.below(3); count > 0; count--) {
    const wide = random.pick([0n, 1n, -1n, 2n ** 53n, -(2n ** 63n), 2n ** 63n - 1n, 123456789012n]);
    const int64 = BigInt(Number(wide)) === wide && Number.isSafeInteger(Number(wide))
      ? Number(wide)
      : wide;
    const unsigned = random.pick([0, 7, 2n ** 64n - 1n, 2n ** 53n]);
    map.set(
      random.pick(TEXTS),
      random.pick<InferParameter>([
        { kind: "bool", value: random.below(2) === 1 },
        { kind: "int64", value: int64 },
        { kind: "string", value: random.pick(TEXTS) },
        { kind: "double", value: random.pick([0, -0, 1.5, -1e300, Infinity]) },
        { kind: "uint64", value: unsigned },
      ]),
    );
  }
  return map;
}

type ParameterInit = MessageInitShape<typeof InferParameterSchema>;

function generatedParameters(map: InferParameters): Record<string, ParameterInit> {
  const choice = (parameter: InferParameter): ParameterInit => {
    switch (parameter.kind) {
      case "bool":
        return { parameterChoice: { case: "boolParam", value: parameter.value } };
      case "int64":
        return { parameterChoice: { case: "int64Param", value: BigInt(parameter.value) } };
      case "string":
        return { parameterChoice: { case: "stringParam", value: parameter.value } };
      case "double":
        return { parameterChoice: { case: "doubleParam", value: parameter.value } };
      case "uint64":
        return { parameterChoice: { case: "uint64Param", value: BigInt(parameter.value) } };
    }
  };
  return Object.fromEntries([...map].map(([key, value]) => [key, choice(value)]));
}

interface RandomTensor {
  name: string;
  datatype: string;
  shape: number[];
  parameters: Map<string, InferParameter>;
  data: Uint8Array | undefined;
}

function randomTensor(random: Random): RandomTensor {
  return {
    name: random.pick(TEXTS),
    datatype: random.pick(["FP32", "BYTES", "", "NONSENSE"]),
    shape: Array.from(
      { length: random.below(5) },
      () => random.pick([0, 1, -1, 127, 128, 300000, 2 ** 31, 2 ** 40 + 3, 2 ** 53 - 1]),
    ),
    parameters: randomParameters(random),
    data: random.below(4) === 0
      ? undefined
      : random.bytes(random.pick([0, 1, 127, 128, 1000, 5000, 20000])),
  };
}

function generatedTensor(tensor: RandomTensor) {
  const { name, datatype, shape, parameters } = tensor;
  return {
    name,
    datatype,
    shape: shape.map(BigInt),
    parameters: generatedParameters(parameters),
  };
}

function comparable(tensor: InferTensor | RandomTensor) {
  const { name, datatype, shape, parameters } = tensor;
  return { name, datatype, shape: [...shape], parameters: new Map(parameters) };
}

Deno.test("encodeInferRequest() and decodeInferRequest() agree with the generated code on random messages", () => {
  const random = new Random(1);
  for (let round = 0; round < 400; round++) {
    const message = {
      modelName: random.pick(TEXTS),
      modelVersion: random.pick(TEXTS),
      id: random.pick(TEXTS),
      parameters: randomParameters(random),
      inputs: Array.from({ length: random.below(4) }, () => randomTensor(random)),
      outputs: Array.from({ length: random.below(3) }, () => ({
        name: random.pick(TEXTS),
        parameters: randomParameters(random),
      })),
    };
    const raw = message.inputs.flatMap(({ data }) => data === undefined ? [] : [data]);
    const expected = create(ModelInferRequestSchema, {
      ...message,
      parameters: generatedParameters(message.parameters),
      inputs: message.inputs.map(generatedTensor),
      outputs: message.outputs.map(({ name, parameters }) => ({
        name,
        parameters: generatedParameters(parameters),
      })),
      rawInputContents: raw,
    });
    assert.deepEqual(
      fromBinary(ModelInferRequestSchema, joined(encodeInferRequest(message))),
      expected,
    );

    const decoded = decodeInferRequest(cut(toBinary(ModelInferRequestSchema, expected), random));
    assert.equal(decoded.modelName, message.modelName);
    assert.equal(decoded.modelVersion, message.modelVersion);
    assert.equal(decoded.id, message.id);
    assert.deepEqual(decoded.parameters, message.parameters);
    assert.deepEqual(decoded.inputs.map(comparable), message.inputs.map(comparable));
    assert.deepEqual(decoded.outputs, message.outputs);
    assert.deepEqual(decoded.rawContents.map((data) => [...data]), raw.map((data) => [...data]));
  }
});

Deno.test("encodeInferResponse() and decodeInferResponse() agree with the generated code on random messages", () => {
  const random = new Random(2);
  for (let round = 0; round < 400; round++) {
    const message = {
      modelName: random.pick(TEXTS),
      modelVersion: random.pick(TEXTS),
      id: random.pick(TEXTS),
      parameters: randomParameters(random),
      outputs: Array.from({ length: random.below(4) }, () => randomTensor(random)),
    };
    const raw = message.outputs.flatMap(({ data }) => data === undefined ? [] : [data]);
    const expected = create(ModelInferResponseSchema, {
      ...message,
      parameters: generatedParameters(message.parameters),
      outputs: message.outputs.map(generatedTensor),
      rawOutputContents: raw,
    });
    assert.deepEqual(
      fromBinary(ModelInferResponseSchema, joined(encodeInferResponse(message))),
      expected,
    );

    const decoded = decodeInferResponse(cut(toBinary(ModelInferResponseSchema, expected), random));
    assert.equal(decoded.modelName, message.modelName);
    assert.equal(decoded.modelVersion, message.modelVersion);
    assert.equal(decoded.id, message.id);
    assert.deepEqual(decoded.parameters, message.parameters);
    assert.deepEqual(decoded.outputs.map(comparable), message.outputs.map(comparable));
    assert.deepEqual(decoded.rawContents.map((data) => [...data]), raw.map((data) => [...data]));
  }
});

Deno.test("decodeInferRequest() gives views of the message where a tensor lies in one chunk", () => {
  const data = new Uint8Array(100_000).fill(7);
  const input = { name: "x", datatype: "UINT8", shape: [data.length], data };
  const bytes = joined(encodeInferRequest({ modelName: "m", inputs: [input] }));
  const [whole] = decodeInferRequest([bytes]).rawContents;
  assert.equal(whole!.buffer, bytes.buffer);
  assert.equal(whole!.length, data.length);

  const chunks = [bytes.subarray(0, 50), bytes.subarray(50, 60_000), bytes.subarray(60_000)];
  const [spanning] = decodeInferRequest(chunks).rawContents;
  assert.notEqual(spanning!.buffer, bytes.buffer);
  assert.deepEqual(spanning, data);
});

Deno.test("encodeInferResponse() hands on large tensors as they are and small messages as one chunk", () => {
  const large = new Uint8Array(1 << 20);
  const small = new Uint8Array(40);
  const output = (name: string, data: Uint8Array) => ({
    name,
    datatype: "UINT8",
    shape: [data.length],
    data,
  });
  const chunks = encodeInferResponse({
    modelName: "m",
    outputs: [output("a", large), output("b", small), output("c", new Uint8Array(0))],
  });
  assert.equal(chunks[1], large);
  assert.equal(chunks[3], small);
  assert.equal(chunks.every(({ length }) => length > 0), true);
  assert.equal(encodeInferResponse({ modelName: "m", outputs: [output("b", small)] }).length, 1);
});

Deno.test("encodeInferResponse() keeps no batch alive for a small part of it", () => {
  const batch = new Uint8Array(1 << 20).fill(5);
  const output = (name: string, data: Uint8Array) => ({
    name,
    datatype: "UINT8",
    shape: [data.length],
    data,
  });
  const chunks = encodeInferResponse({
    modelName: "m",
    outputs: [
      output("small", batch.subarray(1000, 7000)),
      output("large", batch.subarray(0, 1 << 19)),
    ],
  });
  assert.equal(chunks.filter((chunk) => chunk.buffer === batch.buffer).length, 1);
  assert.deepEqual(decodeInferResponse([joined(chunks)]).rawContents, [
    new Uint8Array(6000).fill(5),
    new Uint8Array(1 << 19).fill(5),
  ]);
});

Deno.test("encoded messages share no bytes with those encoded later", () => {
  const encode = (id: string) => encodeInferRequest({ modelName: "m", id, inputs: [] });
  const first = encode("first");
  const copy = first.map((chunk) => chunk.slice());
  for (let round = 0; round < 10_000; round++) encode("later");
  assert.deepEqual(first.map((chunk) => chunk.slice()), copy);
});

Deno.test("decodeInferRequest() accepts what protobuf accepts", async (t) => {
  const request = (...bytes: number[]) => decodeInferRequest([Uint8Array.from(bytes)]);
  await t.step("an empty message", () => {
    const decoded = request();
    assert.equal(decoded.modelName, "");
    assert.deepEqual(decoded.inputs, []);
    assert.deepEqual(decodeInferRequest([]), decoded);
  });
  await t.step("fields in any order, the last of a repeated scalar counting", () => {
    assert.equal(request(0x1a, 1, 0x61, 0x0a, 1, 0x62, 0x0a, 1, 0x63).modelName, "c");
  });
  await t.step("shapes packed, unpacked and mixed", () => {
    // inputs { shape: 1 (unpacked), [2, 3] (packed), 4 (unpacked) }
    const [input] = request(0x2a, 8, 0x18, 1, 0x1a, 2, 2, 3, 0x18, 4).inputs;
    assert.deepEqual(input!.shape, [1, 2, 3, 4]);
  });
  await t.step("contents given twice, which merge", () => {
    const [input] = request(0x2a, 8, 0x2a, 2, 0x10, 1, 0x2a, 2, 0x10, 2).inputs;
    assert.deepEqual(input!.contents, Uint8Array.of(0x10, 1, 0x10, 2));
  });
  await t.step("unknown fields of every wire type, groups included", () => {
    const bytes = [
      ...[0x78, 0x96, 0x01], // varint
      ...[0x79, 1, 2, 3, 4, 5, 6, 7, 8], // fixed64
      ...[0x7a, 2, 1, 2], // bytes
      ...[0x7b, 0x78, 1, 0x83, 0x01, 0x84, 0x01, 0x7c], // a group with a varint and a group in it
      ...[0x7d, 1, 2, 3, 4], // fixed32
      ...[0x0a, 1, 0x6d],
    ];
    assert.equal(request(...bytes).modelName, "m");
  });
  await t.step("a varint in ten bytes", () => {
    const [input] = request(0x2a, 11, 0x18, ...new Array(9).fill(0xff), 1).inputs;
    assert.deepEqual(input!.shape, [-1]);
  });
  await t.step("a length in more bytes than it needs", () => {
    assert.equal(request(0x0a, 0x81, 0x80, 0x00, 0x6d).modelName, "m");
  });
  await t.step("a map entry without a value, which hides an earlier one", () => {
    const entry = (...value: number[]) => [0x22, 3 + value.length, 0x0a, 1, 0x6b, ...value];
    assert.equal(request(...entry(0x12, 2, 0x10, 5)).parameters.get("k")?.value, 5);
    assert.equal(request(...entry(0x12, 2, 0x10, 5), ...entry()).parameters.size, 0);
  });
});

Deno.test("decodeInferRequest() refuses bytes that are no such message", async (t) => {
  const group = new Uint8Array(101).fill(0x7b);
  const cases: [string, Iterable<number>, RegExp][] = [
    ["a tag cut short", [0x8a], /ends in the middle/],
    ["a tag of field 0", [0x02, 0x00], /number 0/],
    ["a tag of six bytes", [0xff, 0xff, 0xff, 0xff, 0xff, 0x01], /field tag does not fit/],
    ["a varint of eleven bytes", [0x78, ...new Array(11).fill(0x80)], /longer than ten/],
    ["a length beyond the message", [0x0a, 5, 0x6d], /claims 5 bytes where 1 remain/],
    ["a length of 2 GiB", [0x3a, 0xff, 0xff, 0xff, 0xff, 0x07], /claims 2147483647 bytes/],
    ["a length of 4 GiB", [0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f], /claims 4294967295 bytes/],
    ["a length of 64 bits", [0x3a, ...new Array(9).fill(0xff), 1], /length does not fit/],
    ["a name as a varint", [0x08, 1], /field 1 has wire type 0/],
    ["inputs as fixed32", [0x2d, 0, 0, 0, 0], /field 5 has wire type 5/],
    ["raw contents as a group", [0x3b, 0x3c], /field 7 has wire type 3/],
    ["a shape as a double", [0x2a, 9, 0x19, 0, 0, 0, 0, 0, 0, 0, 0], /field 3 has wire type 1/],
    ["wire type 6", [0x7e, 0], /no known wire type/],
    ["wire type 7", [0x7f, 0], /no known wire type/],
    ["a group that is not closed", [0x7b], /ends in the middle/],
    ["a group closed by another", [0x7b, 0x74], /not begun/],
    ["the end of no group", [0x7c], /not begun/],
    ["groups without end", group, /nested deeper than 100/],
    ["a fixed64 cut short", [0x79, 1, 2, 3], /ends in the middle/],
    ["a nested message past its end", [0x2a, 2, 0x0a, 9], /claims 9 bytes where 0 remain/],
    ["a name that is not UTF-8", [0x0a, 2, 0xc3, 0x28], /UTF-8/],
    ["a tensor name that is not UTF-8", [0x2a, 3, 0x0a, 1, 0xff], /UTF-8/],
    ["an id that is not UTF-8", [0x1a, 1, 0x80], /UTF-8/],
    ["a shape cut short", [0x2a, 3, 0x1a, 1, 0x80], /ends in the middle/],
    ["a parameter key as a varint", [0x22, 2, 0x08, 1], /parameter has the wrong wire type/],
    ["a parameter value as a varint", [0x22, 4, 0x12, 2, 0x18, 1], /value has the wrong wire type/],
    ["a double cut short", [0x22, 6, 0x12, 4, 0x21, 0, 0, 0], /ends in the middle/],
    ["65 axes", [0x2a, 67, 0x1a, 65, ...new Array(65).fill(1)], /more than 64 axes/],
    ["4097 inputs", new Array(4097).fill([0x2a, 0]).flat(), /more than 4096 inputs/],
    ["4097 outputs", new Array(4097).fill([0x32, 0]).flat(), /more than 4096 outputs/],
    ["4097 raw contents", new Array(4097).fill([0x3a, 0]).flat(), /more than 4096 raw_input_con/],
  ];
  for (const [name, bytes, message] of cases) {
    await t.step(name, () => {
      const whole = Uint8Array.from(bytes);
      for (const chunks of [[whole], [...whole].map((byte) => Uint8Array.of(byte))]) {
        assert.throws(() => decodeInferRequest(chunks), (error) => {
          assert(error instanceof InvalidArgumentError);
          assert.match(error.message, /^Malformed ModelInferRequest: /);
          assert.match(error.message, message);
          return true;
        });
      }
    });
  }
  await t.step("a response is the server's fault", () => {
    assert.throws(() => decodeInferResponse([Uint8Array.of(0x0a)]), InternalError);
  });
});

Deno.test("decodeInferRequest() gives up on a message of countless fields", async (t) => {
  const floods: Record<string, number[]> = {
    "unknown ones": [0x78, 1],
    "the same name": [0x0a, 0],
    "the same parameter": [0x22, 0],
  };
  for (const [name, field] of Object.entries(floods)) {
    await t.step(name, () => {
      const bytes = new Uint8Array(field.length * (1 << 21));
      for (let at = 0; at < bytes.length; at += field.length) bytes.set(field, at);
      assert.throws(() => decodeInferRequest([bytes]), /more than 1048576 fields/);
    });
  }
  await t.step("nested in one tensor", () => {
    const inside = new Uint8Array(1 << 22).fill(0x78);
    for (let at = 1; at < inside.length; at += 2) inside[at] = 1;
    const [head] = encodeInferRequest({ modelName: "m", inputs: [] });
    const tensor = Uint8Array.of(0x2a, 0x80, 0x80, 0x80, 0x02);
    assert.throws(() => decodeInferRequest([head!, tensor, inside]), /more than 1048576 fields/);
  });
});

Deno.test("decodeInferRequest() survives mutated messages, and agrees with the generated code on those both take", () => {
  const random = new Random(3);
  const seeds = Array.from({ length: 20 }, () =>
    joined(encodeInferRequest({
      modelName: random.pick(TEXTS),
      id: random.pick(TEXTS),
      parameters: randomParameters(random),
      inputs: Array.from({ length: 1 + random.below(3) }, () => ({
        ...randomTensor(random),
        data: random.bytes(random.below(40)),
      })),
      outputs: [{ name: "y", parameters: randomParameters(random) }],
    })));
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    const bytes = random.pick(seeds).slice();
    for (let count = 1 + random.below(3); count > 0; count--) {
      bytes[random.below(bytes.length)] = random.pick([0, 0x7f, 0x80, 0xff, random.below(256)]);
    }
    const whole = bytes.subarray(0, random.below(3) === 0 ? random.below(bytes.length) : undefined);
    let ours;
    try {
      ours = decodeInferRequest(cut(whole, random));
    } catch (error) {
      assert(error instanceof InvalidArgumentError, String(error));
      continue;
    }
    let theirs: MessageShape<typeof ModelInferRequestSchema>;
    try {
      theirs = fromBinary(ModelInferRequestSchema, whole);
    } catch (error) {
      // Contents are decoded later, with their tensor; everything else must have been refused.
      assert(ours.inputs.some(({ contents }) => contents !== undefined), String(error));
      continue;
    }
    accepted++;
    assert.equal(ours.modelName, theirs.modelName);
    assert.equal(ours.id, theirs.id);
    assert.deepEqual(ours.inputs.map(({ name }) => name), theirs.inputs.map(({ name }) => name));
    assert.deepEqual(
      ours.inputs.map(({ shape }) => shape.map(Number)),
      theirs.inputs.map(({ shape }) => shape.map(Number)),
    );
    assert.deepEqual(
      ours.rawContents.map((data) => [...data]),
      theirs.rawInputContents.map((data) => [...data]),
    );
  }
  assert(accepted > 1000, `only ${accepted} mutated messages were accepted by both`);
});
