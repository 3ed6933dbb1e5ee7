import assert from "node:assert/strict";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { InternalError, NotFoundError } from "../errors.ts";
import {
  ModelConfigResponseSchema,
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  ModelReadyRequestSchema,
  ModelReadyResponseSchema,
  ModelStatisticsResponseSchema,
  RepositoryIndexRequestSchema,
  RepositoryIndexResponseSchema,
} from "../protocol/mod.ts";
import type { Message } from "../transport/mod.ts";
import { InferenceClient, type UnaryOptions } from "./model.ts";

/** A transport that answers every call with the same message and keeps what it was given. */
function answering(answer: Uint8Array) {
  const calls: { path: string; request: Uint8Array; options: UnaryOptions }[] = [];
  const client = new InferenceClient((path, request: Message, options) => {
    const joined = new Uint8Array(request.flatMap((chunk) => [...chunk]));
    calls.push({ path, request: joined, options });
    return Promise.resolve([answer]);
  });
  return { client, calls };
}

Deno.test("infer() sends tensors as raw contents and gives back those of the answer", async () => {
  const { client, calls } = answering(toBinary(
    ModelInferResponseSchema,
    create(ModelInferResponseSchema, {
      modelName: "m",
      id: "7",
      outputs: [{ name: "y", datatype: "UINT8", shape: [1n, 2n] }],
      rawOutputContents: [Uint8Array.of(3, 4)],
    }),
  ));
  const options = { deadlineMs: 1234 };
  const answer = await client.infer({
    modelName: "m",
    id: "7",
    inputs: [{ name: "x", datatype: "INT16", shape: [1], data: Uint8Array.of(1, 0) }],
    outputs: ["y"],
  }, options);
  assert.equal(calls[0]!.path, "/inference.GRPCInferenceService/ModelInfer");
  assert.equal(calls[0]!.options, options);
  const sent = fromBinary(ModelInferRequestSchema, calls[0]!.request);
  assert.deepEqual(
    sent,
    create(ModelInferRequestSchema, {
      modelName: "m",
      id: "7",
      inputs: [{ name: "x", datatype: "INT16", shape: [1n] }],
      outputs: [{ name: "y" }],
      rawInputContents: [Uint8Array.of(1, 0)],
    }),
  );
  assert.equal(answer.id, "7");
  assert.deepEqual(
    answer.outputs.map(({ name, datatype, shape, data }) => ({
      name,
      datatype,
      shape,
      data: [...data],
    })),
    [{ name: "y", datatype: "UINT8", shape: [1, 2], data: [3, 4] }],
  );
});

Deno.test("queries go to their method with the name asked about", async () => {
  const ready = answering(
    toBinary(ModelReadyResponseSchema, create(ModelReadyResponseSchema, { ready: true })),
  );
  assert.equal(await ready.client.modelReady("m"), true);
  assert.equal(ready.calls[0]!.path, "/inference.GRPCInferenceService/ModelReady");
  assert.equal(fromBinary(ModelReadyRequestSchema, ready.calls[0]!.request).name, "m");

  const index = answering(toBinary(
    RepositoryIndexResponseSchema,
    create(RepositoryIndexResponseSchema, { models: [{ name: "m", state: "READY" }] }),
  ));
  const models = await index.client.repositoryIndex({ onlyReady: true });
  assert.deepEqual(models.map(({ name, state }) => [name, state]), [["m", "READY"]]);
  assert.equal(fromBinary(RepositoryIndexRequestSchema, index.calls[0]!.request).ready, true);

  const statistics = answering(toBinary(
    ModelStatisticsResponseSchema,
    create(ModelStatisticsResponseSchema, { modelStats: [{ name: "m", inferenceCount: 5n }] }),
  ));
  assert.equal((await statistics.client.modelStatistics())[0]!.inferenceCount, 5n);

  const config = answering(toBinary(
    ModelConfigResponseSchema,
    create(ModelConfigResponseSchema, { config: { name: "m", maxBatchSize: 8 } }),
  ));
  assert.equal((await config.client.modelConfig("m")).maxBatchSize, 8);
});

Deno.test("a failed call rejects with its error, an answer that is no message with INTERNAL", async () => {
  const failing = new InferenceClient(() => Promise.reject(new NotFoundError("no such model")));
  await assert.rejects(failing.modelMetadata("m"), NotFoundError);
  const garbage = answering(Uint8Array.of(0xff, 0xff));
  await assert.rejects(garbage.client.serverLive(), InternalError);
  await assert.rejects(garbage.client.infer({ modelName: "m", inputs: [] }), InternalError);
  const empty = answering(new Uint8Array(0));
  await assert.rejects(empty.client.modelConfig("m"), InternalError);
});
