/** What the server does with callers that break the rules of gRPC; the rules of HTTP/2 are tested below it. */

import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import { contractMethods } from "../contract_methods.ts";
import type { GrpcServer, Message, MethodHandler, ServerOptions } from "../handler.ts";
import {
  connectHttp2,
  type HeaderField,
  type HeaderList,
  type Http2Connection,
  SocketStream,
} from "../http2/mod.ts";
import { startNativeServer } from "./server.ts";

const MAX_BYTES = 1 << 20;

/** What a raw caller got. */
interface Answer {
  readonly headers: Map<string, string>;
  readonly bytes: number;
  readonly reset: number | undefined;
}

class RawCaller {
  constructor(readonly connection: Http2Connection) {}

  static async connect(server: GrpcServer): Promise<RawCaller> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    return new RawCaller(connectHttp2(new SocketStream(conn)));
  }

  /** Sends a request as these pieces of DATA; without `end` the request stays open. */
  call(
    path: string,
    pieces: Uint8Array[],
    options: { extra?: HeaderField[]; end?: boolean } = {},
  ): Promise<Answer> {
    const headers: HeaderList = [
      [":method", "POST"],
      [":scheme", "http"],
      [":path", path],
      [":authority", "test"],
      ["te", "trailers"],
      ["content-type", "application/grpc"],
      ...options.extra ?? [],
    ];
    return new Promise((resolve) => {
      const got = new Map<string, string>();
      let bytes = 0;
      const stream = this.connection.open(headers, false, {
        onHeaders(fields, endStream) {
          for (const [name, value] of fields) got.set(name, value);
          if (endStream) resolve({ headers: got, bytes, reset: undefined });
        },
        onData(chunk) {
          bytes += chunk.length;
          stream.consume(chunk.length);
          return false;
        },
        onEnd: (end) => resolve({ headers: got, bytes, reset: end.code }),
        onDrain() {},
      });
      pieces.forEach((piece, index) =>
        stream.sendData([piece], index === pieces.length - 1 && (options.end ?? true))
      );
    });
  }
}

async function withServer(
  body: (caller: RawCaller, ended: string[], server: GrpcServer) => Promise<void>,
  options: Partial<ServerOptions> = {},
): Promise<void> {
  const ended: string[] = [];
  const server = await startNativeServer({
    hostname: "127.0.0.1",
    port: 0,
    methods: contractMethods({ bigBytes: 10 }),
    maxReceiveBytes: MAX_BYTES,
    maxSendBytes: MAX_BYTES,
    onCallEnd: (path, status) => ended.push(`${path} ${status}`),
    ...options,
  });
  const caller = await RawCaller.connect(server);
  try {
    await body(caller, ended, server);
  } finally {
    caller.connection.destroy();
    await caller.connection.closed;
    await server.shutdown(1000);
    assert.equal(server.activeCalls, 0);
  }
}

function framed(body: Uint8Array, flag = 0, length = body.length): Uint8Array {
  const bytes = new Uint8Array(5 + body.length);
  bytes[0] = flag;
  new DataView(bytes.buffer).setUint32(1, length);
  bytes.set(body, 5);
  return bytes;
}

const HELLO = framed(new TextEncoder().encode("hello"));

Deno.test("the server takes a request in pieces of one byte", () =>
  withServer(async (caller) => {
    const pieces = Array.from(HELLO, (byte) => Uint8Array.of(byte));
    const { headers, bytes } = await caller.call("/t.T/Echo", pieces);
    assert.deepEqual([headers.get("grpc-status"), bytes], ["0", HELLO.length]);
  }));

Deno.test("the server answers what is not one well-formed request with its status", () =>
  withServer(async (caller, ended) => {
    const gzip: HeaderField[] = [["grpc-encoding", "gzip"]];
    const cases: [string, Uint8Array[], HeaderField[], string][] = [
      ["two messages", [HELLO, HELLO], [], "12"],
      ["none", [new Uint8Array(0)], [], "12"],
      ["half a prefix", [HELLO.subarray(0, 3)], [], "13"],
      ["half a message", [HELLO.subarray(0, 8)], [], "13"],
      ["a flag of 2", [framed(new Uint8Array(1), 2)], [], "13"],
      ["too long by its prefix", [framed(new Uint8Array(0), 0, MAX_BYTES + 1)], [], "8"],
      ["4 GiB by its prefix", [framed(new Uint8Array(0), 0, 0xffffffff)], [], "8"],
      ["compressed without an encoding", [framed(new Uint8Array(9), 1)], [], "13"],
      ["not gzip", [framed(new Uint8Array(9), 1)], gzip, "13"],
      ["a bomb", [framed(new Uint8Array(gzipSync(new Uint8Array(64 << 20))), 1)], gzip, "8"],
      ["an unknown encoding", [HELLO], [["grpc-encoding", "zstd"]], "12"],
      ["no digits in the timeout", [HELLO], [["grpc-timeout", "S"]], "3"],
      ["a long timeout", [HELLO], [["grpc-timeout", "123456789S"]], "3"],
    ];
    for (const [name, pieces, extra, status] of cases) {
      const { headers } = await caller.call("/t.T/Echo", pieces, { extra });
      assert.equal(headers.get(":status"), "200", name);
      assert.equal(headers.get("grpc-status"), status, `${name}: ${headers.get("grpc-message")}`);
    }
    assert.equal(ended.length, cases.length);
    const { headers } = await caller.call("/t.T/Echo", [HELLO]);
    assert.equal(headers.get("grpc-status"), "0");
  }));

Deno.test("the server answers gzip with gzip, and only then", () =>
  withServer(async (caller) => {
    const body = new Uint8Array(500_000);
    const extra: HeaderField[] = [["grpc-encoding", "gzip"], ["grpc-accept-encoding", "gzip"]];
    const packed = await caller.call("/t.T/Echo", [framed(new Uint8Array(gzipSync(body)), 1)], {
      extra,
    });
    assert.equal(packed.headers.get("grpc-encoding"), "gzip");
    assert.ok(packed.bytes < 10_000, String(packed.bytes));
    const plain = await caller.call("/t.T/Echo", [framed(body)], { extra: extra.slice(1) });
    assert.equal(plain.headers.get("grpc-encoding"), undefined);
    assert.equal(plain.bytes, body.length + 5);
  }));

Deno.test("the server stops a caller that keeps sending after its answer", () =>
  withServer(async (caller) => {
    const { headers } = await caller.call("/t.T/Nope", [HELLO], { end: false });
    assert.equal(headers.get("grpc-status"), "12");
    const flood = await caller.call("/t.T/Echo", [
      framed(new Uint8Array(0), 3),
      new Uint8Array(1 << 20),
    ], {
      end: false,
    });
    assert.equal(flood.headers.get("grpc-status"), "13");
    assert.equal((await caller.call("/t.T/Echo", [HELLO])).headers.get("grpc-status"), "0");
  }));

Deno.test("the server answers at the deadline although the request never ends", () =>
  withServer(async (caller, ended) => {
    const started = performance.now();
    const { headers } = await caller.call("/t.T/Echo", [HELLO], {
      extra: [["grpc-timeout", "50m"]],
      end: false,
    });
    assert.equal(headers.get("grpc-status"), "4");
    assert.ok(performance.now() - started >= 49);
    assert.deepEqual(ended, ["/t.T/Echo DEADLINE_EXCEEDED"]);
  }));

Deno.test("the server survives handlers that throw or return anything", () =>
  withServer(
    async (caller) => {
      for (const path of ["/t.T/Null", "/t.T/NullLater", "/t.T/NotAMessage", "/t.T/BadHeader"]) {
        const { headers } = await caller.call(path, [HELLO]);
        assert.equal(headers.get("grpc-status"), path === "/t.T/BadHeader" ? "3" : "13", path);
      }
    },
    {
      methods: new Map<string, MethodHandler>([
        ["/t.T/Null", {
          kind: "unary",
          handle: () => {
            throw null;
          },
        }],
        ["/t.T/NullLater", { kind: "unary", handle: () => Promise.reject(undefined) }],
        ["/t.T/NotAMessage", { kind: "unary", handle: () => 5 as unknown as Message }],
        ["/t.T/BadHeader", {
          kind: "unary",
          handle: (request, call) => {
            call.responseHeaders.append("x-a", "line\nbreak");
            return request;
          },
        }],
      ]),
    },
  ));

Deno.test("a streaming handler that does not read holds the caller back", () => {
  let release = () => {};
  const released = new Promise<void>((resolve) => release = resolve);
  return withServer(
    async (caller) => {
      let isBlocked = false;
      let sent = 0;
      const done = new Promise<void>((resolve) => {
        const stream = caller.connection.open(
          [
            [":method", "POST"],
            [":scheme", "http"],
            [":path", "/t.T/Lazy"],
            ["content-type", "application/grpc"],
          ],
          false,
          {
            onHeaders: (_, endStream) => endStream && resolve(),
            onData: () => false,
            onEnd: () => resolve(),
            onDrain: () => push(),
          },
        );
        const piece = framed(new Uint8Array(64 * 1024));
        const push = () => {
          while (sent < 2000) {
            sent++;
            if (!stream.sendData([piece], sent === 2000)) return;
          }
        };
        push();
      });
      // 2000 pieces are 128 MB; what fits the stream's window and the queue is all that may leave.
      while (!isBlocked) {
        const before = sent;
        await new Promise((resolve) => setTimeout(resolve, 100));
        isBlocked = sent === before;
      }
      assert.ok(sent * 64 * 1024 < 64 << 20, `${sent} pieces`);
      release();
      await done;
      assert.equal(sent, 2000);
    },
    {
      methods: new Map([["/t.T/Lazy", {
        kind: "stream",
        async *handle(requests: AsyncIterable<Message>) {
          await released;
          let count = 0;
          for await (const _ of requests) count++;
          yield [new TextEncoder().encode(String(count))];
        },
      }]]),
    },
  );
});
