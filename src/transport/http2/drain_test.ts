import assert from "node:assert/strict";
import { connectHttp2 } from "./accept.ts";
import {
  F,
  frame,
  hex,
  makePipe,
  ManualClock,
  RawPeer,
  Recorder,
  REQUEST_BLOCK,
  settingsPayload,
  settle,
  T,
  uint32,
} from "./test_support.ts";
import { request, serve } from "./test_served.ts";

const GET = [[":method", "GET"], [":scheme", "http"], [":path", "/"]] as const;

async function connect(settings: Record<number, number> = {}) {
  const [near] = makePipe();
  const clock = new ManualClock();
  let changes = 0;
  const connection = connectHttp2(near, { clock, onAvailabilityChange: () => changes++ });
  const peer = new RawPeer(near);
  peer.send(frame(T.SETTINGS, 0, 0, settingsPayload(settings)), frame(T.SETTINGS, F.ACK, 0));
  await peer.receive();
  return { connection, peer, clock, near, changes: () => changes };
}

function goaway(lastStreamId: number, code: number): Uint8Array {
  return frame(T.GOAWAY, 0, 0, [...uint32(lastStreamId), ...uint32(code)]);
}

Deno.test("drain() serves what is on its way, refuses what comes after, and then closes", async () => {
  const { connection, peer, clock, streams, near } = await serve();
  peer.send(request(1));
  await settle();
  let isClosed = false;
  void connection.drain().then(() => isClosed = true);
  const [first, ping] = await peer.receive();
  assert.deepEqual([first!.type, ...first!.payload.slice(0, 8)], [
    T.GOAWAY,
    0x7f,
    0xff,
    0xff,
    0xff,
    0,
    0,
    0,
    0,
  ]);
  assert.equal(ping!.type, T.PING);
  // The client had sent this before it saw the GOAWAY.
  peer.send(request(3), frame(T.PING, F.ACK, 0, ping!.payload));
  const [second] = await peer.receive();
  assert.deepEqual([second!.type, second!.payload[3]], [T.GOAWAY, 3]);
  assert.equal(streams.length, 2);
  peer.send(
    request(5),
    frame(T.DATA, 0, 7, [1]),
    frame(T.WINDOW_UPDATE, 0, 5, uint32(1)),
    frame(T.RST_STREAM, 0, 5, uint32(8)),
  );
  assert.deepEqual(await peer.receive(), []);
  assert.equal(streams.length, 2);
  streams[0]!.sendHeaders([[":status", "200"]], true);
  await settle();
  assert.equal(isClosed, false);
  streams[1]!.sendHeaders([[":status", "200"]], true);
  assert.equal((await peer.receive()).length, 2);
  peer.end();
  await connection.closed;
  await settle();
  assert.equal(isClosed, true);
  assert.equal(near.isClosed, true);
  assert.equal(clock.timers, 0);
});

Deno.test("drain() does not wait for a peer that answers no PING and does not close", async () => {
  const { connection, peer, clock, near } = await serve();
  void connection.drain();
  await peer.receive();
  clock.advance(1000);
  assert.deepEqual((await peer.receive()).map(({ type }) => type), [T.GOAWAY]);
  assert.equal(near.isClosed, false);
  clock.advance(1000);
  await connection.closed;
  assert.equal(near.isClosed, true);
});

Deno.test("drain() on a client opens no more, waits for answers, and closes", async () => {
  const { connection, peer, near } = await connect();
  const recorder = new Recorder();
  connection.open(GET, true, recorder);
  void connection.drain();
  assert.equal(connection.canOpen, false);
  assert.throws(() => connection.open(GET, true, new Recorder()), { status: "UNAVAILABLE" });
  peer.send(frame(T.HEADERS, 5, 1, [0x88]));
  await settle();
  assert.equal(recorder.hasEnded, true);
  peer.end();
  await connection.closed;
  assert.equal(near.isClosed, true);
});

Deno.test("GOAWAY ends the streams above its id as unprocessed and lets the others finish", async () => {
  const { connection, peer, changes } = await connect();
  const recorders = [1, 3, 5].map(() => {
    const recorder = new Recorder();
    connection.open(GET, true, recorder);
    return recorder;
  });
  await settle();
  const before = changes();
  peer.send(goaway(3, 0));
  await settle();
  assert.ok(changes() > before);
  assert.equal(connection.canOpen, false);
  assert.deepEqual(recorders.map(({ ends }) => ends), [[], [], [{
    code: 7,
    cause: "connection",
    unprocessed: true,
    message: "the peer is going away: NO_ERROR",
  }]]);
  peer.send(frame(T.HEADERS, 5, 1, [0x88]), frame(T.HEADERS, 5, 3, [0x88]));
  await settle();
  assert.deepEqual(recorders.map(({ hasEnded }) => hasEnded), [true, true, false]);
  peer.end();
  await connection.closed;
});

Deno.test("a lost connection tells which streams were certainly not processed", async () => {
  const { connection, peer, near } = await connect();
  const sent = new Recorder();
  connection.open(GET, true, sent);
  await peer.receive();
  near.writeGate = new Promise(() => {});
  const stuck = new Recorder();
  connection.open(GET, true, stuck);
  await settle();
  const waiting = new Recorder();
  connection.open(GET, true, waiting);
  await settle();
  peer.end();
  await connection.closed;
  await settle();
  assert.deepEqual(
    [sent, stuck, waiting].map(({ ends }) => ends.map((end) => [end.cause, end.unprocessed])),
    [[["connection", false]], [["connection", false]], [["connection", true]]],
  );
});

Deno.test("REFUSED_STREAM marks a stream as unprocessed, another reset does not", async () => {
  const { connection, peer } = await connect();
  const recorders = [1, 3].map(() => {
    const recorder = new Recorder();
    connection.open(GET, true, recorder);
    return recorder;
  });
  peer.send(frame(T.RST_STREAM, 0, 1, uint32(7)), frame(T.RST_STREAM, 0, 3, uint32(8)));
  await settle();
  assert.deepEqual(
    recorders.map(({ ends }) => ends.map(({ code, unprocessed }) => [code, unprocessed])),
    [[[7, true]], [[8, false]]],
  );
  connection.destroy();
  await connection.closed;
});

Deno.test("canOpen follows the peer's limit, and 100 before it is known", async () => {
  const [near] = makePipe();
  const connection = connectHttp2(near, { clock: new ManualClock() });
  const peer = new RawPeer(near);
  while (connection.canOpen) connection.open(GET, true, new Recorder());
  assert.equal(connection.activeStreams, 100);
  peer.send(frame(T.SETTINGS, 0, 0, settingsPayload({ 3: 101 })));
  await settle();
  connection.open(GET, true, new Recorder());
  assert.equal(connection.canOpen, false);
  peer.send(frame(T.HEADERS, 5, 1, [0x88]));
  await settle();
  assert.equal(connection.canOpen, true);
  connection.destroy();
  assert.equal(connection.canOpen, false);
  await connection.closed;
});

Deno.test("destroy() tells every stream, later and once", async () => {
  const { connection, streams, recorders, peer, clock } = await serve();
  peer.send(request(1), request(3));
  await settle();
  connection.destroy("because");
  assert.equal(recorders[0]!.ends.length, 0);
  connection.destroy("again");
  await connection.closed;
  await settle();
  for (const { ends } of recorders) {
    assert.deepEqual(ends, [
      { code: 8, cause: "connection", unprocessed: false, message: "because" },
    ]);
  }
  assert.equal(streams[0]!.isClosed, true);
  assert.equal(clock.timers, 0);
});

Deno.test("destroy() from within a callback ends the parsing of what else has arrived", async () => {
  const { connection, recorders, peer, streams } = await serve();
  peer.send(frame(T.HEADERS, 4, 1, REQUEST_BLOCK));
  await settle();
  recorders[0]!.onChunk = () => {
    connection.destroy();
    return false;
  };
  peer.send(frame(T.DATA, 0, 1, [1]), frame(T.DATA, 0, 1, [2]), request(3));
  await connection.closed;
  await settle();
  assert.equal(recorders[0]!.bytes, 1);
  assert.equal(streams.length, 1);
  assert.equal(recorders[0]!.ends.length, 1);
});

Deno.test("a failed header list leaves the connection as it was", async () => {
  const { connection, peer } = await connect();
  assert.throws(() => connection.open([["Bad", "x"]], true, new Recorder()), {
    status: "INVALID_ARGUMENT",
  });
  assert.equal(connection.activeStreams, 0);
  const stream = connection.open(GET, true, new Recorder());
  assert.equal(stream.id, 1);
  const frames = await peer.receive();
  assert.deepEqual(frames.map(({ type, payload }) => [type, payload]), [
    [T.HEADERS, hex("82 86 84")],
  ]);
  connection.destroy();
  await connection.closed;
});
