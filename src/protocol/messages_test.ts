import assert from "node:assert/strict";
import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
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
  fileDescriptors,
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

Deno.test("fileDescriptors() describe every service, each file after those it imports", () => {
  const files = fileDescriptors().map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  const seen = new Set<string>();
  for (const { name, dependency } of files) {
    assert(dependency.every((file) => seen.has(file)), name);
    seen.add(name);
  }
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: files }));
  const methods = registry.getService("inference.GRPCInferenceService")!.methods;
  assert.deepEqual(methods.map(({ name }) => name), [
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "IsSameIPCNamespace",
  ]);
  assert(registry.getService("reactant_control.ControlService"));
  assert(registry.getService("reactant_control.GatewayControlService"));
});

Deno.test("configDatatype() has a name for everything clients can send", () => {
  for (const { datatype, onWire } of DATATYPES) {
    const name = datatype === "BYTES" ? "STRING" : datatype;
    assert.equal(DataType[configDatatype(datatype)], onWire ? `TYPE_${name}` : "TYPE_INVALID");
  }
});
