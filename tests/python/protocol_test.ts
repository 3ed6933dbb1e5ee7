/** Our messages against those of tritonclient and Python's protobuf. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import {
  decodeInferRequest,
  encodeInferRequest,
  encodeInferResponse,
  file_inference_grpc_service,
  file_inference_model_config,
  type InferParameter,
  requestTensors,
} from "../../src/protocol/mod.ts";
import { runPython } from "../harness/python.ts";

async function python(script: string, args: readonly string[]) {
  const { code, stdout, stderr } = await runPython(`tests/python/${script}`, args);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

Deno.test("the inference messages have the names, numbers and types that tritonclient has", async () => {
  const files = [file_inference_model_config, file_inference_grpc_service].map(({ proto }) =>
    Buffer.from(toBinary(FileDescriptorProtoSchema, proto)).toString("base64")
  );
  const { differences, messages, fields, oursOnly } = await python("descriptors.py", files);
  assert.deepEqual(differences, []);
  assert(messages > 50 && fields > 150, `compared only ${messages} messages and ${fields} fields`);
  assert.deepEqual(oursOnly, [
    "IsSameIPCNamespace",
    "inference.IsSameIPCNamespaceRequest",
    "inference.IsSameIPCNamespaceResponse",
  ]);
});

interface EmittedRequest {
  readonly model: string;
  readonly id: string;
  readonly datatype: string;
  readonly shape: number[];
  readonly parameters: { flag: boolean; count: number; text: string; ratio: number };
  readonly tensors: string[];
  readonly typed: boolean;
  readonly message: string;
}

Deno.test("requests of tritonclient are read, and what is encoded here Python reads", async () => {
  const emitted: EmittedRequest[] = await python("wire_messages.py", ["emit"]);
  const answers: { request: string; response: string }[] = [];
  for (const wanted of emitted) {
    const request = decodeInferRequest([Buffer.from(wanted.message, "base64")]);
    assert.equal(request.modelName, wanted.model);
    assert.equal(request.modelVersion, "3");
    assert.equal(request.id, wanted.id);
    assert.deepEqual(request.outputs.map(({ name }) => name), ["out"]);
    const { flag, count, text, ratio } = wanted.parameters;
    assert.deepEqual(
      request.parameters,
      new Map<string, InferParameter>([
        ["flag", { kind: "bool", value: flag }],
        ["count", { kind: "int64", value: count }],
        ["text", { kind: "string", value: text }],
        ["ratio", { kind: "double", value: ratio }],
      ]),
    );
    const tensors = requestTensors(request);
    assert.deepEqual(tensors.map(({ datatype, shape }) => ({ datatype, shape })), [
      ...wanted.tensors.map(() => ({ datatype: wanted.datatype, shape: wanted.shape })),
    ]);
    assert.deepEqual(
      tensors.map(({ data }) => Buffer.from(data).toString("base64")),
      wanted.tensors,
      `${wanted.datatype}${wanted.shape} ${wanted.typed ? "typed" : "raw"}`,
    );
    if (wanted.typed) continue;
    const { modelName, modelVersion, id, parameters } = request;
    const common = { modelName, modelVersion, id, parameters };
    const whole = (chunks: Uint8Array[]) => Buffer.concat(chunks).toString("base64");
    answers.push({
      request: whole(encodeInferRequest({ ...common, inputs: tensors, outputs: request.outputs })),
      response: whole(encodeInferResponse({ ...common, outputs: tensors })),
    });
  }
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeTextFile(file, JSON.stringify(answers));
    assert.deepEqual(await python("wire_messages.py", ["check", file]), {
      checked: answers.length,
    });
  } finally {
    await Deno.remove(file);
  }
});
