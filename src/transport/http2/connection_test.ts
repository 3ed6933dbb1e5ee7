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
  RESPONSE_BLOCK,
  settle,
  T,
  TRAILER_BLOCK,
  uint32,
} from "./test_support.ts";

const OPEN_FLAGS = F.END_HEADERS;
const END_FLAGS = F.END_HEADERS | F.END_STREAM;

Deno.test("acceptHttp2() announces its settings and a larger connection window", async () => {
  const server = await serve();
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
  const server = await serve();
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
  const server = await serve();
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
  const server = await serve();
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

Deno.test("streams over the limit are refused, and room is made when one ends", async () => {
  const server = await serve({ limits: { maxConcurrentStreams: 2 } });
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
  const server = await serve({ onError: (error) => errors.push(error) });
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
  const server = await serve({}, { 4: 10 });
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
