import assert from "node:assert/strict";
import type { HeaderList, Http2Connection, Http2Stream } from "./types.ts";
import { acceptHttp2, connectHttp2 } from "./accept.ts";
import type { Http2Options } from "./options.ts";
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

const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const OPEN_FLAGS = F.END_HEADERS;
const END_FLAGS = F.END_HEADERS | F.END_STREAM;

interface ServerUnderTest {
  readonly connection: Http2Connection;
  readonly peer: RawPeer;
  readonly streams: Http2Stream[];
  readonly recorders: Recorder[];
  readonly requests: { headers: HeaderList; endStream: boolean }[];
  readonly errors: unknown[];
  readonly clock: ManualClock;
}

/** A server connection whose peer has shaken hands. */
async function startServer(options: Http2Options = {}, settings = {}): Promise<ServerUnderTest> {
  const [near] = makePipe();
  const clock = new ManualClock();
  const streams: Http2Stream[] = [];
  const recorders: Recorder[] = [];
  const requests: { headers: HeaderList; endStream: boolean }[] = [];
  const errors: unknown[] = [];
  const connection = acceptHttp2(
    near,
    { clock, onError: (error) => errors.push(error), ...options },
    (stream, headers, endStream) => {
      streams.push(stream);
      requests.push({ headers, endStream });
      recorders.push(new Recorder());
      return recorders.at(-1)!;
    },
  );
  const peer = new RawPeer(near);
  peer.send(
    PREFACE,
    frame(T.SETTINGS, 0, 0, settingsPayload(settings)),
    frame(T.SETTINGS, F.ACK, 0),
  );
  await peer.receive();
  return { connection, peer, streams, recorders, requests, errors, clock };
}

async function stop({ connection, errors }: ServerUnderTest): Promise<void> {
  connection.destroy();
  await connection.closed;
  assert.deepEqual(errors, []);
}

function request(streamId: number, flags = END_FLAGS): Uint8Array {
  return frame(T.HEADERS, flags, streamId, REQUEST_BLOCK);
}

Deno.test("acceptHttp2() announces its settings and a larger connection window", async () => {
  const server = await startServer();
  const [settings, update, ack] = server.peer.frames;
  assert.equal(settings!.type, T.SETTINGS);
  const values = new Map<number, number>();
  const view = new DataView(settings!.payload.buffer);
  for (let at = 0; at < settings!.payload.length; at += 6) {
    values.set(view.getUint16(at), view.getUint32(at + 2));
  }
  assert.deepEqual(
    values,
    new Map([[4, 32 << 20], [5, 1 << 20], [6, 65_536], [1, 4096], [3, 1024]]),
  );
  assert.deepEqual(update, {
    type: T.WINDOW_UPDATE,
    flags: 0,
    streamId: 0,
    payload: uint32((128 << 20) - 65_535),
  });
  assert.deepEqual(ack, {
    type: T.SETTINGS,
    flags: F.ACK,
    streamId: 0,
    payload: new Uint8Array(0),
  });
  await stop(server);
});

Deno.test("a request, its data and trailers reach the listener; the answer goes out in order", async () => {
  const server = await startServer();
  const { peer } = server;
  peer.send(
    request(1, OPEN_FLAGS),
    frame(T.DATA, 0, 1, [1, 2, 3]),
    frame(T.DATA, F.PADDED, 1, [2, 4, 5, 0, 0]),
    frame(T.HEADERS, END_FLAGS, 1, TRAILER_BLOCK),
  );
  await settle();
  assert.deepEqual(server.requests, [{
    headers: [[":method", "POST"], [":scheme", "http"], [":path", "/"]],
    endStream: false,
  }]);
  const recorder = server.recorders[0]!;
  assert.deepEqual(concat(recorder.data), Uint8Array.of(1, 2, 3, 4, 5));
  assert.deepEqual(recorder.headers, [{ headers: [["x", "y"]], endStream: true }]);
  const stream = server.streams[0]!;
  assert.equal(stream.isClosed, false);
  stream.sendHeaders([[":status", "200"]], false);
  assert.equal(stream.sendData([Uint8Array.of(7), Uint8Array.of(8, 9)], false), true);
  stream.sendHeaders([["x", "y"]], true);
  assert.equal(stream.isClosed, true);
  const frames = await peer.receive();
  assert.deepEqual(
    frames.map(({ type, flags, streamId }) => [type, flags, streamId]),
    [[T.HEADERS, OPEN_FLAGS, 1], [T.DATA, 0, 1], [T.HEADERS, END_FLAGS, 1]],
  );
  assert.deepEqual(frames[1]!.payload, Uint8Array.of(7, 8, 9));
  assert.deepEqual(recorder.ends, []);
  assert.equal(server.connection.activeStreams, 0);
  await stop(server);
});

Deno.test("frames arrive the same one byte at a time", async () => {
  const server = await startServer();
  const bytes = concat([
    frame(T.HEADERS, F.PADDED | F.PRIORITY, 1, [1, 0, 0, 0, 0, 0, 0x83, 0]),
    frame(T.CONTINUATION, F.END_HEADERS, 1, [0x86, 0x84]),
    frame(0xbe, 0xff, 7, [1, 2, 3]),
    frame(T.DATA, F.PADDED, 1, [1, 42, 0]),
    frame(T.PING, 0, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
    frame(T.DATA, F.PADDED | F.END_STREAM, 1, [3, 0, 0, 0]),
  ]);
  for (const byte of bytes) server.peer.send(Uint8Array.of(byte));
  const frames = await server.peer.receive();
  assert.equal(server.requests.length, 1);
  assert.deepEqual(concat(server.recorders[0]!.data), Uint8Array.of(42));
  assert.equal(server.recorders[0]!.hasEnded, true);
  assert.deepEqual(
    frames.filter(({ type }) => type === T.PING).map(({ flags, payload }) => [flags, ...payload]),
    [[F.ACK, 1, 2, 3, 4, 5, 6, 7, 8]],
  );
  await stop(server);
});

Deno.test("a kept chunk is never written again, however much follows", async () => {
  const server = await startServer();
  server.peer.send(request(1, OPEN_FLAGS));
  await settle();
  const kept: Uint8Array[] = [];
  const recorder = server.recorders[0]!;
  recorder.onChunk = (chunk) => {
    kept.push(chunk);
    server.streams[0]!.consume(chunk.length);
    return true;
  };
  const expected: Uint8Array[] = [];
  for (let i = 0; i < 300; i++) {
    const payload = new Uint8Array(1 + (i * 7919) % 16_000).fill(i);
    expected.push(payload);
    server.peer.send(frame(T.DATA, 0, 1, payload));
    if (i % 10 === 0) await settle(1);
  }
  await settle();
  assert.deepEqual(concat(kept), concat(expected));
  await stop(server);
});

// RFC 9113 section 5.1, as a server sees it: what each frame does in each state.
type State = keyof typeof STATES;
const STATES = {
  idle: () => {},
  open: (server: ServerUnderTest) => server.peer.send(request(1, OPEN_FLAGS)),
  "half-closed (remote)": (server: ServerUnderTest) => server.peer.send(request(1)),
  "half-closed (local)": async (server: ServerUnderTest) => {
    server.peer.send(request(1, OPEN_FLAGS));
    await settle();
    server.streams[0]!.sendHeaders([[":status", "200"]], true);
  },
  "closed by END_STREAM": async (server: ServerUnderTest) => {
    server.peer.send(request(1));
    await settle();
    server.streams[0]!.sendHeaders([[":status", "200"]], true);
  },
  "closed by our reset": async (server: ServerUnderTest) => {
    server.peer.send(request(1, OPEN_FLAGS));
    await settle();
    server.streams[0]!.reset(8);
  },
  "closed by the peer's reset": (server: ServerUnderTest) =>
    server.peer.send(request(1, OPEN_FLAGS), frame(T.RST_STREAM, 0, 1, uint32(8))),
};

const EVENTS = {
  DATA: frame(T.DATA, 0, 1, [1]),
  "DATA with END_STREAM": frame(T.DATA, F.END_STREAM, 1, [1]),
  "HEADERS with END_STREAM": frame(T.HEADERS, END_FLAGS, 1, TRAILER_BLOCK),
  "HEADERS without END_STREAM": frame(T.HEADERS, OPEN_FLAGS, 1, TRAILER_BLOCK),
  PRIORITY: frame(T.PRIORITY, 0, 1, [0, 0, 0, 3, 5]),
  RST_STREAM: frame(T.RST_STREAM, 0, 1, uint32(8)),
  WINDOW_UPDATE: frame(T.WINDOW_UPDATE, 0, 1, uint32(1000)),
  "WINDOW_UPDATE of 0": frame(T.WINDOW_UPDATE, 0, 1, uint32(0)),
  "WINDOW_UPDATE over 2^31 - 1": frame(T.WINDOW_UPDATE, 0, 1, uint32(0x7fffffff)),
};

// Codes: 1 PROTOCOL_ERROR, 3 FLOW_CONTROL_ERROR, 5 STREAM_CLOSED.
const OUTCOMES: Record<State, string[]> = {
  idle: [
    "goaway 1",
    "goaway 1",
    "reset 1 1",
    "reset 1 1",
    "ok",
    "goaway 1",
    "goaway 1",
    "goaway 1",
    "goaway 1",
  ],
  open: ["ok", "ok", "ok", "reset 1 1", "ok", "ok", "ok", "reset 1 1", "reset 1 3"],
  "half-closed (remote)": [
    "reset 1 5",
    "reset 1 5",
    "reset 1 5",
    "reset 1 5",
    "ok",
    "ok",
    "ok",
    "reset 1 1",
    "reset 1 3",
  ],
  "half-closed (local)": [
    "ok",
    "ok",
    "ok",
    "reset 1 1",
    "ok",
    "ok",
    "ok",
    "reset 1 1",
    "reset 1 3",
  ],
  "closed by END_STREAM": [
    "reset 1 5",
    "reset 1 5",
    "goaway 5",
    "goaway 5",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
  ],
  "closed by our reset": ["ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok", "ok"],
  "closed by the peer's reset": [
    "reset 1 5",
    "reset 1 5",
    "goaway 5",
    "goaway 5",
    "ok",
    "ok",
    "ok",
    "ok",
    "ok",
  ],
};

for (const state of Object.keys(STATES) as State[]) {
  Object.entries(EVENTS).forEach(([event, bytes], i) => {
    Deno.test(`a stream that is ${state} answers ${event} with: ${OUTCOMES[state][i]}`, async () => {
      const server = await startServer();
      await STATES[state](server);
      await server.peer.receive();
      server.peer.send(bytes);
      assert.equal(await server.peer.outcome(), OUTCOMES[state][i]);
      // Whatever happened, a connection that was not ended still serves.
      if (!OUTCOMES[state][i]!.startsWith("goaway")) {
        const before = server.requests.length;
        server.peer.send(request(3));
        assert.equal(await server.peer.outcome(), "ok");
        assert.equal(server.requests.length, before + 1);
      }
      await stop(server);
    });
  });
}

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
    const server = await startServer();
    server.peer.send(bytes);
    assert.equal(await server.peer.outcome(), outcome);
    server.peer.end();
    await server.connection.closed;
    assert.deepEqual(server.errors, []);
  });
}

Deno.test("a connection error ends every open stream with its code", async () => {
  const server = await startServer();
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
    const server = await startServer();
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

Deno.test("streams over the limit are refused, and room is made when one ends", async () => {
  const server = await startServer({ limits: { maxConcurrentStreams: 2 } });
  server.peer.send(request(1), request(3), request(5));
  assert.equal(await server.peer.outcome(), "reset 5 7");
  server.streams[0]!.sendHeaders([[":status", "200"]], true);
  server.peer.send(request(7));
  assert.equal(await server.peer.outcome(), "ok");
  assert.equal(server.connection.activeStreams, 2);
  await stop(server);
});

Deno.test("a callback that throws costs its stream only", async () => {
  const errors: unknown[] = [];
  const server = await startServer({ onError: (error) => errors.push(error) });
  server.peer.send(request(1, OPEN_FLAGS), request(3, OPEN_FLAGS));
  await settle();
  server.recorders[0]!.onChunk = () => {
    throw new Error("a defect");
  };
  server.peer.send(frame(T.DATA, 0, 1, [1]), frame(T.DATA, 0, 3, [2]));
  assert.equal(await server.peer.outcome(), "reset 1 2");
  assert.deepEqual(concat(server.recorders[1]!.data), Uint8Array.of(2));
  assert.deepEqual(errors.map(String), ["Error: a defect"]);
  server.connection.destroy();
  await server.connection.closed;
});

Deno.test("an onStream that throws costs its stream only", async () => {
  const [near] = makePipe();
  const errors: unknown[] = [];
  const connection = acceptHttp2(near, {
    clock: new ManualClock(),
    onError: (error) => errors.push(error),
  }, () => {
    throw new Error("a defect");
  });
  const peer = new RawPeer(near);
  peer.send(PREFACE, frame(T.SETTINGS, 0, 0), request(1));
  assert.equal(await peer.outcome(), "reset 1 2");
  assert.equal(errors.length, 1);
  connection.destroy();
  await connection.closed;
});

Deno.test("a stream the peer resets tells its listener, once, and forgets what was queued", async () => {
  const server = await startServer({}, { 4: 10 });
  server.peer.send(request(1, OPEN_FLAGS));
  await settle();
  const stream = server.streams[0]!;
  stream.sendHeaders([[":status", "200"]], false);
  assert.equal(stream.sendData([new Uint8Array(100)], false), false);
  server.peer.send(frame(T.RST_STREAM, 0, 1, uint32(7)));
  await settle();
  assert.deepEqual(server.recorders[0]!.ends, [{
    code: 7,
    cause: "peer",
    unprocessed: true,
    message: "stream reset by the peer: REFUSED_STREAM",
  }]);
  await server.peer.receive();
  stream.sendHeaders([["x", "y"]], true);
  assert.equal(stream.sendData([new Uint8Array(5)], true), true);
  stream.reset(8);
  stream.consume(10);
  assert.deepEqual(await server.peer.receive(), []);
  await stop(server);
});

Deno.test("a client skips 1xx, passes headers, data and trailers, and closes the stream", async () => {
  const [near] = makePipe();
  const connection = connectHttp2(near, { clock: new ManualClock() });
  const peer = new RawPeer(near);
  const recorder = new Recorder();
  const stream = connection.open(
    [[":method", "POST"], [":scheme", "http"], [":path", "/"]],
    true,
    recorder,
  );
  assert.equal(stream.id, 1);
  peer.send(
    frame(T.SETTINGS, 0, 0),
    frame(T.HEADERS, OPEN_FLAGS, 1, hex("08 03 31 30 33")),
    frame(T.HEADERS, OPEN_FLAGS, 1, RESPONSE_BLOCK),
    frame(T.DATA, 0, 1, [1, 2]),
    frame(T.HEADERS, END_FLAGS, 1, TRAILER_BLOCK),
  );
  await settle();
  assert.deepEqual(recorder.headers, [
    { headers: [[":status", "200"]], endStream: false },
    { headers: [["x", "y"]], endStream: true },
  ]);
  assert.deepEqual(concat(recorder.data), Uint8Array.of(1, 2));
  assert.deepEqual(recorder.ends, []);
  assert.equal(stream.isClosed, true);
  connection.destroy();
  await connection.closed;
});

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
