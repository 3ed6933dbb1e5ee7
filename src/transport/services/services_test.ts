import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { file_grpc_health_v1_health } from "../gen/grpc/health/v1/health_pb.ts";
import {
  HealthCheckRequestSchema,
  HealthCheckResponseSchema,
  HealthListResponseSchema,
} from "../gen/grpc/health/v1/health_pb.ts";
import {
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
  ServerReflectionResponseSchema,
} from "../gen/grpc/reflection/v1/reflection_pb.ts";
import { GrpcClient } from "../grpc/mod.ts";
import { joinMessage, type Message } from "../handler.ts";
import { serveGrpc } from "../serve.ts";
import { healthMethods, HealthStatus } from "./health.ts";
import { reflectionMethods } from "./reflection.ts";

async function withServices(
  body: (client: GrpcClient, health: HealthStatus) => Promise<void>,
): Promise<void> {
  const health = new HealthStatus();
  health.set("", "SERVING");
  const server = await serveGrpc({
    transport: "native",
    hostname: "127.0.0.1",
    port: 0,
    maxReceiveBytes: 1 << 20,
    maxSendBytes: 1 << 20,
    methods: new Map([
      ...healthMethods(health),
      ...reflectionMethods({ files: [file_grpc_health_v1_health] }),
    ]),
  });
  const client = new GrpcClient({ target: `127.0.0.1:${server.port}` });
  try {
    await body(client, health);
  } finally {
    health.close();
    await client.close();
    await server.shutdown(1000);
  }
}

function ask(service: string): Message {
  return [toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service }))];
}

function statusIn(message: Message): number {
  return fromBinary(HealthCheckResponseSchema, joinMessage(message)).status;
}

Deno.test("health Check and List tell what they were told", () =>
  withServices(async (client, health) => {
    const check = async (service: string) =>
      statusIn((await client.unary("/grpc.health.v1.Health/Check", ask(service))).message);
    assert.equal(await check(""), 1);
    await assert.rejects(check("a.B"), { status: "NOT_FOUND" });
    health.set("a.B", "NOT_SERVING");
    assert.equal(await check("a.B"), 2);
    const { message } = await client.unary("/grpc.health.v1.Health/List", []);
    const { statuses } = fromBinary(HealthListResponseSchema, joinMessage(message));
    assert.deepEqual(Object.entries(statuses).map(([name, { status }]) => [name, status]), [
      ["", 1],
      ["a.B", 2],
    ]);
    await assert.rejects(
      client.unary("/grpc.health.v1.Health/Check", [Uint8Array.of(0xff)]),
      { status: "INVALID_ARGUMENT" },
    );
  }));

Deno.test("health Watch tells every change, unknown services included, and ends at shutdown", () =>
  withServices(async (client, health) => {
    const stream = client.stream("/grpc.health.v1.Health/Watch", [ask("m")]);
    const next = async () => statusIn((await stream.next()).value!);
    assert.equal(await next(), 3);
    health.set("m", "SERVING");
    assert.equal(await next(), 1);
    health.set("m", "SERVING");
    health.set("other", "SERVING");
    health.set("m", "NOT_SERVING");
    assert.equal(await next(), 2);
    health.remove("m");
    assert.equal(await next(), 3);
    health.set("m", "SERVING");
    assert.equal(await next(), 1);
    health.close();
    assert.equal(await next(), 2);
    await assert.rejects(stream.next(), { status: "UNAVAILABLE" });
  }));

type Question = ServerReflectionRequest["messageRequest"];

async function reflect(client: GrpcClient, version: string, questions: Question[]) {
  const requests = questions.map((messageRequest): Message => [
    toBinary(
      ServerReflectionRequestSchema,
      create(ServerReflectionRequestSchema, { host: "h", messageRequest }),
    ),
  ]);
  const answers = [];
  const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
  for await (const message of client.stream(path, requests)) {
    answers.push(fromBinary(ServerReflectionResponseSchema, joinMessage(message)));
  }
  return answers;
}

for (const version of ["v1", "v1alpha"]) {
  Deno.test(`reflection ${version} finds files by name and by anything in them`, () =>
    withServices(async (client) => {
      const file = "grpc/health/v1/health.proto";
      const symbols = [
        "grpc.health.v1.Health",
        "grpc.health.v1.Health.Check",
        "grpc.health.v1.HealthCheckResponse",
        "grpc.health.v1.HealthCheckResponse.ServingStatus",
        "grpc.health.v1.HealthCheckRequest.service",
      ];
      const answers = await reflect(client, version, [
        { case: "fileByFilename", value: file },
        ...symbols.map((value): Question => ({ case: "fileContainingSymbol", value })),
      ]);
      assert.equal(answers.length, 6);
      for (const { validHost, messageResponse } of answers) {
        assert.equal(validHost, "h");
        assert.equal(messageResponse.case, "fileDescriptorResponse");
        const [bytes] = (messageResponse.value as { fileDescriptorProto: Uint8Array[] })
          .fileDescriptorProto;
        const descriptor = fromBinary(FileDescriptorProtoSchema, bytes!);
        assert.equal(descriptor.name, file);
        assert.deepEqual(descriptor.service.map(({ name }) => name), ["Health"]);
      }
    }));

  Deno.test(`reflection ${version} lists services and says what it does not know`, () =>
    withServices(async (client) => {
      const answers = await reflect(client, version, [
        { case: "listServices", value: "" },
        { case: "fileByFilename", value: "no.proto" },
        { case: "fileContainingSymbol", value: "no.Thing" },
        { case: "fileContainingExtension", value: extension("grpc.health.v1.HealthListRequest") },
        { case: "allExtensionNumbersOfType", value: "grpc.health.v1.HealthListRequest" },
        { case: "allExtensionNumbersOfType", value: "no.Thing" },
        { case: undefined },
      ]);
      const kinds = answers.map(({ messageResponse: { case: kind, value } }) =>
        kind === "errorResponse" ? (value as { errorCode: number }).errorCode : kind
      );
      assert.deepEqual(kinds, [
        "listServicesResponse",
        5,
        5,
        5,
        "allExtensionNumbersResponse",
        5,
        3,
      ]);
      const { service } = answers[0]!.messageResponse.value as { service: { name: string }[] };
      assert.deepEqual(service.map(({ name }) => name), [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
      ]);
    }));
}

function extension(containingType: string) {
  return {
    $typeName: "grpc.reflection.v1.ExtensionRequest" as const,
    containingType,
    extensionNumber: 1,
  };
}
