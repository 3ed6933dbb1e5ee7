import assert from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import {
  decodeResponse,
  encodeMessage,
  GRPCInferenceService,
  methodPath,
  ModelMetadataRequestSchema,
  ModelMetadataResponseSchema,
  ModelReadyRequestSchema,
  ModelReadyResponseSchema,
  ModelStatisticsSchema,
  RepositoryIndexRequestSchema,
  RepositoryIndexResponseSchema,
  ServerMetadataResponseSchema,
  ServerReadyResponseSchema,
} from "../protocol/mod.ts";
import { mergeIndexes } from "./fleet_service.ts";
import { sumStatistics } from "./model_statistics.ts";
import { FakeWorker, startTestGateway, until } from "./testing.ts";

const SERVICE = GRPCInferenceService.method;

Deno.test("the fleet answers about itself as one worker would", async () => {
  await using a = await FakeWorker.start({ models: ["both", "only_a"] });
  await using b = await FakeWorker.start({ models: ["both", "loading"] });
  b.models.set("loading", false);
  await using gateway = await startTestGateway({ endpoints: [a.id, b.id] });
  await until(
    async () => (await gateway.http("/metrics")).body.match(/_worker_ready.* 1$/gm)?.length === 2,
    "both",
  );
  const ask = async (method: { name: string }, request: Uint8Array = new Uint8Array()) =>
    (await gateway.client.unary(`/${GRPCInferenceService.typeName}/${method.name}`, [request]))
      .message;
  const ready = await ask(SERVICE.serverReady);
  assert.equal(decodeResponse(ServerReadyResponseSchema, ready).ready, true);
  assert.equal((await ask(SERVICE.serverLive))[0]![1], 1);
  const metadata = decodeResponse(ServerMetadataResponseSchema, await ask(SERVICE.serverMetadata));
  assert.equal(metadata.name, "ReactantServer");
  assert.ok(metadata.extensions.includes("system_shared_memory"));

  const index = async (ready: boolean) => {
    const [request] = encodeMessage(RepositoryIndexRequestSchema, { ready });
    const message = await ask(SERVICE.repositoryIndex, request);
    return decodeResponse(RepositoryIndexResponseSchema, message).models.map((
      { name, state, reason },
    ) => [name, state, reason]);
  };
  assert.deepEqual(await index(false), [
    ["both", "READY", ""],
    ["loading", "UNAVAILABLE", "still compiling"],
    ["only_a", "READY", ""],
  ]);
  assert.deepEqual((await index(true)).map(([name]) => name), ["both", "only_a"]);

  const isReady = async (name: string) => {
    const [request] = encodeMessage(ModelReadyRequestSchema, { name });
    return decodeResponse(ModelReadyResponseSchema, await ask(SERVICE.modelReady, request)).ready;
  };
  assert.deepEqual(
    await Promise.all(["both", "only_a", "loading", "none"].map(isReady)),
    [true, true, false, false],
  );

  const describe = async (name: string) => {
    const [request] = encodeMessage(ModelMetadataRequestSchema, { name });
    const message = await ask(SERVICE.modelMetadata, request);
    return decodeResponse(ModelMetadataResponseSchema, message).platform;
  };
  assert.equal(await describe("only_a"), a.id);
  await assert.rejects(describe("none"), { status: "NOT_FOUND" });
  await assert.rejects(describe("loading"), { status: "UNAVAILABLE" });
  await a.kill();
  assert.equal(await describe("both"), b.id);
  await until(() => gateway.lines.some((line) => /state=failed/.test(line)), "ejection");
  await assert.rejects(describe("only_a"), { status: "UNAVAILABLE", message: /is failed/ });
});

Deno.test("what the gateway does not do is UNIMPLEMENTED; reflection lists what it does", async () => {
  await using worker = await FakeWorker.start();
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  await assert.rejects(
    gateway.client.unary("/reactant_control.ControlService/ModelControlStatus", []),
    { status: "UNIMPLEMENTED" },
  );
  const { message } = await gateway.client.unary("/grpc.health.v1.Health/Check", []);
  assert.deepEqual(message[0], Uint8Array.of(8, 1));
  assert.ok(methodPath(SERVICE.modelInfer).startsWith("/inference.GRPCInferenceService/"));
});

Deno.test("sumStatistics() adds counts and times, per model, version and batch size", () => {
  const duration = (count: bigint, ns: bigint) => ({ count, ns });
  const of = (name: string, at: bigint, count: bigint, sizes: bigint[]) =>
    create(ModelStatisticsSchema, {
      name,
      version: "1",
      lastInference: at,
      inferenceCount: count,
      executionCount: count / 2n,
      inferenceStats: { success: duration(count, 10n * count), queue: duration(count, count) },
      batchStats: sizes.map((batchSize) => ({ batchSize, computeInfer: duration(1n, batchSize) })),
    });
  const [b, m] = sumStatistics([
    of("m", 5n, 4n, [1n, 8n]),
    of("b", 1n, 2n, []),
    of("m", 3n, 6n, [8n]),
  ]);
  assert.equal(b!.inferenceCount, 2n);
  assert.equal(m!.name, "m");
  assert.equal(m!.lastInference, 5n);
  assert.equal(m!.inferenceCount, 10n);
  assert.equal(m!.executionCount, 5n);
  const { success, queue, fail } = m!.inferenceStats!;
  assert.deepEqual([success!.count, success!.ns, queue!.ns, fail], [10n, 100n, 10n, undefined]);
  assert.deepEqual(
    m!.batchStats.map((
      { batchSize, computeInfer },
    ) => [batchSize, computeInfer!.count, computeInfer!.ns]),
    [[1n, 1n, 1n], [8n, 2n, 16n]],
  );
});

Deno.test("mergeIndexes() prefers ready entries, then those with a reason", () => {
  const entry = (name: string, isReady: boolean, reason = "") => ({
    name,
    version: "",
    isReady,
    reason,
  });
  assert.deepEqual(
    mergeIndexes([[entry("b", false), entry("a", true)], [
      entry("b", false, "why"),
      entry("a", false),
    ]]),
    [entry("a", true), entry("b", false, "why")],
  );
});
