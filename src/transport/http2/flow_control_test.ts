import assert from "node:assert/strict";
import type { Http2Connection } from "./types.ts";
import { connectHttp2 } from "./accept.ts";
import { ReceiveWindow, SendWindow } from "./flow_control.ts";
import type { Http2Options } from "./options.ts";
import {
  concat,
  F,
  frame,
  makePipe,
  ManualClock,
  type ParsedFrame,
  RawPeer,
  Recorder,
  settingsPayload,
  settle,
  T,
  uint32,
} from "./test_support.ts";
import { request, serve } from "./test_served.ts";

/** Two streams, answered and open. */
async function serveTwo(settings: Record<number, number>, options: Http2Options = {}) {
  const served = await serve(options, settings);
  const { peer, streams } = served;
  peer.send(request(1, F.END_HEADERS), request(3, F.END_HEADERS));
  await peer.receive();
  for (const stream of streams) stream.sendHeaders([[":status", "200"]], false);
  await peer.receive();
  return served;
}

async function stop(connection: Http2Connection): Promise<void> {
  connection.destroy();
  await connection.closed;
}

function dataOf(frames: ParsedFrame[], streamId: number): Uint8Array {
  return concat(
    frames.filter((f) => f.type === T.DATA && f.streamId === streamId).map((f) => f.payload),
  );
}

function shapeOf(frames: ParsedFrame[]): number[][] {
  return frames.map(({ type, flags, streamId, payload }) => [
    type,
    flags,
    streamId,
    payload.length,
  ]);
}

function counting(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i % 251);
}

Deno.test("data waits for the stream's window, then for the connection's, and trailers for data", async () => {
  const { connection, peer, streams, recorders } = await serveTwo({ 4: 10 });
  const body = counting(30);
  assert.equal(streams[0]!.sendData([body.subarray(0, 7), body.subarray(7)], false), false);
  streams[0]!.sendHeaders([["x", "y"]], true);
  assert.deepEqual(shapeOf(await peer.receive()), [[T.DATA, 0, 1, 10]]);
  peer.send(frame(T.WINDOW_UPDATE, 0, 1, uint32(15)));
  assert.deepEqual(shapeOf(await peer.receive()), [[T.DATA, 0, 1, 15]]);
  assert.equal(recorders[0]!.drains, 0);
  peer.send(frame(T.WINDOW_UPDATE, 0, 1, uint32(15)));
  const last = await peer.receive();
  assert.deepEqual(last.map(({ type, flags }) => [type, flags]), [[T.DATA, 0], [T.HEADERS, 5]]);
  assert.deepEqual(dataOf(peer.frames, 1), body);
  assert.equal(recorders[0]!.drains, 1);
  await stop(connection);
});

Deno.test("the connection's window is shared out in turns", async () => {
  const { connection, peer, streams } = await serveTwo({ 4: 1 << 20 });
  streams[0]!.sendData([new Uint8Array(1 << 20)], true);
  streams[1]!.sendData([new Uint8Array(1 << 20)], true);
  const first = await peer.receive();
  assert.equal(dataOf(first, 1).length + dataOf(first, 3).length, 65_535);
  for (let i = 0; i < 8; i++) {
    peer.send(frame(T.WINDOW_UPDATE, 0, 0, uint32(250_000)));
    await peer.receive();
  }
  const shares = [1, 3].map((id) => dataOf(peer.frames, id).length);
  assert.equal(shares[0]! + shares[1]!, 65_535 + 8 * 250_000);
  assert.ok(Math.abs(shares[0]! - shares[1]!) <= 256 * 1024, shares.join());
  await stop(connection);
});

Deno.test("a smaller initial window makes windows negative, and they must be made good first", async () => {
  const { connection, peer, streams } = await serveTwo({ 4: 100 });
  streams[0]!.sendData([counting(200)], true);
  assert.deepEqual(shapeOf(await peer.receive()), [[T.DATA, 0, 1, 100]]);
  peer.send(frame(T.SETTINGS, 0, 0, settingsPayload({ 4: 30 }))); // now -70
  peer.send(frame(T.WINDOW_UPDATE, 0, 1, uint32(70)));
  assert.deepEqual(shapeOf(await peer.receive()), [[T.SETTINGS, F.ACK, 0, 0]]);
  peer.send(frame(T.WINDOW_UPDATE, 0, 1, uint32(1)));
  assert.deepEqual(shapeOf(await peer.receive()), [[T.DATA, 0, 1, 1]]);
  peer.send(frame(T.SETTINGS, 0, 0, settingsPayload({ 4: 1000 })));
  assert.deepEqual(shapeOf(await peer.receive()), [[T.SETTINGS, F.ACK, 0, 0], [T.DATA, 1, 1, 99]]);
  await stop(connection);
});

Deno.test("an empty DATA frame with END_STREAM needs no window", async () => {
  const { connection, peer, streams } = await serveTwo({ 4: 0 });
  assert.equal(streams[0]!.sendData([], true), true);
  assert.deepEqual(shapeOf(await peer.receive()), [[T.DATA, 1, 1, 0]]);
  await stop(connection);
});

Deno.test("a stream that is reset while its last data leaves hears of no room", async () => {
  const { connection, peer, streams, recorders, near } = await serveTwo({ 4: 10 });
  assert.equal(streams[0]!.sendData([new Uint8Array(20)], false), false);
  await peer.receive();
  const gate = Promise.withResolvers<void>();
  near.writeGate = gate.promise;
  peer.send(frame(T.WINDOW_UPDATE, 0, 1, uint32(10)));
  await settle();
  streams[0]!.reset(8);
  near.writeGate = undefined;
  gate.resolve();
  assert.deepEqual(shapeOf(await peer.receive()), [[T.DATA, 0, 1, 10], [T.RST_STREAM, 0, 1, 4]]);
  assert.equal(recorders[0]!.drains, 0);
  await stop(connection);
});

for (const size of [65_537, 262_144, 1 << 20]) {
  Deno.test(`trailers follow ${size} bytes that go out uncopied, and so does the drain`, async () => {
    const { connection, peer, streams, recorders } = await serveTwo({ 4: 1 << 30, 5: 1 << 20 });
    peer.send(frame(T.WINDOW_UPDATE, 0, 0, uint32(1 << 30)));
    await settle();
    const body = counting(size);
    assert.equal(streams[0]!.sendData([body], false), false);
    streams[0]!.sendHeaders([["x", "y"]], true);
    assert.equal(streams[1]!.sendData([body], size > 100_000), false);
    await peer.receive();
    for (const id of [1, 3]) assert.deepEqual(dataOf(peer.frames, id), body);
    const last = peer.frames.findLast(({ streamId }) => streamId === 1)!;
    assert.deepEqual([last.type, last.flags], [T.HEADERS, 5]);
    assert.deepEqual(recorders.map(({ drains }) => drains), [1, 1]);
    await stop(connection);
  });
}

Deno.test("a small answer overtakes a large one", async () => {
  const { connection, peer, streams } = await serveTwo({ 4: 1 << 30 });
  peer.send(frame(T.WINDOW_UPDATE, 0, 0, uint32(1 << 30)));
  await settle();
  streams[0]!.sendData([new Uint8Array(64 << 20)], true);
  streams[1]!.sendData([counting(10)], true);
  const frames = await peer.receive();
  const small = frames.findIndex(({ streamId }) => streamId === 3);
  const before = frames.slice(0, small).reduce((sum, { payload }) => sum + payload.length, 0);
  assert.ok(small >= 0 && before < 1 << 20, `${before} bytes went first`);
  await stop(connection);
});

for (const maxFrame of [16_384, 70_000, 16_777_215]) {
  Deno.test(`data of every size arrives whole in frames of at most ${maxFrame} bytes`, async () => {
    const { connection, peer, streams, recorders } = await serveTwo({ 4: 1 << 30, 5: maxFrame });
    peer.send(frame(T.WINDOW_UPDATE, 0, 0, uint32(1 << 30)));
    await settle();
    const sent: Uint8Array[] = [];
    for (const size of [1, 16_383, 16_385, 65_536, 70_001, 131_072, 300_000, 5, 1_000_000, 0, 3]) {
      // A prefix and two parts, as a gRPC message comes.
      const body = counting(size);
      const chunks = [
        Uint8Array.of(1, 2, 3, 4, 5),
        body.subarray(0, size >> 1),
        body.subarray(size >> 1),
      ];
      sent.push(...chunks);
      if (!streams[0]!.sendData(chunks, false)) {
        const drains = recorders[0]!.drains;
        while (recorders[0]!.drains === drains) await settle(1);
      }
    }
    streams[0]!.sendHeaders([["x", "y"]], true);
    await peer.receive();
    assert.deepEqual(dataOf(peer.frames, 1), concat(sent));
    const longest = Math.max(...peer.frames.map(({ payload }) => payload.length));
    assert.ok(longest <= maxFrame && longest >= Math.min(maxFrame, 65_536));
    await stop(connection);
  });
}

Deno.test("credit goes back when it is consumed, in steps, and at once for padding", async () => {
  const { connection, peer, streams } = await serveTwo({}, {
    streamWindowBytes: 100_000,
    connectionWindowBytes: 200_000,
  });
  peer.send(frame(T.DATA, 0, 1, new Uint8Array(60_000)));
  assert.deepEqual(await peer.receive(), []);
  streams[0]!.consume(24_999);
  assert.deepEqual(await peer.receive(), []);
  streams[0]!.consume(1);
  assert.deepEqual(await peer.receive(), [
    { type: T.WINDOW_UPDATE, flags: 0, streamId: 1, payload: uint32(25_000) },
  ]);
  // More than was received is not given back.
  streams[0]!.consume(1_000_000);
  assert.deepEqual(await peer.receive(), [
    { type: T.WINDOW_UPDATE, flags: 0, streamId: 0, payload: uint32(60_000) },
    { type: T.WINDOW_UPDATE, flags: 0, streamId: 1, payload: uint32(35_000) },
  ]);
  for (let i = 0; i < 98; i++) {
    peer.send(frame(T.DATA, F.PADDED, 1, concat([Uint8Array.of(255), new Uint8Array(255)])));
  }
  const updates = await peer.receive();
  assert.deepEqual(updates.map(({ streamId }) => streamId), [1]);
  await stop(connection);
});

Deno.test("a closed stream's unconsumed bytes go back to the connection", async () => {
  const { connection, peer, streams } = await serveTwo({}, {
    streamWindowBytes: 100_000,
    connectionWindowBytes: 100_000,
  });
  peer.send(frame(T.DATA, 0, 1, new Uint8Array(90_000)));
  await settle();
  streams[0]!.reset(8);
  // What was on its way when the stream was reset counts as well.
  peer.send(frame(T.DATA, 0, 1, new Uint8Array(10_000)));
  const frames = await peer.receive();
  assert.deepEqual(shapeOf(frames), [[T.RST_STREAM, 0, 1, 4], [T.WINDOW_UPDATE, 0, 0, 4]]);
  peer.send(frame(T.DATA, 0, 3, new Uint8Array(90_000)));
  assert.equal(await peer.outcome(), "ok");
  await stop(connection);
});

Deno.test("until its settings are acknowledged a small window counts as the default", async () => {
  const [near] = makePipe();
  const connection = connectHttp2(near, { clock: new ManualClock(), streamWindowBytes: 1000 });
  const peer = new RawPeer(near);
  const recorder = new Recorder();
  connection.open([[":method", "GET"], [":scheme", "http"], [":path", "/"]], true, recorder);
  peer.send(
    frame(T.SETTINGS, 0, 0),
    frame(T.HEADERS, 4, 1, [0x88]),
    frame(T.DATA, 0, 1, new Uint8Array(800)),
    frame(T.SETTINGS, F.ACK, 0),
    frame(T.DATA, 0, 1, new Uint8Array(200)),
  );
  assert.equal(await peer.outcome(), "ok");
  assert.equal(recorder.bytes, 1000);
  peer.send(frame(T.DATA, 0, 1, [1]));
  assert.equal(await peer.outcome(), "reset 1 3");
  await stop(connection);
});

Deno.test("SendWindow and ReceiveWindow keep to 2^31 - 1 and to their steps", () => {
  const send = new SendWindow(0);
  assert.equal(send.grow(0x7fffffff), true);
  assert.equal(send.grow(1), false);
  const receive = new ReceiveWindow(8);
  assert.equal(receive.receive(8), true);
  assert.equal(receive.release(1), 0);
  assert.equal(receive.release(1), 2);
  assert.equal(receive.receive(2), true);
  assert.equal(receive.receive(1), false);
});
