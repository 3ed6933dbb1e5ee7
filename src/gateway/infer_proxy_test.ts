import assert from "node:assert/strict";
import {
  CancelledError,
  FailedPreconditionError,
  InvalidArgumentError,
  NotFoundError,
  ResourceExhaustedError,
  UnavailableError,
} from "../errors.ts";
import { encodeMessage, ModelInferRequestSchema } from "../protocol/mod.ts";
import { CallMetadata, joinMessage, type Message, type Metadata } from "../transport/mod.ts";
import { answer, FakeWorker, INFER, inferRequest, startTestGateway, until } from "./testing.ts";

/** Two workers with the model `m`, and a gateway. */
async function withTwo(
  body: (
    fleet: { a: FakeWorker; b: FakeWorker; gateway: Awaited<ReturnType<typeof startTestGateway>> },
  ) => Promise<void>,
  yaml?: string,
): Promise<void> {
  await using a = await FakeWorker.start();
  await using b = await FakeWorker.start();
  await using gateway = await startTestGateway({ endpoints: [a.id, b.id], ...(yaml && { yaml }) });
  await until(
    async () => (await gateway.http("/metrics")).body.includes('_ready{worker="' + b.id + '"} 1'),
    "b",
  );
  await until(
    async () => (await gateway.http("/metrics")).body.includes('_ready{worker="' + a.id + '"} 1'),
    "a",
  );
  await body({ a, b, gateway });
}

/** The value of one sample, by the text before it. */
async function sample(
  gateway: { http(path: string): Promise<{ body: string }> },
  start: string,
): Promise<number> {
  const { body } = await gateway.http("/metrics");
  const line = body.split("\n").find((each) => each.startsWith(start));
  return line === undefined ? NaN : Number(line.split(" ").at(-1));
}

Deno.test("ModelInfer passes bytes and metadata through as they are, both ways", async () => {
  await using worker = await FakeWorker.start();
  let seen: Uint8Array | undefined;
  let metadata: Metadata | undefined;
  const response = new Uint8Array(300_000).map((_, at) => at * 31);
  worker.infer = (message, call) => {
    seen = joinMessage(message).slice();
    metadata = call.metadata;
    call.responseHeaders.append("x-head", "1");
    call.responseTrailers.append("x-tail-bin", Uint8Array.of(1, 2));
    return [response.subarray(0, 1000), response.subarray(1000)];
  };
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  const request = joinMessage(encodeMessage(ModelInferRequestSchema, {
    modelName: "m",
    id: "x",
    rawInputContents: [crypto.getRandomValues(new Uint8Array(60_000))],
  }));
  const answered = await gateway.client.unary(INFER, [request], {
    metadata: CallMetadata.from([["x-trace", "abc"], ["x-blob-bin", Uint8Array.of(9)]]),
  });
  assert.deepEqual(joinMessage(answered.message), response);
  assert.deepEqual(seen, request);
  assert.equal(metadata?.get("x-trace"), "abc");
  assert.deepEqual(metadata?.get("x-blob-bin"), Uint8Array.of(9));
  assert.equal(answered.headers.get("x-head"), "1");
  assert.deepEqual(answered.trailers.get("x-tail-bin"), Uint8Array.of(1, 2));
});

for (
  const [name, error] of [
    ["UNAVAILABLE", new UnavailableError("loading")],
    ["NOT_FOUND", new NotFoundError("gone")],
  ] as const
) {
  Deno.test(`ModelInfer goes on to another worker after ${name}`, () =>
    withTwo(async ({ a, b, gateway }) => {
      a.infer = () => {
        throw error;
      };
      for (let i = 0; i < 4; i++) assert.equal(await gateway.infer("m"), b.id);
      b.infer = a.infer;
      await assert.rejects(gateway.infer("m"), {
        status: name,
        message: /^Worker 127.*: (loading|gone)$/,
      });
    }));
}

Deno.test("ModelInfer forwards other statuses as they are, without another try", () =>
  withTwo(async ({ a, b, gateway }) => {
    for (
      const error of [
        new InvalidArgumentError("bad shape"),
        new ResourceExhaustedError("queue full"),
        new FailedPreconditionError('input refers to an unregistered shared memory region: "r"'),
        new CancelledError("the worker says so"),
      ]
    ) {
      const before = a.inferred + b.inferred;
      a.infer = b.infer = (_message, call) => {
        call.responseTrailers.append("x-why", "because");
        throw error;
      };
      let trailers: Metadata | undefined;
      await assert.rejects(
        gateway.client.unary(INFER, inferRequest("m"), { onTrailers: (given) => trailers = given }),
        (thrown: Error & { status: string }) => {
          assert.equal(thrown.status, error.status);
          assert.ok(thrown.message.includes(error.message), thrown.message);
          return true;
        },
      );
      assert.equal(trailers?.get("x-why"), "because");
      assert.equal(a.inferred + b.inferred, before + 1);
    }
    // A defect of the worker's: its INTERNAL is an answer, too.
    a.infer = b.infer = () => {
      throw new Error("defect");
    };
    const before = a.inferred + b.inferred;
    await assert.rejects(gateway.infer("m"), { status: "INTERNAL" });
    assert.equal(a.inferred + b.inferred, before + 1);
  }));

Deno.test("ModelInfer survives a worker that dies with requests in progress", () =>
  withTwo(async ({ a, b, gateway }) => {
    const held = Promise.withResolvers<Message>();
    a.infer = () => held.promise;
    const answers = Array.from({ length: 8 }, (_, index) => gateway.infer("m", `${index}`));
    await until(() => a.active > 0 && a.active + b.inferred === 8, "all requests at work");
    await a.kill();
    held.resolve([]);
    assert.deepEqual(await Promise.all(answers), Array.from({ length: 8 }, () => b.id));
    await until(() => gateway.lines.some((line) => /state=failed/.test(line)), "ejection");
    // It comes back, and is used again.
    a.infer = (message) => answer(message, a.id);
    await a.revive();
    const seen = new Set<string>();
    await until(async () => seen.add(await gateway.infer("m")).size === 2, "both are used");
  }));

Deno.test("ModelInfer cancels on the worker what its client cancels", async () => {
  await using worker = await FakeWorker.start();
  const aborted = Promise.withResolvers<string>();
  worker.infer = (_message, call) =>
    new Promise((_, reject) =>
      call.onAbort!((reason) => {
        aborted.resolve(reason.status);
        reject(reason);
      })
    );
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  const controller = new AbortController();
  const call = gateway.client.unary(INFER, inferRequest("m"), { signal: controller.signal });
  await until(() => worker.active === 1, "the call arrived");
  controller.abort();
  await assert.rejects(call, { status: "CANCELLED" });
  assert.equal(await aborted.promise, "CANCELLED");
  await until(() => worker.active === 0, "the call ended");
  await until(async () => await sample(gateway, "gateway_inflight_requests") === 0, "it is let go");
});

Deno.test("ModelInfer shortens the deadline and ends at it", async () => {
  await using worker = await FakeWorker.start();
  const remaining: number[] = [];
  worker.infer = (message, call) => {
    remaining.push(call.deadlineMs === undefined ? NaN : call.deadlineMs - performance.now());
    return answer(message, "w");
  };
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  await gateway.client.unary(INFER, inferRequest("m"), { deadlineMs: performance.now() + 90_500 });
  await gateway.client.unary(INFER, inferRequest("m"));
  const own = encodeMessage(ModelInferRequestSchema, {
    modelName: "m",
    parameters: { timeout: { parameterChoice: { case: "int64Param", value: 30_000_000n } } },
  });
  await gateway.client.unary(INFER, own);
  const [given, fallback, parameter] = remaining;
  // Whatever time has passed is gone; the units are what is tested.
  assert.ok(given! > 60_000 && given! < 90_500.01, `${given}`);
  assert.ok(fallback! > 30_000 && fallback! <= 60_000.01, `${fallback}`);
  assert.ok(parameter! > 0 && parameter! <= 30_000.01, `${parameter}`);
  worker.infer = () => new Promise<Message>(() => {});
  const late = gateway.client.unary(INFER, inferRequest("m"), {
    deadlineMs: performance.now() + 50,
  });
  await assert.rejects(late, { status: "DEADLINE_EXCEEDED" });
  await until(async () => await sample(gateway, "gateway_inflight_requests") === 0, "it is let go");
});

Deno.test("ModelInfer beyond the cap is refused at once, and counted", async () => {
  await using worker = await FakeWorker.start();
  const held = Promise.withResolvers<void>();
  worker.infer = async (message) => {
    await held.promise;
    return answer(message, "w");
  };
  await using gateway = await startTestGateway({
    endpoints: [worker.id],
    yaml: "grpc: {max_concurrent_requests_per_worker: 3}",
  });
  const calls = Array.from({ length: 3 }, () => gateway.infer("m"));
  await until(() => worker.active === 3, "the cap is reached");
  await assert.rejects(gateway.infer("m"), {
    status: "RESOURCE_EXHAUSTED",
    message: /^3 requests/,
  });
  assert.equal(await sample(gateway, "gateway_requests_shed_total"), 1);
  assert.equal(await sample(gateway, "gateway_inflight_requests"), 3);
  assert.equal(await sample(gateway, "gateway_max_concurrent_requests"), 3);
  held.resolve();
  await Promise.all(calls);
  await gateway.infer("m");
});

Deno.test("ModelInfer keeps to the streams of a worker; the others wait and are answered", async () => {
  await using worker = await FakeWorker.start();
  worker.infer = async (message) => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    return answer(message, "w");
  };
  await using gateway = await startTestGateway({
    endpoints: [worker.id],
    yaml: "worker_client: {max_concurrent_streams: 4}",
  });
  const answers = await Promise.all(Array.from({ length: 60 }, () => gateway.infer("m")));
  assert.deepEqual(new Set(answers), new Set(["w"]));
  assert.equal(worker.mostActive, 4);
  // One that waits leaves with its caller, and the probes are not among those that wait.
  worker.infer = () => new Promise<Message>(() => {});
  const endMs = performance.now() + 600_000;
  const controller = new AbortController();
  const held = Array.from(
    { length: 4 },
    () =>
      gateway.client.unary(INFER, inferRequest("m"), {
        signal: controller.signal,
        deadlineMs: endMs,
      }),
  );
  await until(() => worker.active === 4, "every stream is taken");
  const late = gateway.client.unary(INFER, inferRequest("m"), {
    deadlineMs: performance.now() + 30,
  });
  await assert.rejects(late, { status: "DEADLINE_EXCEEDED" });
  assert.equal((await gateway.http("/readyz")).status, 200);
  controller.abort();
  for (const call of held) await assert.rejects(call, { status: "CANCELLED" });
});

Deno.test("ModelInfer says what is wrong with the model asked for", async () => {
  await using worker = await FakeWorker.start({ models: ["m", "slow"] });
  worker.models.set("slow", false);
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  await assert.rejects(gateway.infer("nothing"), { status: "NOT_FOUND" });
  await assert.rejects(gateway.infer("slow"), {
    status: "UNAVAILABLE",
    message: /still compiling/,
  });
  await assert.rejects(gateway.infer(""), { status: "INVALID_ARGUMENT" });
  await assert.rejects(
    gateway.client.unary(INFER, [Uint8Array.of(0xff)]),
    { status: "INVALID_ARGUMENT" },
  );
  const count = (model: string, status: string) =>
    sample(gateway, `gateway_requests_total{rpc="ModelInfer",model="${model}",status="${status}"}`);
  assert.equal(await count("_unknown", "NotFound"), 1);
  assert.equal(await count("slow", "Unavailable"), 1);
  assert.equal(await count("", "InvalidArgument"), 2);
  // A model that has just come is found without waiting for the next round.
  worker.models.set("new", true);
  await until(() => gateway.infer("new").then(() => true, () => false), "the new model");
});

Deno.test("a worker that misses one index keeps its routes", async () => {
  await using worker = await FakeWorker.start();
  let indexes = 0;
  worker.before = (path) => {
    if (path.endsWith("RepositoryIndex") && ++indexes % 2 === 0) throw new UnavailableError("busy");
  };
  await using gateway = await startTestGateway({ endpoints: [worker.id] });
  await until(() => indexes > 8, "some rounds");
  assert.equal(await gateway.infer("m"), worker.id);
  assert.equal(gateway.states.filter((state) => state === "unready").length, 0);
});
