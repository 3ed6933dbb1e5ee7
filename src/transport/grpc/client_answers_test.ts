/**
 * The client against a server that does what a script says: answers that no real gRPC server gives, and
 * connections that fill, refuse and go away.
 */

import assert from "node:assert/strict";
import { gunzipSync, gzipSync } from "node:zlib";
import { joinMessage } from "../handler.ts";
import {
  acceptHttp2,
  ErrorCode,
  type HeaderList,
  type Http2Connection,
  SocketStream,
} from "../http2/mod.ts";
import type { StatusName } from "../../errors.ts";
import { type ClientOptions, GrpcClient } from "./client.ts";
import { collect, pattern, rejects, until } from "./client_test_support.ts";

type Script = (stream: {
  headers: HeaderList;
  respond(headers: HeaderList, end: boolean): void;
  send(bytes: Uint8Array, end?: boolean): void;
  reset(code: number): void;
  connection: Http2Connection;
}) => void;

async function withScript(
  script: Script,
  body: (client: GrpcClient, connections: Http2Connection[]) => Promise<void>,
  limits: { maxConcurrentStreams?: number } = {},
  options: Partial<ClientOptions> = {},
): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const connections: Http2Connection[] = [];
  const accepting = (async () => {
    for await (const conn of listener) {
      const connection = acceptHttp2(new SocketStream(conn), { limits }, (stream, headers) => {
        script({
          headers,
          respond: (fields, end) => stream.sendHeaders(fields, end),
          send: (bytes, end = false) => stream.sendData([bytes], end),
          reset: (code) => stream.reset(code),
          connection,
        });
        return { onHeaders() {}, onData: () => false, onEnd() {}, onDrain() {} };
      });
      connections.push(connection);
    }
  })();
  const client = new GrpcClient({ target: `127.0.0.1:${listener.addr.port}`, ...options });
  try {
    await body(client, connections);
  } finally {
    await client.close();
    listener.close();
    await accepting;
    for (const connection of connections) connection.destroy();
    await Promise.all(connections.map((connection) => connection.closed));
  }
}

const OK: HeaderList = [[":status", "200"], ["content-type", "application/grpc"]];
const EMPTY_MESSAGE = new Uint8Array(5);

Deno.test("GrpcClient makes sense of answers that are not gRPC's", async () => {
  const cases: [(stream: Parameters<Script>[0]) => void, StatusName, RegExp][] = [
    [(s) => s.respond([[":status", "503"]], true), "UNAVAILABLE", /503/],
    [
      (s) => s.respond([[":status", "404"], ["content-type", "text/html"]], false),
      "UNIMPLEMENTED",
      /404/,
    ],
    [
      (s) => s.respond([[":status", "200"], ["content-type", "text/html"]], false),
      "UNKNOWN",
      /text\/html/,
    ],
    [(s) => s.respond([[":status", "200"]], true), "UNKNOWN", /no grpc-status/],
    [(s) => (s.respond(OK, false), s.send(EMPTY_MESSAGE, true)), "INTERNAL", /without a status/],
    [(s) => (s.respond(OK, false), s.respond([["x-a", "b"]], true)), "UNKNOWN", /no grpc-status/],
    [(s) => (s.respond(OK, false), s.respond([["grpc-status", "99"]], true)), "UNKNOWN", /.*/],
    [
      (s) => (s.respond(OK, false), s.respond([["grpc-status", "0"]], true)),
      "UNIMPLEMENTED",
      /no response/,
    ],
    [
      (s) => {
        s.respond(OK, false);
        s.send(EMPTY_MESSAGE);
        s.send(EMPTY_MESSAGE);
      },
      "UNIMPLEMENTED",
      /more than one/,
    ],
    [
      (s) => {
        s.respond(OK, false);
        s.send(EMPTY_MESSAGE.subarray(0, 3));
        s.respond([["grpc-status", "0"]], true);
      },
      "INTERNAL",
      /inside a message/,
    ],
    [(s) => (s.respond(OK, false), s.send(Uint8Array.of(7, 0, 0, 0, 0))), "INTERNAL", /flag 7/],
    [
      (s) => (s.respond(OK, false), s.send(Uint8Array.of(1, 0, 0, 0, 0))),
      "INTERNAL",
      /marked compressed/,
    ],
    [
      (s) => {
        s.respond([...OK, ["grpc-encoding", "snappy"]], false);
        s.send(Uint8Array.of(1, 0, 0, 0, 1, 0));
      },
      "INTERNAL",
      /snappy/,
    ],
    [(s) => s.reset(ErrorCode.INTERNAL_ERROR), "INTERNAL", /reset/],
    [(s) => s.reset(ErrorCode.ENHANCE_YOUR_CALM), "RESOURCE_EXHAUSTED", /reset/],
    [(s) => s.reset(ErrorCode.CANCEL), "CANCELLED", /reset/],
    [(s) => s.connection.destroy(), "UNAVAILABLE", /lost/],
  ];
  for (const [script, status, message] of cases) {
    await withScript(script, async (client) => {
      await rejects(client.unary("/t.T/Echo", [pattern(5)]), status, message);
      assert.equal(client.activeCalls, 0);
    });
  }
});

Deno.test("GrpcClient inflates what it did not compress itself", async () => {
  const packed = new Uint8Array(gzipSync(pattern(5000)));
  assert.equal(gunzipSync(packed).length, 5000);
  await withScript((stream) => {
    stream.respond([...OK, ["grpc-encoding", "gzip"]], false);
    const prefix = new Uint8Array(5);
    prefix[0] = 1;
    new DataView(prefix.buffer).setUint32(1, packed.length);
    stream.send(prefix);
    stream.send(packed);
    stream.respond([["grpc-status", "0"]], true);
  }, async (client) => {
    const { message } = await client.unary("/t.T/Echo", []);
    assert.deepEqual(new Uint8Array(joinMessage(message)), pattern(5000));
  });
});

function answer(stream: Parameters<Script>[0]): void {
  stream.respond(OK, false);
  stream.send(EMPTY_MESSAGE);
  stream.respond([["grpc-status", "0"]], true);
}

Deno.test("GrpcClient tries a refused stream again, requests and all", async () => {
  for (const isStream of [false, true]) {
    let count = 0;
    await withScript((stream) => {
      if (++count < 4) stream.reset(ErrorCode.REFUSED_STREAM);
      else answer(stream);
    }, async (client) => {
      if (isStream) {
        assert.equal(
          (await collect(client.stream("/t.T/Bidi", [[pattern(9)], [pattern(8)]]))).length,
          1,
        );
      } else await client.unary("/t.T/Echo", [pattern(9)]);
      assert.equal(count, 4);
    });
  }
});

Deno.test("GrpcClient gives up on a server that refuses for ever", async () => {
  let count = 0;
  await withScript((stream) => {
    count++;
    stream.reset(ErrorCode.REFUSED_STREAM);
  }, async (client) => {
    await rejects(client.unary("/t.T/Echo", []), "UNAVAILABLE");
    assert.equal(count, 10);
  });
});

Deno.test("GrpcClient moves to another connection when the server goes away in good order", async () => {
  await withScript(
    answer,
    async (client, connections) => {
      const done: Promise<unknown>[] = [];
      // Until it has moved a few times, which takes a slow machine more rounds.
      for (let round = 0; round < 20 || connections.length < 3; round++) {
        for (let index = 0; index < 20; index++) {
          done.push(client.unary("/t.T/Echo", [pattern(10)]));
        }
        await new Promise((resolve) => setTimeout(resolve, 2));
        await until(() => connections.length > 0);
        void connections.at(-1)!.drain();
      }
      await Promise.all(done);
    },
    {},
    { backoff: { initialMs: 1, maxMs: 5 } },
  );
});

Deno.test("GrpcClient opens more connections when one is full, up to its maximum", async () => {
  const held: Parameters<Script>[0][] = [];
  await withScript(
    (stream) => held.push(stream),
    async (client, connections) => {
      const calls = Array.from({ length: 20 }, () => client.unary("/t.T/Echo", []));
      await until(() => held.length === 15);
      assert.equal(connections.length, 3);
      let answered = 0;
      for (const call of calls) void call.then(() => answered++);
      // Those that had to wait come when there is room, and not all at once.
      await until(() => {
        for (const stream of held.splice(0)) answer(stream);
        return answered === calls.length;
      });
      await Promise.all(calls);
      assert.equal(connections.length, 3);
    },
    { maxConcurrentStreams: 5 },
    { maxConnections: 3 },
  );
});
