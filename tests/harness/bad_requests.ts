/** Requests that are wrong, each in one way, with the status and the message that say so. */

import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import type { status } from "@grpc/grpc-js";
import {
  type InferParameterSchema,
  ModelInferRequestSchema,
  SystemSharedMemoryRegisterRequestSchema,
} from "../../src/protocol/gen/inference/grpc_service_pb.ts";
import type { Random } from "../../src/protocol/testing/random.ts";

/** The path of ModelInfer. */
export const INFER = "/inference.GRPCInferenceService/ModelInfer";

type InferInit = MessageInitShape<typeof ModelInferRequestSchema>;

/** A request, encoded. */
export function infer(fields: InferInit): Uint8Array {
  return toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, fields));
}

/** Bytes of FP32 values. */
export function floats(...values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

const int64 = (value: bigint): MessageInitShape<typeof InferParameterSchema> => ({
  parameterChoice: { case: "int64Param", value },
});
const text = (value: string): MessageInitShape<typeof InferParameterSchema> => ({
  parameterChoice: { case: "stringParam", value },
});

const a = { name: "a", datatype: "FP32", shape: [1n, 2n] };
const b = { name: "b", datatype: "FP32", shape: [1n, 2n] };
const raw = [floats(1, 2), floats(10, 20)];
/** A right request to `pair`, which adds and subtracts. */
export const right: InferInit = { modelName: "pair", inputs: [a, b], rawInputContents: raw };

/** A request to `echo_fp32`, whose input is `x` FP32[?,3]. */
function echo(input: Record<string, unknown>, data: Uint8Array[], model = "echo_fp32"): Uint8Array {
  return infer({
    modelName: model,
    inputs: [{ name: "x", datatype: "FP32", shape: [1n, 3n], ...input }],
    rawInputContents: data,
  });
}

const x = [floats(1, 2, 3)];

/** Bytes that look random and are always the same. */
function garbage(length: number): Uint8Array {
  const blocks = Array.from(
    { length: Math.ceil(length / 32) },
    (_, index) => createHash("sha256").update(`garbage ${index}`).digest(),
  );
  return new Uint8Array(Buffer.concat(blocks).subarray(0, length));
}

/** A message, where it is sent, and what has to come of it. */
export interface BadRequest {
  readonly path?: string;
  readonly message: Uint8Array;
  readonly status: keyof typeof status;
  readonly says: RegExp;
}

function bad(message: Uint8Array, code: keyof typeof status, says: RegExp): BadRequest {
  return { message, status: code, says };
}

const invalid = (message: Uint8Array, says: RegExp) => bad(message, "INVALID_ARGUMENT", says);

/** By what is wrong with them. */
export const BAD_INFERS: Record<string, BadRequest> = {
  "an empty message": invalid(new Uint8Array(0), /model_name/),
  "a request without inputs": invalid(infer({ modelName: "pair" }), /needs inputs "a", "b"/),
  "random bytes": invalid(garbage(300), /Malformed ModelInferRequest/),
  "a million random bytes": invalid(garbage(1_000_000), /Malformed ModelInferRequest/),
  "a message cut short": invalid(infer(right).subarray(0, -3), /claims 8 bytes where 5 remain/),
  "a length of 2 GiB": invalid(
    Uint8Array.of(0x3a, 0xff, 0xff, 0xff, 0xff, 0x07),
    /claims 2147483647 bytes/,
  ),
  "a name as a number": invalid(Uint8Array.of(0x08, 1), /field 1 has wire type 0/),
  "a name that is not UTF-8": invalid(Uint8Array.of(0x0a, 2, 0xc3, 0x28), /UTF-8/),
  "an overlong varint": invalid(
    Uint8Array.of(0x78, ...new Array(11).fill(0x80), 0),
    /longer than ten bytes/,
  ),
  "groups without end": invalid(new Uint8Array(100_000).fill(0x7b), /nested deeper than 100/),
  "a million inputs": invalid(
    new Uint8Array(2_000_000).map((_, index) => index % 2 === 0 ? 0x2a : 0),
    /more than 4096 inputs/,
  ),
  "a parameter of the wrong wire type": invalid(
    Uint8Array.of(...infer(right), 0x22, 7, 0x0a, 1, 0x6b, 0x12, 2, 0x18, 1),
    /parameter value has the wrong wire type/,
  ),
  "an unknown model": bad(infer({ ...right, modelName: "nobody" }), "NOT_FOUND", /"nobody"/),
  "an empty model name": invalid(infer({ ...right, modelName: "" }), /model_name/),
  "an undeclared input": invalid(
    infer({ ...right, inputs: [a, { ...b, name: "c" }] }),
    /model "pair" has no input "c"; it takes "a", "b"/,
  ),
  "an input given twice": invalid(
    infer({ ...right, inputs: [a, a] }),
    /input "a" of model "pair" is given twice/,
  ),
  "a missing input": invalid(
    infer({ ...right, inputs: [b], rawInputContents: [raw[1]!] }),
    /model "pair" needs input "a"/,
  ),
  "a batch the inputs disagree on": invalid(
    infer({
      ...right,
      inputs: [a, { ...b, shape: [2n, 2n] }],
      rawInputContents: [raw[0]!, floats(1, 2, 3, 4)],
    }),
    /inputs "a" and "b" of model "pair" disagree on the batch: 1 and 2 rows/,
  ),
  "an unknown datatype": invalid(
    echo({ datatype: "FLOAT32" }, x),
    /input "x" of model "echo_fp32" has unknown datatype "FLOAT32"/,
  ),
  "no datatype": invalid(echo({ datatype: "" }, x), /input "x".*unknown datatype ""/),
  "another datatype of the same size": invalid(
    echo({ datatype: "INT32" }, x),
    /input "x" of model "echo_fp32" must be FP32\[\?,3\], got INT32\[1,3\]/,
  ),
  "another rank": invalid(echo({ shape: [3n] }, x), /input "x".*got FP32\[3\]/),
  "no shape": invalid(echo({ shape: [] }, [floats(1)]), /input "x".*got FP32\[\]/),
  "another fixed extent": invalid(
    echo({ shape: [1n, 2n] }, [floats(1, 2)]),
    /input "x".*must be FP32\[\?,3\], got FP32\[1,2\]/,
  ),
  "a negative extent": invalid(
    echo({ shape: [-1n, 3n] }, x),
    /input "x".*negative extent: \[-1,3\]/,
  ),
  "extents whose product overflows": invalid(
    echo({ shape: [2n ** 62n, 4n] }, x),
    /input "x".*larger than any memory/,
  ),
  "an extent of 2^63 - 1": invalid(
    echo({ shape: [2n ** 63n - 1n, 3n] }, x),
    /input "x".*larger than any memory/,
  ),
  "65 axes": invalid(echo({ shape: new Array(65).fill(1n) }, x), /more than 64 axes/),
  "a batch beyond the compiled ones": invalid(
    echo({ shape: [5n, 3n] }, [new Uint8Array(60)]),
    /5 .*"echo_fp32".*4/,
  ),
  "a huge batch without its bytes": invalid(
    echo({ shape: [1_000_000_000n, 3n] }, x),
    /input "x".*12 bytes; FP32\[1000000000,3\] takes 12000000000/,
  ),
  "a batch of nothing": invalid(
    echo({ shape: [0n, 3n] }, [new Uint8Array(0)]),
    /"echo_fp32".*0 rows/,
  ),
  "extents no program was compiled for": invalid(
    echo({ shape: [1n, 3n] }, x, "variants"),
    /"?x"?.*3/,
  ),
  "too few bytes": invalid(echo({}, [floats(1, 2)]), /input "x".*8 bytes; FP32\[1,3\] takes 12/),
  "a byte too many": invalid(echo({}, [new Uint8Array(13)]), /input "x".*13 bytes/),
  "no bytes": invalid(echo({}, [new Uint8Array(0)]), /input "x".*0 bytes/),
  "too few raw contents": invalid(
    infer({ ...right, rawInputContents: [raw[0]!] }),
    /"pair": raw_input_contents has 1 entries for 2 inputs/,
  ),
  "too many raw contents": invalid(
    infer({ ...right, rawInputContents: [...raw, raw[0]!] }),
    /"pair": raw_input_contents has 3 entries for 2 inputs/,
  ),
  "raw contents and no inputs": invalid(
    infer({ modelName: "pair", rawInputContents: raw }),
    /raw_input_contents has 2 entries for 0 inputs/,
  ),
  "no data at all": invalid(echo({}, []), /input "x" of model "echo_fp32" has no data/),
  "too few typed values": invalid(
    echo({ contents: { fp32Contents: [1, 2] } }, []),
    /input "x".*2 values in fp32_contents where its shape takes 3/,
  ),
  "too many typed values": invalid(
    echo({ contents: { fp32Contents: [1, 2, 3, 4] } }, []),
    /input "x".*4 values in fp32_contents/,
  ),
  "typed values in another field": invalid(
    echo({ contents: { fp64Contents: [1, 2, 3] } }, []),
    /input "x".*0 values in fp32_contents.*there are values in fp64_contents/,
  ),
  "a typed value out of range": invalid(
    echo({ datatype: "INT8", contents: { intContents: [1, 2, 300] } }, [], "echo_int8"),
    /input "x" of model "echo_int8" has 300 at element 2, which is no INT8/,
  ),
  "a negative value for an unsigned type": invalid(
    echo({ datatype: "UINT8", contents: { uintContents: [1, 2, 4294967295] } }, [], "echo_uint8"),
    /input "x".*4294967295 at element 2, which is no UINT8/,
  ),
  "typed contents for FP16": invalid(
    echo({ datatype: "FP16", contents: { fp32Contents: [1, 2, 3] } }, [], "echo_fp16"),
    /input "x".*FP16, which has no typed contents/,
  ),
  "typed contents for BF16": invalid(
    echo({ datatype: "BF16", contents: { fp32Contents: [1, 2, 3] } }, [], "echo_bf16"),
    /input "x".*BF16, which has no typed contents/,
  ),
  "a BYTES length beyond the end": invalid(
    infer({
      modelName: "strings",
      inputs: [{ name: "text", datatype: "BYTES", shape: [1n] }],
      rawInputContents: [Uint8Array.of(200, 0, 0, 0, 0x61)],
    }),
    /input "text" of model "strings": BYTES element 0 claims 200 bytes where 1 remain/,
  ),
  "a BYTES length cut short": invalid(
    infer({
      modelName: "strings",
      inputs: [{ name: "text", datatype: "BYTES", shape: [1n] }],
      rawInputContents: [Uint8Array.of(1, 0)],
    }),
    /input "text".*BYTES element 0 has 2 of its 4 length bytes/,
  ),
  "another number of BYTES elements": invalid(
    infer({
      modelName: "strings",
      inputs: [{ name: "text", datatype: "BYTES", shape: [2n] }],
      rawInputContents: [Uint8Array.of(1, 0, 0, 0, 0x61)],
    }),
    /input "text".*1 BYTES elements where its shape takes 2/,
  ),
  "an element its hook refuses": bad(
    infer({
      modelName: "strings",
      inputs: [{ name: "text", datatype: "BYTES", shape: [1n] }],
      rawInputContents: [Uint8Array.of(65, 0, 0, 0, ...new Uint8Array(65))],
    }),
    "INTERNAL",
    /preprocess of model "strings" failed: RangeError: element 0 is longer than 64 bytes/,
  ),
  "an undeclared output": invalid(
    infer({ ...right, outputs: [{ name: "sum" }, { name: "product" }] }),
    /model "pair" has no output "product"; it gives "sum", "difference"/,
  ),
  "a shared-memory region nobody registered": bad(
    echo({
      parameters: { shared_memory_region: text("r"), shared_memory_byte_size: int64(12n) },
    }, []),
    "FAILED_PRECONDITION",
    /unregistered shared memory region/,
  ),
  "a shared-memory input without a size": invalid(
    echo({ parameters: { shared_memory_region: text("r") } }, []),
    /input "x".*no parameter shared_memory_byte_size/,
  ),
  "a shared-memory input at a negative offset": invalid(
    echo({
      parameters: {
        shared_memory_region: text("r"),
        shared_memory_byte_size: int64(12n),
        shared_memory_offset: int64(-4n),
      },
    }, []),
    /input "x".*shared_memory_offset is out of range: -4/,
  ),
  "a shared-memory output in a region nobody registered": bad(
    infer({
      ...right,
      outputs: [{
        name: "sum",
        parameters: { shared_memory_region: text("r"), shared_memory_byte_size: int64(8n) },
      }],
    }),
    "FAILED_PRECONDITION",
    /unregistered shared memory region/,
  ),
  "a budget of one nanosecond": bad(
    infer({ ...right, parameters: { reactant_timeout_ns: int64(1n) } }),
    "DEADLINE_EXCEEDED",
    /./,
  ),
};

const SERVICE = "/inference.GRPCInferenceService/";

const register = (fields: MessageInitShape<typeof SystemSharedMemoryRegisterRequestSchema>) =>
  toBinary(
    SystemSharedMemoryRegisterRequestSchema,
    create(SystemSharedMemoryRegisterRequestSchema, fields),
  );

/** To other methods, and to none. */
export const BAD_CALLS: Record<string, BadRequest> = {
  "metadata of an unknown model": {
    path: `${SERVICE}ModelMetadata`,
    ...bad(Uint8Array.of(0x0a, 1, 0x7a), "NOT_FOUND", /"z"/),
  },
  "the configuration of an unknown model": {
    path: `${SERVICE}ModelConfig`,
    ...bad(Uint8Array.of(0x0a, 1, 0x7a), "NOT_FOUND", /"z"/),
  },
  "statistics of an unknown model": {
    path: `${SERVICE}ModelStatistics`,
    ...bad(Uint8Array.of(0x0a, 1, 0x7a), "NOT_FOUND", /"z"/),
  },
  "garbage for another method": {
    path: `${SERVICE}ModelMetadata`,
    ...invalid(Uint8Array.of(0x0a, 0x50), /Malformed ModelMetadataRequest/),
  },
  "a region without a name": {
    path: `${SERVICE}SystemSharedMemoryRegister`,
    ...invalid(register({ key: "/k", byteSize: 1n }), /name/),
  },
  "a region of an object that is not there": {
    path: `${SERVICE}SystemSharedMemoryRegister`,
    ...invalid(register({ name: "r", key: "/reactant_no_such_object", byteSize: 1n }), /"r"/),
  },
  "a region outside the folder of objects": {
    path: `${SERVICE}SystemSharedMemoryRegister`,
    ...invalid(register({ name: "r", key: "/../../etc/passwd", byteSize: 1n }), /"r"/),
  },
  "a region of no bytes": {
    path: `${SERVICE}SystemSharedMemoryRegister`,
    ...invalid(register({ name: "r", key: "/k" }), /"r"/),
  },
  "a method nobody has": {
    path: `${SERVICE}ModelStreamInfer`,
    ...bad(new Uint8Array(0), "UNIMPLEMENTED", /./),
  },
  "a service nobody has": {
    path: "/inference.Nothing/ModelInfer",
    ...bad(new Uint8Array(0), "UNIMPLEMENTED", /./),
  },
  "a control method of the gateway": {
    path: "/reactant_control.GatewayControlService/Repack",
    ...bad(new Uint8Array(0), "UNIMPLEMENTED", /./),
  },
};

/** A right request, raw or typed, that was changed in up to three places. */
export function mutated(random: Random): Uint8Array {
  const typed = (input: typeof a) => ({ ...input, contents: { fp32Contents: [1, 2] } });
  const request = random.below(2) === 0
    ? right
    : { modelName: "pair", inputs: [typed(a), typed(b)], outputs: [{ name: "sum" }] };
  const bytes = [...infer(request)];
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    const at = random.below(bytes.length);
    const byte = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    bytes.splice(at, random.below(2), ...random.pick([[byte], [byte], [], [byte, byte]]));
  }
  return Uint8Array.from(bytes);
}

/** One that no gRPC client sends. */
export interface HttpRequest {
  readonly headers?: Record<string, string>;
  /** The whole body, gRPC framing included. */
  readonly body: Uint8Array;
  /** A name, or the HTTP status of an answer that is no gRPC at all. */
  readonly status: keyof typeof status | number;
}

/** One gRPC frame; `flag` 1 says it is compressed, `length` overrides the length it states. */
function frame(message: Uint8Array, { flag = 0, length = message.length } = {}): Uint8Array {
  const framed = new Uint8Array(5 + message.length);
  framed[0] = flag;
  new DataView(framed.buffer).setUint32(1, length);
  framed.set(message, 5);
  return framed;
}

/**
 * Requests that no gRPC client sends. The statuses are those of gRPC's own list of who answers what
 * (grpc/grpc, doc/statuscodes.md) and of its protocol over HTTP/2. On grpc-js, which has some of its
 * own, only what comes after counts.
 */
export const BAD_FRAMES: Record<string, HttpRequest> = {
  "compressed garbage": {
    headers: { "grpc-encoding": "gzip" },
    body: frame(garbage(200), { flag: 1 }),
    status: "INTERNAL",
  },
  "compression without a name for it": {
    body: frame(infer(right), { flag: 1 }),
    status: "INTERNAL",
  },
  "a compression nobody knows": {
    headers: { "grpc-encoding": "rot13" },
    body: frame(infer(right), { flag: 1 }),
    status: "UNIMPLEMENTED",
  },
  "a frame that states 4 GiB": {
    body: frame(infer(right), { length: 2 ** 32 - 1 }),
    status: "RESOURCE_EXHAUSTED",
  },
  "no message": { body: new Uint8Array(0), status: "UNIMPLEMENTED" },
  "a timeout that is none": {
    headers: { "grpc-timeout": "soon" },
    body: frame(infer(right)),
    status: "INVALID_ARGUMENT",
  },
  "a timeout that has passed": {
    headers: { "grpc-timeout": "0n" },
    body: frame(infer(right)),
    status: "DEADLINE_EXCEEDED",
  },
  "another content type": {
    headers: { "content-type": "application/json" },
    body: new TextEncoder().encode("{}"),
    status: 415,
  },
};
