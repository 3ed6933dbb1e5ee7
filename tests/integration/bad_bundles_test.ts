/**
 * Bundles with something wrong, one kind per folder: each is refused with a message that says what, and
 * none keeps the others from being served.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { checkSignature, loadBundle, type ModelBundle, readProgram } from "../../src/bundle/mod.ts";
import { BundleError, messageOf } from "../../src/errors.ts";
import {
  ModelInferRequestSchema,
  ModelInferResponseSchema,
  RepositoryIndexRequestSchema,
  RepositoryIndexResponseSchema,
} from "../../src/protocol/gen/inference/grpc_service_pb.ts";
import type { Backend } from "../../src/runtime/mod.ts";
import { openCpuBackend } from "../fixtures/programs/golden.ts";
import { BAD_BUNDLES, type BadBundle } from "../harness/bad_bundles.ts";
import {
  denseBundle,
  float32Bytes,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { startServer } from "../harness/server.ts";

Deno.test("there are bad bundles of every kind, each under its own name", () => {
  assert.ok(BAD_BUNDLES.length >= 60);
  assert.equal(new Set(BAD_BUNDLES.map(({ name }) => name)).size, BAD_BUNDLES.length);
});

for (const bad of BAD_BUNDLES.filter(({ stage }) => stage === "load")) {
  Deno.test(`loadBundle() refuses ${bad.name}`, async () => {
    await using root = await temporaryDirectory();
    const directory = await writeBundle(root.path, bad.name, bad.files);
    await assert.rejects(loadBundle(directory), (error: unknown) => {
      assert.ok(error instanceof BundleError, `${error}`);
      checkMessage(error.message, bad);
      return true;
    });
  });
}

Deno.test("loadBundle() refuses directories and pipes in place of files", async () => {
  await using root = await temporaryDirectory();
  for (const file of ["manifest.yaml", "weights.safetensors"]) {
    for (const kind of ["directory", "pipe"]) {
      const files = denseBundle();
      delete files[file];
      const directory = await writeBundle(root.path, `${kind}-${file}`, files);
      const path = join(directory, file);
      if (kind === "directory") await Deno.mkdir(path);
      else assert.ok((await new Deno.Command("mkfifo", { args: [path] }).output()).success);
      await assert.rejects(loadBundle(directory), /is not a regular file/);
    }
  }
});

Deno.test({
  name: "programs that do not compile or do not fit their bundle are refused by name",
  // The plugin stays loaded for the life of the process: XLA cannot be unloaded.
  sanitizeResources: false,
  async fn(t) {
    await using root = await temporaryDirectory();
    await using backend = await openCpuBackend();
    for (const bad of BAD_BUNDLES.filter(({ stage }) => stage === "program")) {
      await t.step(bad.name, async () => {
        using bundle = await loadBundle(await writeBundle(root.path, bad.name, bad.files));
        assert.ok(bundle.kind === "model");
        checkMessage(await programFailure(backend, bundle), bad);
      });
    }
    await t.step("and the bundle they are made from is accepted", async () => {
      using bundle = await loadBundle(await writeBundle(root.path, "good", denseBundle()));
      assert.ok(bundle.kind === "model");
      assert.equal(await programFailure(backend, bundle), "");
    });
    assert.equal(backend.liveHandles().executable ?? 0, 0);
  },
});

Deno.test("a server with every bad bundle serves the good one and tells what is wrong with the rest", async () => {
  await using root = await temporaryDirectory();
  for (const { name, files } of BAD_BUNDLES) await writeBundle(root.path, name, files);
  await writeBundle(root.path, "good", denseBundle());
  await Deno.symlink("nowhere", join(root.path, "dangling"));
  await using server = await startServer({ modelDirs: [root.path] });
  using client = new TestClient(server.grpcPort);

  const { models } = await client.index({});
  const byName = new Map(models.map((model) => [model.name, model]));
  assert.equal(models.length, BAD_BUNDLES.length + 2);
  for (const bad of BAD_BUNDLES) {
    const { state, reason } = byName.get(bad.name)!;
    assert.equal(state, "UNAVAILABLE", bad.name);
    checkMessage(reason, bad);
  }
  assert.match(byName.get("dangling")!.reason, /link to something that does not exist/);
  assert.deepEqual([byName.get("good")!.state, byName.get("good")!.reason], ["READY", ""]);

  const input = { name: "x", datatype: "FP32", shape: [2n, 3n] };
  const rawInputContents = [float32Bytes([1, 1, 1, 1, 0, 0])];
  const answer = await client.infer({ modelName: "good", inputs: [input], rawInputContents });
  // numpy.array([[1, 1, 1], [1, 0, 0]]) @ kernel + bias
  const expected = [30.5, 33.25, 36.125, 39, 0.5, 1.25, 2.125, 3];
  assert.deepEqual([...answer.rawOutputContents[0]!], [...float32Bytes(expected)]);
  await assert.rejects(
    client.infer({ modelName: "weights-tail", inputs: [input], rawInputContents }),
    (error: ServiceError) => {
      assert.equal(error.code, status.UNAVAILABLE);
      assert.match(error.details, /the file has 65 bytes of data/);
      return true;
    },
  );

  const { body } = await server.http("/metrics");
  const counted = [...body.matchAll(/^worker_bundle_load_failures_total\{.*\} (\d+)$/gm)];
  const total = counted.reduce((sum, [, count]) => sum + Number(count), 0);
  assert.equal(total, BAD_BUNDLES.length + 1);
  assert.equal((await server.http("/readyz")).status, 200);
});

/** The calls of this test, through a client that is not ours. */
class TestClient implements Disposable {
  readonly #client: Client;

  constructor(port: number) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
  }

  index(fields: MessageInitShape<typeof RepositoryIndexRequestSchema>) {
    const request = toBinary(
      RepositoryIndexRequestSchema,
      create(RepositoryIndexRequestSchema, fields),
    );
    return this.#call("RepositoryIndex", request, RepositoryIndexResponseSchema);
  }

  infer(fields: MessageInitShape<typeof ModelInferRequestSchema>) {
    const request = toBinary(ModelInferRequestSchema, create(ModelInferRequestSchema, fields));
    return this.#call("ModelInfer", request, ModelInferResponseSchema);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  #call<S extends DescMessage>(method: string, request: Uint8Array, schema: S) {
    return new Promise<MessageShape<S>>((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/inference.GRPCInferenceService/${method}`,
        (bytes: Uint8Array) => Buffer.from(bytes),
        (bytes) => bytes,
        request,
        (error, answer) => error ? reject(error) : resolve(fromBinary(schema, answer!)),
      );
    });
  }
}

/** Compiles and checks the programs of a bundle; the message of the first failure, or nothing. */
async function programFailure(backend: Backend, bundle: ModelBundle): Promise<string> {
  for (const file of bundle.programs.flatMap(({ files }) => files)) {
    let program;
    try {
      program = await backend.compile(await readProgram(bundle.name, file));
    } catch (error) {
      return `${file.fileName} does not compile: ${messageOf(error)}`;
    }
    try {
      checkSignature(bundle, file, program.signature);
    } catch (error) {
      assert.ok(error instanceof BundleError);
      return error.message;
    } finally {
      program[Symbol.dispose]();
    }
  }
  return "";
}

function checkMessage(message: string, bad: BadBundle): void {
  assert.match(message, bad.message);
  assert.ok(message.length < 1500, `a message of ${message.length} characters`);
}
