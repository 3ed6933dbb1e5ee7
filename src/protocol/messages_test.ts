import assert from "node:assert/strict";
import { InternalError, InvalidArgumentError } from "../errors.ts";
import { DATATYPES } from "../tensor/mod.ts";
import {
  GRPCInferenceService,
  RepositoryIndexRequestSchema,
} from "./gen/inference/grpc_service_pb.ts";
import { DataType } from "./gen/inference/model_config_pb.ts";
import {
  configDatatype,
  decodeRequest,
  decodeResponse,
  encodeMessage,
  methodPath,
} from "./messages.ts";

Deno.test("decodeRequest() reads a message from any chunks, and refuses what is none", () => {
  const [bytes] = encodeMessage(RepositoryIndexRequestSchema, { repositoryName: "r", ready: true });
  for (const chunks of [[bytes!], [bytes!.subarray(0, 1), bytes!.subarray(1)]]) {
    const message = decodeRequest(RepositoryIndexRequestSchema, chunks);
    assert.equal(message.repositoryName, "r");
    assert.equal(message.ready, true);
  }
  assert.equal(decodeRequest(RepositoryIndexRequestSchema, []).ready, false);
  const garbage = [
    Uint8Array.of(0x0a, 0xff),
    Uint8Array.of(0x0a, 1, 0xff),
    new Uint8Array(1_000_000).fill(0x7b),
  ];
  for (const bytes of garbage) {
    assert.throws(() => decodeRequest(RepositoryIndexRequestSchema, [bytes]), InvalidArgumentError);
    assert.throws(() => decodeResponse(RepositoryIndexRequestSchema, [bytes]), InternalError);
  }
});

Deno.test("methodPath() is the path of a gRPC request", () => {
  assert.equal(
    methodPath(GRPCInferenceService.method.modelInfer),
    "/inference.GRPCInferenceService/ModelInfer",
  );
});

Deno.test("configDatatype() has a name for everything clients can send", () => {
  for (const { datatype, onWire } of DATATYPES) {
    const name = datatype === "BYTES" ? "STRING" : datatype;
    assert.equal(DataType[configDatatype(datatype)], onWire ? `TYPE_${name}` : "TYPE_INVALID");
  }
});
