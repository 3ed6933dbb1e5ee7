import assert from "node:assert/strict";
import { acceptHttp2, connectHttp2 } from "./accept.ts";
import { DEFAULT_LIMITS, type Http2Limits, RateLimit } from "./limits.ts";
import type { Http2Options } from "./options.ts";
import {
  concat,
  F,
  frame,
  makePipe,
  ManualClock,
  RawPeer,
  Recorder,
  REQUEST_BLOCK,
  settle,
  T,
  uint32,
} from "./test_support.ts";
import { PREFACE, serve, type Served, stop } from "./test_served.ts";

const CALM = "goaway 11";

/** A connection with these limits. */
function limited(
  limits: Partial<Http2Limits>,
  options: Http2Options = {},
  settings: Record<number, number> = {},
): Promise<Served> {
  return serve({ limits, ...options }, settings);
}

function headers(streamId: number, flags = F.END_HEADERS): Uint8Array {
  return frame(T.HEADERS, flags, streamId, REQUEST_BLOCK);
}

/** `count` times what `make` gives. */
function repeat(count: number, make: (i: number) => Uint8Array): Uint8Array {
  return concat(Array.from({ length: count }, (_, i) => make(i)));
}

const TEN = { burst: 10, perSecond: 1 };

// Each flood is let through up to its budget and ends the connection right beyond it.
const FLOODS: [name: string, limits: Partial<Http2Limits>, make: (i: number) => Uint8Array][] = [
  [
    "rapid resets",
    { resets: TEN },
    (i) => concat([headers(2 * i + 1), frame(T.RST_STREAM, 0, 2 * i + 1, uint32(8))]),
  ],
  [
    "streams we are made to reset",
    { resets: TEN },
    (i) => concat([headers(2 * i + 1), frame(T.WINDOW_UPDATE, 0, 2 * i + 1, uint32(0))]),
  ],
  [
    "malformed requests",
    { resets: TEN },
    (i) => frame(T.HEADERS, 5, 2 * i + 1, REQUEST_BLOCK.subarray(1)),
  ],
  [
    "refused streams",
    { refusedStreams: TEN, maxConcurrentStreams: 0 },
    (i) => headers(2 * i + 1),
  ],
  // The handshake has used one.
  ["SETTINGS", { settings: { burst: 11, perSecond: 1 } }, () => frame(T.SETTINGS, 0, 0)],
  ["PINGs", { pings: TEN }, () => frame(T.PING, 0, 0, new Uint8Array(8))],
  ["PRIORITY frames", { uselessFrames: TEN }, () => frame(T.PRIORITY, 0, 9, [0, 0, 0, 1, 1])],
  ["unknown frames", { uselessFrames: TEN }, () => frame(0x77, 0, 0, [1, 2, 3])],
  [
    "tiny window updates",
    { tinyWindowUpdates: TEN },
    () => frame(T.WINDOW_UPDATE, 0, 0, uint32(1)),
  ],
];

for (const [name, limits, make] of FLOODS) {
  Deno.test(`a flood of ${name} ends the connection, a few do not`, async () => {
    const setup = await limited(limits);
    setup.peer.send(repeat(10, make));
    await setup.peer.receive();
    setup.peer.send(frame(T.PING, 0, 0, new Uint8Array(8)));
    if (name !== "PINGs") {
      assert.equal(await setup.peer.outcome(), "ok");
      setup.peer.send(make(10));
    }
    assert.equal(await setup.peer.outcome(), CALM);
    await stop(setup);
  });
}

Deno.test("a flood of empty DATA frames ends the connection", async () => {
  const setup = await limited({ emptyFrames: TEN });
  setup.peer.send(headers(1), repeat(10, () => frame(T.DATA, 0, 1)));
  assert.equal(await setup.peer.outcome(), "ok");
  setup.peer.send(frame(T.DATA, F.PADDED, 1, [0]));
  assert.equal(await setup.peer.outcome(), CALM);
  await stop(setup);
});

Deno.test("a flood budget fills up again with time", async () => {
  const setup = await limited({ uselessFrames: TEN });
  for (let i = 0; i < 5; i++) {
    setup.peer.send(repeat(10, () => frame(T.PRIORITY, 0, 9, [0, 0, 0, 1, 1])));
    assert.equal(await setup.peer.outcome(), "ok");
    setup.clock.advance(10_000);
  }
  await stop(setup);
});

Deno.test("resets are forgiven for completed streams and for old ones", async () => {
  const setup = await limited({ resets: TEN, rapidResetMs: 100 });
  for (let i = 0; i < 50; i++) {
    const id = 4 * i + 1;
    setup.peer.send(headers(id, F.END_HEADERS | F.END_STREAM), headers(id + 2));
    await settle(1);
    setup.streams.at(-2)!.sendHeaders([[":status", "200"]], true);
    setup.peer.send(frame(T.RST_STREAM, 0, id + 2, uint32(8)));
    await settle(1);
  }
  for (let i = 0; i < 50; i++) {
    const id = 1001 + 2 * i;
    setup.peer.send(headers(id));
    await settle(1);
    setup.clock.advance(0.1);
  }
  setup.clock.advance(200);
  setup.peer.send(repeat(50, (i) => frame(T.RST_STREAM, 0, 1001 + 2 * i, uint32(8))));
  assert.equal(await setup.peer.outcome(), "ok");
  assert.equal(setup.connection.activeStreams, 0);
  await stop(setup);
});

Deno.test("tiny window updates are forgiven for completed streams, and for no others", async () => {
  const setup = await limited({ tinyWindowUpdates: { burst: 10, perSecond: 0 } });
  const update = (id: number) => frame(T.WINDOW_UPDATE, 0, id, uint32(50));
  for (let i = 0; i < 50; i++) {
    const id = 2 * i + 1;
    setup.peer.send(headers(id, F.END_HEADERS | F.END_STREAM));
    await settle(1);
    setup.streams.at(-1)!.sendHeaders([[":status", "200"]], true);
    // As gRPC's C core does: of the answer, for its stream and for the connection.
    setup.peer.send(update(id), update(0));
    assert.equal(await setup.peer.outcome(), "ok");
  }
  setup.peer.send(headers(101), repeat(10, () => update(101)));
  assert.equal(await setup.peer.outcome(), CALM);
  await stop(setup);
});

Deno.test("PINGs that follow work are not counted", async () => {
  const setup = await limited({ pings: { burst: 2, perSecond: 0 } });
  for (let i = 0; i < 20; i++) {
    setup.peer.send(headers(2 * i + 1, F.END_HEADERS | F.END_STREAM));
    await settle(1);
    setup.streams.at(-1)!.sendHeaders([[":status", "200"]], true);
    setup.peer.send(repeat(2, () => frame(T.PING, 0, 0, new Uint8Array(8))));
    assert.equal(await setup.peer.outcome(), "ok");
  }
  await stop(setup);
});

Deno.test("a header block in too many CONTINUATION frames ends the connection", async () => {
  const setup = await limited({ maxContinuationFrames: 3 });
  const part = (flags: number) => frame(T.CONTINUATION, flags, 1, [0x83]);
  setup.peer.send(headers(1, 0), part(0), part(0), part(0));
  assert.equal(await setup.peer.outcome(), "ok");
  setup.peer.send(part(0));
  assert.equal(await setup.peer.outcome(), CALM);
  await stop(setup);
});

Deno.test("a header block over its limit ends the connection, in one frame or several", async () => {
  const whole = await limited({ maxHeaderBlockBytes: 100 });
  whole.peer.send(frame(T.HEADERS, 5, 1, new Uint8Array(101).fill(0x82)));
  assert.equal(await whole.peer.outcome(), CALM);
  await stop(whole);
  const huge = await limited({ maxHeaderBlockBytes: 100 });
  // Refused by its length alone, before it has arrived.
  huge.peer.send(frame(T.HEADERS, 5, 1, new Uint8Array(100_000)).subarray(0, 9));
  assert.equal(await huge.peer.outcome(), CALM);
  await stop(huge);
  const parts = await limited({ maxHeaderBlockBytes: 100 });
  parts.peer.send(
    frame(T.HEADERS, 1, 1, new Uint8Array(60).fill(0x82)),
    frame(T.CONTINUATION, 4, 1, new Uint8Array(60).fill(0x82)),
  );
  assert.equal(await parts.peer.outcome(), CALM);
  await stop(parts);
});

Deno.test("a header list over its limit fails the stream and nothing else", async () => {
  const setup = await limited({ maxHeaderListBytes: 500 });
  const field = [0x40, 1, 0x61, 0x64, ...new Uint8Array(100).fill(0x62)];
  // One literal of 133 bytes, then the same by index: a small block with a large list.
  setup.peer.send(frame(T.HEADERS, 5, 1, [...REQUEST_BLOCK, ...field, 0xbe, 0xbe, 0xbe, 0xbe]));
  assert.equal(await setup.peer.outcome(), "reset 1 11");
  assert.equal(setup.streams.length, 0);
  setup.peer.send(frame(T.HEADERS, 5, 3, [...REQUEST_BLOCK, 0xbe]));
  assert.equal(await setup.peer.outcome(), "ok");
  assert.equal(setup.streams.length, 1);
  await stop(setup);
});

Deno.test("too many SETTINGS parameters end the connection before they have arrived", async () => {
  const setup = await limited({ maxSettingsPerFrame: 4 });
  setup.peer.send(frame(T.SETTINGS, 0, 0, new Uint8Array(5 * 6)).subarray(0, 9));
  assert.equal(await setup.peer.outcome(), CALM);
  await stop(setup);
});

Deno.test("data beyond the stream's window resets the stream", async () => {
  const setup = await limited({}, { streamWindowBytes: 100_000 });
  setup.peer.send(headers(1), frame(T.DATA, 0, 1, new Uint8Array(100_000)));
  assert.equal(await setup.peer.outcome(), "ok");
  setup.peer.send(frame(T.DATA, 0, 1, [1]));
  assert.equal(await setup.peer.outcome(), "reset 1 3");
  await stop(setup);
});

Deno.test("data beyond the connection's window ends the connection", async () => {
  const setup = await limited({}, { connectionWindowBytes: 100_000 });
  setup.peer.send(
    headers(1),
    headers(3),
    frame(T.DATA, 0, 1, new Uint8Array(60_000)),
    frame(T.DATA, 0, 3, new Uint8Array(40_000)),
  );
  assert.equal(await setup.peer.outcome(), "ok");
  setup.peer.send(frame(T.DATA, 0, 3, [1]));
  assert.equal(await setup.peer.outcome(), "goaway 3");
  await stop(setup);
});

Deno.test("a preface that does not come in time ends the connection", async () => {
  for (const sent of [new Uint8Array(0), PREFACE.subarray(0, 10), PREFACE]) {
    const [near] = makePipe();
    const clock = new ManualClock();
    const connection = acceptHttp2(near, { clock }, () => new Recorder());
    const peer = new RawPeer(near);
    peer.send(sent);
    await peer.receive();
    clock.advance(9_000);
    assert.equal(await peer.outcome(), "ok");
    clock.advance(1_000);
    assert.equal(await peer.outcome(), "goaway 4");
    clock.advance(1_000);
    await connection.closed;
    assert.equal(clock.timers, 0);
  }
});

Deno.test("a header block that does not come in time ends the connection", async () => {
  const setup = await limited({});
  setup.peer.send(headers(1, 0));
  await settle();
  setup.clock.advance(9_000);
  assert.equal(await setup.peer.outcome(), "ok");
  setup.clock.advance(1_000);
  assert.equal(await setup.peer.outcome(), CALM);
  await stop(setup);
});

Deno.test("a frame that does not come in time ends the connection", async () => {
  const setup = await limited({});
  setup.peer.send(headers(1).subarray(0, 11));
  await settle();
  setup.clock.advance(9_000);
  assert.equal(await setup.peer.outcome(), "ok");
  setup.clock.advance(1_000);
  assert.equal(await setup.peer.outcome(), CALM);
  await stop(setup);
});

Deno.test("SETTINGS nobody acknowledges end the connection", async () => {
  const [near] = makePipe();
  const clock = new ManualClock();
  const connection = connectHttp2(near, { clock });
  const peer = new RawPeer(near);
  peer.send(frame(T.SETTINGS, 0, 0));
  await peer.receive();
  clock.advance(29_000);
  assert.equal(await peer.outcome(), "ok");
  clock.advance(1_000);
  assert.equal(await peer.outcome(), "goaway 4");
  connection.destroy();
  await connection.closed;
});

Deno.test("a stream whose window stays shut is reset, and its data let go", async () => {
  const setup = await limited({}, {}, { 4: 0 });
  setup.peer.send(headers(1, 5), headers(3, 5));
  await settle();
  for (const stream of setup.streams) {
    stream.sendHeaders([[":status", "200"]], false);
    stream.sendData([new Uint8Array(1 << 20)], true);
  }
  await setup.peer.receive();
  setup.clock.advance(30_000);
  // One of the two moves on; the other only dribbles, which is not enough.
  setup.peer.send(frame(T.WINDOW_UPDATE, 0, 3, uint32(5000)));
  setup.peer.send(frame(T.WINDOW_UPDATE, 0, 1, uint32(500)));
  await setup.peer.receive();
  setup.clock.advance(32_000);
  assert.equal(await setup.peer.outcome(), "reset 1 8");
  assert.deepEqual(setup.recorders.map(({ ends }) => ends.map(({ cause }) => cause)), [
    ["local"],
    [],
  ]);
  await stop(setup);
});

Deno.test("a peer that does not read is cut off", async () => {
  const setup = await limited({});
  setup.peer.send(headers(1, 5));
  await settle();
  setup.near.writeGate = new Promise(() => {});
  setup.streams[0]!.sendHeaders([[":status", "200"]], false);
  await settle();
  setup.clock.advance(61_000);
  await setup.connection.closed;
  assert.deepEqual(
    setup.recorders[0]!.ends.map(({ cause, message }) => [cause, message]),
    [["connection", "the peer does not read"]],
  );
  assert.equal(setup.clock.timers, 0);
});

Deno.test("a peer that does not read is not read from either", async () => {
  const setup = await limited({ maxOutboxBytes: 1000, pings: { burst: 1e6, perSecond: 0 } });
  const gate = Promise.withResolvers<void>();
  setup.near.writeGate = gate.promise;
  for (let i = 0; i < 50; i++) {
    setup.peer.send(repeat(100, () => frame(T.PING, 0, 0, new Uint8Array(8))));
    await settle(1);
  }
  assert.deepEqual(await setup.peer.receive(), []);
  setup.near.writeGate = undefined;
  gate.resolve();
  await settle();
  const answers = await setup.peer.receive();
  assert.equal(answers.filter(({ type }) => type === T.PING).length, 5000);
  await stop(setup);
});

Deno.test("output queued beyond the limit resets the stream that goes over it", async () => {
  const setup = await limited({ maxQueuedBytes: 1000 }, {}, { 4: 0 });
  setup.peer.send(headers(1, 5), headers(3, 5));
  await settle();
  for (const stream of setup.streams) {
    stream.sendHeaders([[":status", "200"]], false);
    stream.sendData([new Uint8Array(5000)], true);
  }
  // The first may be as large as it likes.
  assert.equal(await setup.peer.outcome(), "reset 3 11");
  assert.equal(setup.connection.activeStreams, 1);
  await stop(setup);
});

Deno.test("silence brings a PING, and no answer the end", async () => {
  const setup = await limited({}, { keepaliveIntervalMs: 30_000, keepaliveTimeoutMs: 5_000 });
  setup.clock.advance(30_000);
  const pings = (await setup.peer.receive()).filter(({ type }) => type === T.PING);
  assert.equal(pings.length, 1);
  setup.peer.send(frame(T.PING, F.ACK, 0, pings[0]!.payload));
  await settle();
  setup.clock.advance(6_000);
  assert.deepEqual(await setup.peer.receive(), []);
  setup.clock.advance(24_000);
  assert.equal((await setup.peer.receive()).length, 1);
  setup.clock.advance(5_000);
  await setup.connection.closed;
});

Deno.test("an idle connection is drained", async () => {
  const setup = await limited({}, { idleTimeoutMs: 60_000, keepaliveIntervalMs: 0 });
  setup.peer.send(headers(1, 5));
  await settle();
  setup.clock.advance(120_000);
  assert.equal((await setup.peer.receive()).length, 0);
  setup.streams[0]!.sendHeaders([[":status", "200"]], true);
  await setup.peer.receive();
  const frames = [];
  for (let i = 0; i < 62; i++) {
    setup.clock.advance(1000);
    frames.push(...await setup.peer.receive());
  }
  assert.deepEqual(frames.map(({ type }) => type), [T.GOAWAY, T.PING, T.GOAWAY]);
  await setup.connection.closed;
});

Deno.test("RateLimit gives its burst at once and its rate afterwards", () => {
  const limit = new RateLimit({ burst: 3, perSecond: 2 });
  assert.deepEqual([0, 0, 0, 0, 499, 500, 501, 1000].map((ms) => limit.take(ms)), [
    true,
    true,
    true,
    false,
    false,
    true,
    false,
    true,
  ]);
});

Deno.test("every limit has a default that admits something", () => {
  for (const [name, value] of Object.entries(DEFAULT_LIMITS)) {
    const least = typeof value === "number" ? value : Math.min(value.burst, value.perSecond);
    assert.ok(least > 0, name);
  }
});
