/**
 * Requests that are wrong, each in one way, to a whole server through clients that are not ours: the
 * status and the message say what is wrong, and the worker goes on giving right answers.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import http2 from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, status } from "@grpc/grpc-js";
import { ModelInferResponseSchema } from "../../src/protocol/gen/inference/grpc_service_pb.ts";
import { Random } from "../../src/protocol/testing/random.ts";
import { startServer, type TestServer } from "../harness/server.ts";
import { writeEchoBundles } from "../python/echo_bundles.ts";
import {
  BAD_CALLS,
  BAD_FRAMES,
  BAD_INFERS,
  floats,
  type HttpRequest,
  INFER,
  infer,
  mutated,
  right,
} from "../harness/bad_requests.ts";

interface Answer {
  readonly status: string;
  readonly details: string;
  readonly message: Uint8Array | undefined;
}

/** Sends one message through grpc-js. */
function call(client: Client, path: string, message: Uint8Array): Promise<Answer> {
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      path,
      (value: Uint8Array) => Buffer.from(value),
      (value: Buffer) => new Uint8Array(value),
      message,
      new Metadata(),
      { deadline: Date.now() + 300_000 },
      (error: ServiceError | null, answer?: Uint8Array) =>
        resolve({
          status: status[error?.code ?? 0]!,
          details: error?.details ?? "",
          message: answer,
        }),
    );
  });
}

/** POSTs a body to ModelInfer through the platform's own HTTP/2 client. */
function post(session: http2.ClientHttp2Session, request: HttpRequest): Promise<string | number> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "POST",
      ":path": INFER,
      "content-type": "application/grpc",
      te: "trailers",
      ...request.headers,
    });
    let outcome: string | number = "nothing";
    const note = (headers: Record<string, unknown>) => {
      if (headers["grpc-status"] !== undefined) {
        outcome = status[Number(headers["grpc-status"])] ?? "no known status";
      }
      if (typeof headers[":status"] === "number" && headers[":status"] !== 200) {
        outcome = headers[":status"];
      }
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("error", reject);
    stream.on("close", () => resolve(outcome));
    stream.resume();
    stream.end(request.body);
  });
}

/** The worker's answer to a right request. */
async function assertAnswersRight(client: Client): Promise<void> {
  const answer = await call(client, INFER, infer(right));
  assert.equal(answer.status, "OK", answer.details);
  const { outputs, rawOutputContents } = fromBinary(ModelInferResponseSchema, answer.message!);
  assert.deepEqual(outputs.map(({ name }) => name), ["sum", "difference"]);
  assert.deepEqual(rawOutputContents.map((data) => new Uint8Array(data)), [
    floats(11, 22),
    floats(-9, -18),
  ]);
}

async function withServer(
  transport: string,
  test: (server: TestServer, client: Client) => Promise<void>,
): Promise<void> {
  const models = await Deno.makeTempDir();
  try {
    await writeEchoBundles(models);
    await using server = await startServer({
      modelDirs: [models],
      args: ["--grpc-transport", transport],
    });
    const client = new Client(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure());
    try {
      await test(server, client);
    } finally {
      client.close();
    }
  } finally {
    await Deno.remove(models, { recursive: true });
  }
}

for (const transport of ["native", "grpc-js"]) {
  Deno.test(`a worker on ${transport} refuses bad requests by name and lives`, async (t) => {
    await withServer(transport, async (server, client) => {
      await assertAnswersRight(client);
      for (const [name, request] of Object.entries({ ...BAD_INFERS, ...BAD_CALLS })) {
        await t.step(name, async () => {
          const answer = await call(client, request.path ?? INFER, request.message);
          assert.equal(answer.status, request.status, answer.details);
          assert.match(answer.details, request.says);
          assert(answer.details.length < 1000, answer.details);
          await assertAnswersRight(client);
        });
      }
      await t.step("requests with bytes changed, cut or added at random", async () => {
        const random = new Random(5);
        const answers = new Set<string>();
        for (let round = 0; round < 60; round++) {
          const batch = Array.from({ length: 20 }, () => call(client, INFER, mutated(random)));
          for (const { status } of await Promise.all(batch)) answers.add(status);
        }
        assert(answers.has("OK") && answers.has("INVALID_ARGUMENT"), [...answers].join());
        const expected = ["OK", "INVALID_ARGUMENT", "NOT_FOUND"];
        assert.deepEqual([...answers].filter((answer) => !expected.includes(answer)), []);
        await assertAnswersRight(client);
      });
      const session = http2.connect(`http://127.0.0.1:${server.grpcPort}`);
      try {
        for (const [name, request] of Object.entries(BAD_FRAMES)) {
          await t.step(name, async () => {
            const outcome = await post(session, request);
            if (transport === "native") assert.equal(outcome, request.status);
            await assertAnswersRight(client);
          });
        }
      } finally {
        session.close();
      }
      assert.equal((await server.http("/readyz")).status, 200);
      const failures = server.events.filter(({ level }) => level === "error");
      assert.deepEqual(failures, []);
    });
  });
}
