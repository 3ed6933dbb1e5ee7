/**
 * When the memory of large messages is used again, and when it is not. The pools here overwrite what is
 * given back, so that giving it back too early spoils what a peer receives.
 */

import assert from "node:assert/strict";
import { BufferPool } from "../buffer_pool.ts";
import type { CallContext, GrpcServer, Message, MethodHandler } from "../handler.ts";
import { joinMessage } from "../handler.ts";
import {
  acceptHttp2,
  dialHttp2,
  ErrorCode,
  type HeaderList,
  type Http2Stream,
  SocketStream,
} from "../http2/mod.ts";
import { GrpcClient } from "./client.ts";
import { collect, pattern, rejects, until } from "./client_test_support.ts";
import { messagePrefix } from "./message_reader.ts";
import { startNativeServer } from "./server.ts";

const ECHO = "/test.Memory/Echo";
const LARGE = 300_000;

/** Says where bytes differ; `deepEqual` would look for the shortest way from one array to the other. */
function same(actual: Uint8Array | undefined, expected: Uint8Array, what = ""): void {
  assert.equal(actual?.length, expected.length, what);
  assert.equal(expected.findIndex((byte, at) => byte !== actual![at]), -1, what);
}

function poisoned(): BufferPool {
  return new BufferPool({ isPoisoning: true });
}

interface Setup {
  readonly memory: BufferPool;
  readonly client: GrpcClient;
  readonly server: GrpcServer;
  /** A call of ECHO. */
  readonly echo: (request: Uint8Array, deadlineMs?: number) => Promise<Uint8Array>;
}

/** A server that borrows the memory of requests, and its client. */
async function withServer(
  handle: (request: Message, call: CallContext) => Message | Promise<Message>,
  body: (setup: Setup) => Promise<void>,
): Promise<void> {
  const memory = poisoned();
  const server = await startNativeServer({
    hostname: "127.0.0.1",
    port: 0,
    maxReceiveBytes: 1 << 25,
    maxSendBytes: 1 << 25,
    methods: new Map<string, MethodHandler>([
      [ECHO, { kind: "unary", handle, memory }],
      ["/test.Memory/Stream", {
        kind: "stream",
        handle: async function* (requests) {
          yield* requests;
        },
      }],
    ]),
  });
  const client = new GrpcClient({ target: `127.0.0.1:${server.port}`, maxReceiveBytes: 1 << 25 });
  const echo = async (request: Uint8Array, deadlineMs?: number) => {
    const { message } = await client.unary(ECHO, [request], { deadlineMs });
    return joinMessage(message);
  };
  try {
    await body({ memory, client, server, echo });
  } finally {
    await client.close();
    await server.shutdown(0);
  }
}

/** A call by hand, whose answer is let through bit by bit. */
async function slowCall(port: number, request: Uint8Array) {
  const connection = await dialHttp2({ hostname: "127.0.0.1", port }, {
    streamWindowBytes: 65_536,
    connectionWindowBytes: 65_536,
  });
  const received: Uint8Array[] = [];
  let receivedBytes = 0;
  let trailers: HeaderList | undefined;
  const stream: Http2Stream = connection.open(
    [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", ECHO],
      [":authority", "test"],
      ["te", "trailers"],
      ["content-type", "application/grpc"],
    ],
    false,
    {
      onHeaders: (headers, endStream) => {
        if (endStream) trailers = headers;
      },
      onData: (chunk) => {
        received.push(chunk.slice());
        receivedBytes += chunk.length;
        return false;
      },
      onEnd: () => {},
      onDrain: () => {},
    },
  );
  stream.sendData([messagePrefix(request.length, false), request], true);
  await until(() => receivedBytes > 50_000);
  return {
    /** Takes the rest, and gives the message. */
    async finish(): Promise<Uint8Array> {
      let consumed = 0;
      while (trailers === undefined) {
        stream.consume(receivedBytes - consumed);
        consumed = receivedBytes;
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
      assert.deepEqual(trailers, [["grpc-status", "0"]]);
      return joinMessage(received).subarray(5);
    },
    reset: () => stream.reset(ErrorCode.CANCEL),
    [Symbol.asyncDispose]: async () => {
      connection.destroy();
      await connection.closed;
    },
  };
}

Deno.test("calls of every size get their own bytes back, from memory that is used again", async () => {
  await withServer((request) => request, async ({ memory, echo }) => {
    const sizes = [16_385, 70_000, LARGE, 1 << 20, (1 << 20) + 60, 2_500_001];
    for (let round = 0; round < 3; round++) {
      const calls = sizes.flatMap((size) => [1, 2, 3].map((seed) => pattern(size, seed + round)));
      const answers = await Promise.all(calls.map((request) => echo(request)));
      answers.forEach((answer, index) => same(answer, calls[index]!, `call ${index}`));
    }
    const kept = memory.idleBytes;
    assert.ok(kept > 0);
    for (let call = 0; call < 20; call++) await echo(pattern(1 << 20, call));
    assert.equal(memory.idleBytes, kept);
  });
});

Deno.test("an answer that waits for a slow reader keeps its memory, others use theirs again", async () => {
  await withServer((request) => request, async ({ memory, server, echo }) => {
    const request = pattern(LARGE, 5);
    await using slow = await slowCall(server.port, request);
    for (let call = 0; call < 10; call++) {
      const other = pattern(LARGE, 100 + call);
      same(await echo(other), other);
    }
    const before = memory.idleBytes;
    same(await slow.finish(), request);
    await until(() => memory.idleBytes > before);
  });
});

Deno.test("an answer that nobody takes gives nothing back", async () => {
  await withServer((request) => request, async ({ memory, server }) => {
    {
      await using reset = await slowCall(server.port, pattern(LARGE, 1));
      reset.reset();
      await until(() => server.activeCalls === 0);
    }
    {
      await using _gone = await slowCall(server.port, pattern(LARGE, 2));
    }
    await until(() => server.activeCalls === 0);
    assert.equal(memory.idleBytes, 0);
  });
});

Deno.test("a handler that goes on after its call has ended still reads its own request", async () => {
  const read: Promise<Uint8Array>[] = [];
  const resume = Promise.withResolvers<void>();
  await withServer(async (request) => {
    if (request[0]![0] !== 255) return request;
    const late = resume.promise.then(() => joinMessage(request).slice());
    read.push(late);
    await late;
    return request;
  }, async ({ client, server, echo }) => {
    const requests = [1, 2].map((seed) => pattern(LARGE, seed).fill(255, 0, 1));
    const cancel = new AbortController();
    const cancelled = client.unary(ECHO, [requests[0]!], { signal: cancel.signal });
    await until(() => read.length === 1);
    cancel.abort();
    await rejects(cancelled, "CANCELLED");
    await rejects(echo(requests[1]!, performance.now() + 500), "DEADLINE_EXCEEDED");
    await until(() => server.activeCalls === 0 && read.length === 2);
    for (let call = 0; call < 5; call++) await echo(pattern(LARGE, 50 + call).fill(0, 0, 1));
    resume.resolve();
    (await Promise.all(read)).forEach((bytes, index) => same(bytes, requests[index]!));
  });
});

Deno.test("a call says when its loans are to be kept, and then nothing of it is given back", async () => {
  let isKept = false;
  await withServer((request, call) => {
    if (isKept) call.keepLoans!();
    return request;
  }, async ({ memory, echo }) => {
    isKept = true;
    await echo(pattern(LARGE));
    assert.equal(memory.idleBytes, 0);
    isKept = false;
    await echo(pattern(LARGE));
    assert.ok(memory.idleBytes >= LARGE);
  });
});

Deno.test("a handler's own loan goes back when the answer has left", async () => {
  const own = poisoned();
  await withServer((_, call) => {
    const loan = own.take(LARGE)!;
    loan.memory.set(pattern(LARGE, 9));
    call.lend!(loan);
    return [loan.memory.subarray(0, LARGE)];
  }, async ({ server, echo }) => {
    same(await echo(new Uint8Array(1)), pattern(LARGE, 9));
    await until(() => own.idleBytes > 0);
    await using slow = await slowCall(server.port, new Uint8Array(1));
    assert.equal(own.idleBytes, 0);
    same(await slow.finish(), pattern(LARGE, 9));
    await until(() => own.idleBytes > 0);
  });
});

Deno.test("neither small messages, nor compressed ones, nor those of streams are lent", async () => {
  await withServer((request) => request, async ({ memory, client, echo }) => {
    await echo(pattern(16_384));
    const { message } = await client.unary(ECHO, [pattern(LARGE)], { compression: "gzip" });
    same(joinMessage(message), pattern(LARGE));
    const [streamed] = await collect(client.stream("/test.Memory/Stream", [[pattern(LARGE)]]));
    same(streamed, pattern(LARGE));
    assert.equal(memory.idleBytes, 0);
  });
});

Deno.test("a client's response comes in lent memory, and is the caller's until it is given back", async () => {
  await withServer((request) => request, async ({ client }) => {
    const memory = poisoned();
    const responses = await Promise.all(
      [1, 2, 3].map((seed) => client.unary(ECHO, [pattern(LARGE, seed)], { memory })),
    );
    assert.equal(memory.idleBytes, 0);
    for (const [index, { message, loan }] of responses.entries()) {
      same(joinMessage(message), pattern(LARGE, index + 1));
      loan!.release();
    }
    assert.ok(memory.idleBytes >= 3 * LARGE);
    const { loan } = await client.unary(ECHO, [new Uint8Array(10)], { memory });
    assert.equal(loan, undefined);
  });
});

/** How many bytes a server's window lets in before it answers; the rest of the request never leaves. */
for (const status of ["0", "5"]) {
  Deno.test(`a request that has not left when status ${status} comes keeps its parent's memory`, async () => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const accepting = listener.accept().then((conn) =>
      acceptHttp2(
        new SocketStream(conn),
        { streamWindowBytes: 65_536, connectionWindowBytes: 65_536 },
        (stream) => {
          let bytes = 0;
          return {
            onHeaders() {},
            onData(chunk) {
              bytes += chunk.length;
              if (bytes === 65_536) {
                stream.sendHeaders(
                  [[":status", "200"], ["content-type", "application/grpc"]],
                  false,
                );
                stream.sendData([messagePrefix(1, false), Uint8Array.of(7)], false);
                stream.sendHeaders([["grpc-status", status]], true);
              }
              return false;
            },
            onEnd() {},
            onDrain() {},
          };
        },
      )
    );
    const client = new GrpcClient({ target: `127.0.0.1:${listener.addr.port}` });
    let kept = 0;
    const parent = {
      deadlineMs: undefined,
      isAborted: false,
      onAbort: () => {},
      keepLoans: () => kept++,
    } as unknown as CallContext;
    try {
      const call = client.unary(ECHO, [pattern(LARGE)], { parent });
      if (status === "0") assert.deepEqual((await call).message, [Uint8Array.of(7)]);
      else await rejects(call, "NOT_FOUND", /^$/);
      assert.ok(kept > 0);
    } finally {
      await client.close();
      listener.close();
      const connection = await accepting;
      connection.destroy();
      await connection.closed;
    }
  });
}
