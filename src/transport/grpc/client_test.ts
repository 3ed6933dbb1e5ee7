import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { freePort } from "../../../tests/harness/ports.ts";
import { InvalidArgumentError, ServerError } from "../../errors.ts";
import { startGrpcJsServer } from "../grpcjs/mod.ts";
import { type GrpcServer, joinMessage, type Message, type MethodHandler } from "../handler.ts";
import { CallMetadata } from "../metadata.ts";
import { type ClientOptions, GrpcClient } from "./client.ts";
import { collect, pattern, rejects, until } from "./client_test_support.ts";
import { startNativeServer } from "./server.ts";

const MAX_BYTES = 4 << 20;

function methods(): Map<string, MethodHandler> {
  return new Map<string, MethodHandler>([
    ["/t.T/Echo", { kind: "unary", handle: (request) => request }],
    ["/t.T/Refuse", {
      kind: "unary",
      handle: (_, call) => {
        call.responseTrailers.append("x-why", "because");
        throw new InvalidArgumentError("100% wrong ✓");
      },
    }],
    ["/t.T/Meta", {
      kind: "unary",
      handle: (request, call) => {
        call.responseHeaders.append("x-got", String(call.metadata.get("x-sent")));
        call.responseTrailers.append("x-raw-bin", call.metadata.get("x-sent-bin") as Uint8Array);
        return request;
      },
    }],
    ["/t.T/Hang", {
      kind: "unary",
      handle: (_, call) =>
        new Promise((_, reject) =>
          call.signal.addEventListener("abort", () => reject(call.signal.reason))
        ),
    }],
    ["/t.T/TimeLeft", {
      kind: "unary",
      handle: (
        _,
        call,
      ) => [new TextEncoder().encode(String(call.deadlineMs! - performance.now()))],
    }],
    ["/t.T/Bidi", {
      kind: "stream",
      async *handle(requests) {
        for await (const request of requests) yield request;
      },
    }],
    ["/t.T/Fail", {
      kind: "stream",
      async *handle() {
        yield [pattern(1)];
        yield [pattern(2)];
        throw new ServerError("DATA_LOSS", "midway");
      },
    }],
    ["/t.T/Forever", {
      kind: "stream",
      async *handle(_, call) {
        while (!call.isAborted) {
          yield [pattern(100_000)];
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      },
    }],
  ]);
}

async function withServer(
  serve: (options: Parameters<typeof startNativeServer>[0]) => Promise<GrpcServer>,
  body: (client: GrpcClient, server: GrpcServer) => Promise<void>,
  options: Partial<ClientOptions> = {},
): Promise<void> {
  const server = await serve({
    hostname: "127.0.0.1",
    port: 0,
    methods: methods(),
    maxReceiveBytes: MAX_BYTES,
    maxSendBytes: MAX_BYTES,
  });
  const client = new GrpcClient({ target: `127.0.0.1:${server.port}`, ...options });
  try {
    await body(client, server);
  } finally {
    await client.close();
    await server.shutdown(1000);
  }
}

for (
  const [name, serve] of [["native", startNativeServer], ["grpc-js", startGrpcJsServer]] as const
) {
  const check = (
    title: string,
    body: (client: GrpcClient, server: GrpcServer) => Promise<void>,
    options: Partial<ClientOptions> = {},
  ) => Deno.test(`GrpcClient to ${name}: ${title}`, () => withServer(serve, body, options));

  check("echoes unary messages of any size, many at once", async (client) => {
    const sizes = [0, 1, 3000, 16_384, 65_536, 1_000_003, MAX_BYTES];
    await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const request = pattern(sizes[index % sizes.length]!, index);
        const half = request.length >> 1;
        const { message } = await client.unary("/t.T/Echo", [
          request.subarray(0, half),
          request.subarray(half),
        ]);
        assert.ok(Buffer.from(joinMessage(message)).equals(request));
      }),
    );
    assert.equal(client.activeCalls, 0);
  });

  check("gives a status as its error, with the trailers", async (client) => {
    let why: unknown;
    await rejects(
      client.unary("/t.T/Refuse", [pattern(3)], {
        onTrailers: (trailers) => why = trailers.get("x-why"),
      }),
      "INVALID_ARGUMENT",
      /^100% wrong ✓$/,
    );
    assert.equal(why, "because");
    await rejects(client.unary("/t.T/Nope", [pattern(3)]), "UNIMPLEMENTED");
  });

  check("carries metadata both ways", async (client) => {
    const metadata = CallMetadata.from([["x-sent", "a b"], ["x-sent-bin", pattern(40)]]);
    const response = await client.unary("/t.T/Meta", [pattern(1)], { metadata });
    assert.equal(response.headers.get("x-got"), "a b");
    assert.deepEqual(new Uint8Array(response.trailers.get("x-raw-bin") as Uint8Array), pattern(40));
  });

  check("keeps deadlines on both ends", async (client) => {
    const started = performance.now();
    await rejects(
      client.unary("/t.T/Hang", [], { deadlineMs: started + 60 }),
      "DEADLINE_EXCEEDED",
    );
    assert.ok(performance.now() - started >= 59);
    await rejects(
      client.unary("/t.T/Echo", [], { deadlineMs: performance.now() - 1 }),
      "DEADLINE_EXCEEDED",
    );
    const { message } = await client.unary("/t.T/TimeLeft", [], {
      deadlineMs: performance.now() + 3_600_000,
    });
    const left = Number(new TextDecoder().decode(joinMessage(message)));
    assert.ok(left > 3_000_000 && left <= 3_600_002, String(left));
  });

  check("cancels by signal, before and after the start", async (client, server) => {
    const controller = new AbortController();
    const call = client.unary("/t.T/Hang", [], { signal: controller.signal });
    await until(() => server.activeCalls === 1);
    controller.abort();
    await rejects(call, "CANCELLED");
    await until(() => server.activeCalls === 0);
    await rejects(client.unary("/t.T/Echo", [], { signal: controller.signal }), "CANCELLED");
    assert.equal((await client.unary("/t.T/Echo", [pattern(5)])).message.length, 1);
  });

  check("streams both ways, with back-pressure", async (client) => {
    const requests = Array.from({ length: 300 }, (_, index) => pattern(index * 331, index));
    const echoed = await collect(client.stream("/t.T/Bidi", requests.map((bytes) => [bytes])));
    assert.equal(echoed.length, requests.length);
    echoed.forEach((bytes, index) => assert.ok(Buffer.from(bytes).equals(requests[index]!)));
    assert.deepEqual(await collect(client.stream("/t.T/Bidi", [])), []);
  });

  check("gives a stream's messages, then its failure", async (client) => {
    const stream = client.stream("/t.T/Fail", []);
    const got: number[] = [];
    await rejects(
      (async () => {
        for await (const message of stream) got.push(joinMessage(message).length);
      })(),
      "DATA_LOSS",
      /midway/,
    );
    assert.deepEqual(got, [1, 2]);
  });

  check("cancels a stream that is left early", async (client, server) => {
    for await (const _ of client.stream("/t.T/Forever", [])) break;
    await until(() => server.activeCalls === 0 && client.activeCalls === 0);
  });

  check("fails a stream whose requests throw", async (client, server) => {
    async function* requests(): AsyncGenerator<Message> {
      yield [pattern(1)];
      await Promise.resolve();
      throw new InvalidArgumentError("bad input file");
    }
    await rejects(collect(client.stream("/t.T/Bidi", requests())), "INVALID_ARGUMENT");
    await until(() => server.activeCalls === 0);
  });

  check("refuses messages over its limits", async (client) => {
    await rejects(client.unary("/t.T/Echo", [pattern(5001)]), "RESOURCE_EXHAUSTED", /5001 bytes/);
    await rejects(
      client.unary("/t.T/Echo", [pattern(4001)]),
      "RESOURCE_EXHAUSTED",
      /4001 bytes.*4000/,
    );
    assert.equal((await client.unary("/t.T/Echo", [pattern(4000)])).message[0]!.length, 4000);
  }, { maxSendBytes: 5000, maxReceiveBytes: 4000 });

  check("compresses when told to", async (client) => {
    for (const size of [10, 5000, 2_000_000]) {
      const { message } = await client.unary("/t.T/Echo", [pattern(size)]);
      assert.ok(Buffer.from(joinMessage(message)).equals(pattern(size)));
    }
    const echoed = await collect(
      client.stream("/t.T/Bidi", [[pattern(3000, 1)], [pattern(5, 2)], [pattern(9000, 3)]]),
    );
    assert.deepEqual(echoed, [pattern(3000, 1), pattern(5, 2), pattern(9000, 3)]);
  }, { compression: "gzip" });

  check("passes deadline and cancellation of a served call on", async (client, server) => {
    const proxy = await startNativeServer({
      hostname: "127.0.0.1",
      port: 0,
      maxReceiveBytes: MAX_BYTES,
      maxSendBytes: MAX_BYTES,
      methods: new Map(
        ["/t.T/Hang", "/t.T/TimeLeft", "/t.T/Echo"].map((path): [string, MethodHandler] => [path, {
          kind: "unary",
          handle: async (request, call) =>
            (await client.unary(path, request, { parent: call })).message,
        }]),
      ),
    });
    const caller = new GrpcClient({ target: `127.0.0.1:${proxy.port}` });
    try {
      const { message } = await caller.unary("/t.T/TimeLeft", [], {
        deadlineMs: performance.now() + 3_600_000,
      });
      const left = Number(new TextDecoder().decode(joinMessage(message)));
      assert.ok(left > 3_000_000 && left <= 3_600_003, String(left));
      const controller = new AbortController();
      const hanging = caller.unary("/t.T/Hang", [], { signal: controller.signal });
      await until(() => server.activeCalls === 1);
      controller.abort();
      await rejects(hanging, "CANCELLED");
      await until(() => server.activeCalls === 0);
      const large = pattern(3_000_000);
      const echo = await caller.unary("/t.T/Echo", [large]);
      assert.ok(Buffer.from(joinMessage(echo.message)).equals(large));
    } finally {
      await caller.close();
      await proxy.shutdown(1000);
    }
  });
}

Deno.test("GrpcClient fails UNAVAILABLE when nobody listens, and again at once while it backs off", async () => {
  const port = freePort();
  const client = new GrpcClient({
    target: `127.0.0.1:${port}`,
    backoff: { initialMs: 3_600_000, maxMs: 3_600_000 },
  });
  await rejects(client.unary("/t.T/Echo", []), "UNAVAILABLE", /Cannot connect to 127\.0\.0\.1/);
  // One that waited for the next attempt would wait for an hour.
  await rejects(client.unary("/t.T/Echo", []), "UNAVAILABLE");
  const waiting = client.unary("/t.T/Echo", [], {
    waitForReady: true,
    deadlineMs: performance.now() + 50,
  });
  await rejects(waiting, "DEADLINE_EXCEEDED");
  await client.close();
  await rejects(client.unary("/t.T/Echo", []), "CANCELLED", /closed/);
});

Deno.test("GrpcClient with waitForReady waits for a server that comes later, and comes back", async () => {
  const port = freePort();
  const client = new GrpcClient({
    target: `127.0.0.1:${port}`,
    waitForReady: true,
    backoff: { initialMs: 5, maxMs: 20 },
  });
  const early = client.unary("/t.T/Echo", [pattern(3)]);
  const options = {
    hostname: "127.0.0.1",
    port,
    methods: methods(),
    maxReceiveBytes: MAX_BYTES,
    maxSendBytes: MAX_BYTES,
  };
  for (let round = 0; round < 3; round++) {
    const server = await startNativeServer(options);
    assert.deepEqual(joinMessage((await early).message), pattern(3));
    await client.connect();
    assert.deepEqual(
      joinMessage((await client.unary("/t.T/Echo", [pattern(9)])).message),
      pattern(9),
    );
    await server.shutdown(0);
  }
  await client.close();
});

Deno.test("GrpcClient reaches a server over a Unix socket", async () => {
  const directory = await Deno.makeTempDir();
  const hostname = `unix:${directory}/grpc.sock`;
  const options = { hostname, port: 0, methods: methods(), maxReceiveBytes: MAX_BYTES };
  const server = await startNativeServer({ ...options, maxSendBytes: MAX_BYTES });
  await assert.rejects(
    startNativeServer({ ...options, maxSendBytes: 1 }),
    /Cannot listen on unix:/,
  );
  const client = new GrpcClient({ target: hostname });
  const large = pattern(MAX_BYTES);
  const { message } = await client.unary("/t.T/Echo", [large]);
  assert.ok(Buffer.from(joinMessage(message)).equals(large));
  await client.close();
  await server.shutdown(1000);
  await assert.rejects(Deno.stat(`${directory}/grpc.sock`), Deno.errors.NotFound);
  await Deno.remove(directory, { recursive: true });
});

Deno.test("startNativeServer() takes over the socket of a process that died", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/grpc.sock`;
  const script = `Deno.listen({ transport: "unix", path: ${JSON.stringify(path)} });` +
    `Deno.kill(Deno.pid, "SIGKILL");`;
  await new Deno.Command(Deno.execPath(), { args: ["eval", script] }).output();
  await Deno.stat(path);
  const server = await startNativeServer({
    hostname: `unix:${path}`,
    port: 0,
    methods: methods(),
    maxReceiveBytes: 1,
    maxSendBytes: 1,
  });
  await server.shutdown(0);
  await Deno.remove(directory, { recursive: true });
});
