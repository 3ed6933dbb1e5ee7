/** What ends a connection, or one of its streams, and with which code. */

import assert from "node:assert/strict";
import { acceptHttp2, connectHttp2 } from "./accept.ts";
import { PREFACE, request, serve, stop } from "./test_served.ts";
import {
  concat,
  F,
  frame,
  hex,
  makePipe,
  ManualClock,
  RawPeer,
  Recorder,
  REQUEST_BLOCK,
  RESPONSE_BLOCK,
  settingsPayload,
  settle,
  T,
  TRAILER_BLOCK,
  uint32,
} from "./test_support.ts";

const OPEN_FLAGS = F.END_HEADERS;
const END_FLAGS = F.END_HEADERS | F.END_STREAM;

// Codes: 1 PROTOCOL_ERROR, 3 FLOW_CONTROL_ERROR, 6 FRAME_SIZE_ERROR, 9 COMPRESSION_ERROR.
const CONNECTION_ERRORS: [name: string, bytes: Uint8Array, outcome: string][] = [
  ["DATA on stream 0", frame(T.DATA, 0, 0, [1]), "goaway 1"],
  ["HEADERS on stream 0", request(0), "goaway 1"],
  ["HEADERS on an even stream", request(2), "goaway 1"],
  ["a stream id that goes back", concat([request(5), request(3)]), "goaway 1"],
  ["PRIORITY on stream 0", frame(T.PRIORITY, 0, 0, [0, 0, 0, 1, 1]), "goaway 1"],
  ["PRIORITY of 4 bytes", frame(T.PRIORITY, 0, 1, [0, 0, 0, 1]), "goaway 6"],
  ["RST_STREAM on stream 0", frame(T.RST_STREAM, 0, 0, uint32(8)), "goaway 1"],
  ["RST_STREAM of 3 bytes", frame(T.RST_STREAM, 0, 1, [0, 0, 0]), "goaway 6"],
  ["SETTINGS on a stream", frame(T.SETTINGS, 0, 1), "goaway 1"],
  ["SETTINGS of 5 bytes", frame(T.SETTINGS, 0, 0, [0, 3, 0, 0, 0]), "goaway 6"],
  ["SETTINGS ACK with a payload", frame(T.SETTINGS, F.ACK, 0, [0, 3, 0, 0, 0, 1]), "goaway 6"],
  ["ENABLE_PUSH 2", frame(T.SETTINGS, 0, 0, settingsPayload({ 2: 2 })), "goaway 1"],
  [
    "INITIAL_WINDOW_SIZE 2^31",
    frame(T.SETTINGS, 0, 0, settingsPayload({ 4: 2 ** 31 })),
    "goaway 3",
  ],
  ["MAX_FRAME_SIZE 16383", frame(T.SETTINGS, 0, 0, settingsPayload({ 5: 16_383 })), "goaway 1"],
  ["MAX_FRAME_SIZE 2^24", frame(T.SETTINGS, 0, 0, settingsPayload({ 5: 1 << 24 })), "goaway 1"],
  ["PUSH_PROMISE", frame(T.PUSH_PROMISE, F.END_HEADERS, 1, [0, 0, 0, 2, 0x83]), "goaway 1"],
  ["PING on a stream", frame(T.PING, 0, 1, new Uint8Array(8)), "goaway 1"],
  ["PING of 7 bytes", frame(T.PING, 0, 0, new Uint8Array(7)), "goaway 6"],
  ["GOAWAY on a stream", frame(T.GOAWAY, 0, 1, new Uint8Array(8)), "goaway 1"],
  ["GOAWAY of 7 bytes", frame(T.GOAWAY, 0, 0, new Uint8Array(7)), "goaway 6"],
  ["WINDOW_UPDATE of 0", frame(T.WINDOW_UPDATE, 0, 0, uint32(0)), "goaway 1"],
  ["WINDOW_UPDATE of 3 bytes", frame(T.WINDOW_UPDATE, 0, 0, [0, 0, 1]), "goaway 6"],
  ["a window over 2^31 - 1", frame(T.WINDOW_UPDATE, 0, 0, uint32(0x7fffffff)), "goaway 3"],
  ["CONTINUATION alone", frame(T.CONTINUATION, F.END_HEADERS, 1, [0x82]), "goaway 1"],
  [
    "a frame inside a header block",
    concat([request(1, 0), frame(T.PING, 0, 0, hex("0000000000000000"))]),
    "goaway 1",
  ],
  [
    "an unknown frame inside a header block",
    concat([request(1, 0), frame(0x20, 0, 0)]),
    "goaway 1",
  ],
  [
    "CONTINUATION of another stream",
    concat([request(1, 0), frame(T.CONTINUATION, 4, 3)]),
    "goaway 1",
  ],
  ["a frame over the maximum size", frame(T.DATA, 0, 1, new Uint8Array((1 << 20) + 1)), "goaway 6"],
  [
    "padding as long as its DATA",
    concat([request(1, 4), frame(T.DATA, F.PADDED, 1, [1])]),
    "goaway 1",
  ],
  ["padded DATA of no bytes", concat([request(1, 4), frame(T.DATA, F.PADDED, 1)]), "goaway 6"],
  ["padding longer than its HEADERS", frame(T.HEADERS, 0xd, 1, [4, 0x83, 0x86, 0x84]), "goaway 1"],
  ["HEADERS too short for its priority", frame(T.HEADERS, 0x25, 1, [0, 0, 0, 0]), "goaway 6"],
  ["a block that cannot be decoded", frame(T.HEADERS, END_FLAGS, 1, [0xbf]), "goaway 9"],
];

for (const [name, bytes, outcome] of CONNECTION_ERRORS) {
  Deno.test(`a server ends the connection over ${name}: ${outcome}`, async () => {
    const server = await serve();
    server.peer.send(bytes);
    assert.equal(await server.peer.outcome(), outcome);
    server.peer.end();
    await server.connection.closed;
    assert.deepEqual(server.errors, []);
  });
}

Deno.test("a connection error ends every open stream with its code", async () => {
  const server = await serve();
  server.peer.send(request(1, OPEN_FLAGS), request(3), frame(T.PING, 0, 1, new Uint8Array(8)));
  await settle();
  for (const { ends } of server.recorders) {
    assert.deepEqual(ends.map(({ code, cause, unprocessed }) => [code, cause, unprocessed]), [
      [1, "connection", false],
    ]);
  }
  await stop(server);
});

for (
  const [name, bytes] of [
    ["another protocol", new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")],
    [
      "a first frame that is not SETTINGS",
      concat([PREFACE, frame(T.PING, 0, 0, hex("00".repeat(8)))]),
    ],
    ["a SETTINGS acknowledgement as the first frame", concat([PREFACE, frame(T.SETTINGS, 1, 0)])],
  ] as const
) {
  Deno.test(`a server refuses ${name}`, async () => {
    const [near] = makePipe();
    const connection = acceptHttp2(near, { clock: new ManualClock() }, () => new Recorder());
    const peer = new RawPeer(near);
    peer.send(bytes);
    assert.equal(await peer.outcome(), "goaway 1");
    peer.end();
    await connection.closed;
  });
}

const MALFORMED: [name: string, frames: Uint8Array][] = [
  ["headers without a path", frame(T.HEADERS, END_FLAGS, 1, [0x83, 0x86])],
  ["an upper-case name", frame(T.HEADERS, END_FLAGS, 1, [...REQUEST_BLOCK, 0, 1, 0x58, 1, 0x79])],
  [
    "less data than content-length",
    concat([
      frame(T.HEADERS, OPEN_FLAGS, 1, [...REQUEST_BLOCK, 0x0f, 0x0d, 1, 0x35]),
      frame(T.DATA, F.END_STREAM, 1, [1]),
    ]),
  ],
  [
    "more data than content-length",
    concat([
      frame(T.HEADERS, OPEN_FLAGS, 1, [...REQUEST_BLOCK, 0x0f, 0x0d, 1, 0x31]),
      frame(T.DATA, 0, 1, [1, 2]),
    ]),
  ],
  [
    "no data for a content-length",
    frame(T.HEADERS, END_FLAGS, 1, [...REQUEST_BLOCK, 0x0f, 0x0d, 1, 0x31]),
  ],
  [
    "trailers for a content-length",
    concat([
      frame(T.HEADERS, OPEN_FLAGS, 1, [...REQUEST_BLOCK, 0x0f, 0x0d, 1, 0x31]),
      frame(T.HEADERS, END_FLAGS, 1, TRAILER_BLOCK),
    ]),
  ],
  [
    "a pseudo-header in trailers",
    concat([
      request(1, OPEN_FLAGS),
      frame(T.HEADERS, END_FLAGS, 1, RESPONSE_BLOCK),
    ]),
  ],
  [
    "a stream that depends on itself",
    frame(T.HEADERS, END_FLAGS | F.PRIORITY, 1, [
      0,
      0,
      0,
      1,
      9,
      ...REQUEST_BLOCK,
    ]),
  ],
];

for (const [name, bytes] of MALFORMED) {
  Deno.test(`a server resets the stream over ${name}`, async () => {
    const server = await serve();
    server.peer.send(bytes);
    assert.equal(await server.peer.outcome(), "reset 1 1");
    assert.deepEqual(
      server.recorders.flatMap(({ ends }) => ends.map(({ code, cause }) => [code, cause])),
      server.recorders.map(() => [1, "local"]),
    );
    server.peer.send(request(3));
    assert.equal(await server.peer.outcome(), "ok");
    await stop(server);
  });
}

// Codes: 1 PROTOCOL_ERROR, 5 STREAM_CLOSED.
const CLIENT_ERRORS: [name: string, bytes: Uint8Array, outcome: string][] = [
  ["HEADERS on a stream never opened", frame(T.HEADERS, END_FLAGS, 3, RESPONSE_BLOCK), "goaway 1"],
  ["HEADERS on an even stream", frame(T.HEADERS, END_FLAGS, 2, RESPONSE_BLOCK), "goaway 1"],
  ["PUSH_PROMISE", frame(T.PUSH_PROMISE, F.END_HEADERS, 1, [0, 0, 0, 2, 0x83]), "goaway 1"],
  ["DATA before HEADERS", frame(T.DATA, 0, 1, [1]), "reset 1 1"],
  ["a response without status", frame(T.HEADERS, END_FLAGS, 1, TRAILER_BLOCK), "reset 1 1"],
  [
    "a 1xx that ends the stream",
    frame(T.HEADERS, END_FLAGS, 1, hex("08 03 31 30 33")),
    "reset 1 1",
  ],
  [
    "too many 1xx",
    concat(Array(17).fill(frame(T.HEADERS, OPEN_FLAGS, 1, hex("08 03 31 30 33")))),
    "reset 1 1",
  ],
  [
    "trailers without END_STREAM",
    concat([
      frame(T.HEADERS, OPEN_FLAGS, 1, RESPONSE_BLOCK),
      frame(T.HEADERS, OPEN_FLAGS, 1, TRAILER_BLOCK),
    ]),
    "reset 1 1",
  ],
];

for (const [name, bytes, outcome] of CLIENT_ERRORS) {
  Deno.test(`a client answers ${name} with: ${outcome}`, async () => {
    const [near] = makePipe();
    const connection = connectHttp2(near, { clock: new ManualClock() });
    const peer = new RawPeer(near);
    connection.open(
      [[":method", "GET"], [":scheme", "http"], [":path", "/"]],
      false,
      new Recorder(),
    );
    peer.send(frame(T.SETTINGS, 0, 0), bytes);
    assert.equal(await peer.outcome(), outcome);
    connection.destroy();
    await connection.closed;
  });
}
