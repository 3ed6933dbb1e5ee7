import assert from "node:assert/strict";
import { InternalError, ResourceExhaustedError } from "../../errors.ts";
import { joinMessage, type Message } from "../handler.ts";
import { BufferPool, type Loan } from "../buffer_pool.ts";
import { messagePrefix, MessageReader } from "./message_reader.ts";

function bytesOf(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + seed * 13 + (index >> 8)) & 255);
}

/** The wire form, written here independently of `messagePrefix`. */
function wire(...messages: Uint8Array[]): Uint8Array {
  const total = messages.reduce((sum, message) => sum + 5 + message.length, 0);
  const out = new Uint8Array(total);
  let at = 0;
  for (const message of messages) {
    new DataView(out.buffer).setUint32(at + 1, message.length);
    out.set(message, at + 5);
    at += 5 + message.length;
  }
  return out;
}

/** Feeds `bytes` in pieces, each in a read buffer that is overwritten unless it was kept. */
function feed(
  reader: MessageReader,
  bytes: Uint8Array,
  nextSize: () => number,
): { messages: Message[]; flags: boolean[]; loans: (Loan | undefined)[]; keptBuffers: number } {
  const messages: Message[] = [];
  const loans: (Loan | undefined)[] = [];
  const flags: boolean[] = [];
  let keptBuffers = 0;
  for (let at = 0; at < bytes.length;) {
    const piece = bytes.slice(at, at + nextSize());
    at += piece.length;
    const isKept = reader.read(piece, {
      onMessage(message, isCompressed, loan) {
        messages.push(message);
        loans.push(loan);
        flags.push(isCompressed);
      },
    });
    if (isKept) keptBuffers++;
    else piece.fill(0xee);
  }
  return { messages, flags, loans, keptBuffers };
}

Deno.test("MessageReader cuts messages out of any split", () => {
  const originals = [0, 1, 4, 5, 3000, 16_384, 16_385, 40_000, 0, 200_000, 7].map(bytesOf);
  const bytes = wire(...originals);
  let seed = 99;
  const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
  const splits: (() => number)[] = [
    () => bytes.length,
    () => 1,
    () => 5,
    () => 6,
    () => 4096,
    () => 16_384,
    () => 65_536,
    ...Array.from({ length: 40 }, () => () => 1 + Math.floor(random() ** 4 * 30_000)),
  ];
  const pool = new BufferPool({ isPoisoning: true });
  for (const split of splits) {
    for (const memory of [undefined, pool]) {
      const reader = new MessageReader(1 << 20, memory);
      const { messages, loans } = feed(reader, bytes, split);
      assert.equal(messages.length, originals.length);
      messages.forEach((message, index) =>
        assert.deepEqual(joinMessage(message), originals[index], `message ${index}`)
      );
      assert.ok(reader.isBetweenMessages);
      for (const loan of loans) loan?.release();
    }
  }
  assert.ok(pool.idleBytes > 0);
});

Deno.test("MessageReader puts large messages together in lent memory, whose end is aligned", () => {
  const pool = new BufferPool({ isPoisoning: true });
  const originals = [16_384, 16_385, 100_001, 1_000_064].map(bytesOf);
  for (let round = 0; round < 2; round++) {
    const { messages, loans, keptBuffers } = feed(
      new MessageReader(1 << 20, pool),
      wire(...originals),
      () => 16_393,
    );
    // Of a message of 1 MB, what came before memory was made for it.
    assert.ok(keptBuffers <= (round === 0 ? 8 : 0), `${keptBuffers} read buffers were kept`);
    assert.deepEqual(loans.map((loan) => loan !== undefined), [false, true, true, true]);
    for (const [index, [chunk]] of messages.entries()) {
      assert.deepEqual(chunk, originals[index]);
      const loan = loans[index];
      if (loan === undefined) continue;
      assert.equal(messages[index]!.length, 1);
      assert.equal(chunk!.buffer, loan.memory.buffer);
      assert.equal((chunk!.byteOffset - loan.memory.byteOffset + chunk!.length) % 64, 0);
      loan.release();
      assert.ok(chunk!.every((byte) => byte === 0xa5));
    }
  }
});

Deno.test("MessageReader borrows neither for compressed messages nor for very large ones", () => {
  const pool = new BufferPool();
  for (const bytes of [20_000, (32 << 20) + 1]) pool.take(bytes)?.release();
  const compressed = wire(bytesOf(20_000, 1));
  compressed[0] = 1;
  assert.deepEqual(feed(new MessageReader(1 << 20, pool), compressed, () => 5000).loans, [
    undefined,
  ]);
  const huge = wire(new Uint8Array((32 << 20) + 1));
  assert.deepEqual(feed(new MessageReader(1 << 30, pool), huge, () => 1 << 18).loans, [undefined]);
});

Deno.test("MessageReader.close() gives back what was lent for a message in progress", () => {
  const pool = new BufferPool();
  const reader = new MessageReader(1 << 20, pool);
  const sink = { onMessage: () => assert.fail("no message") };
  reader.read(wire(bytesOf(100_000, 1)).subarray(0, 50_000), sink);
  assert.equal(pool.idleBytes, 0);
  reader.close();
  assert.ok(pool.idleBytes >= 100_000);
  reader.close();
  assert.ok(pool.idleBytes < 200_000);
});

Deno.test("MessageReader copies small messages into one exact chunk and keeps slices of large ones", () => {
  const small = new MessageReader(1 << 20);
  const few = feed(small, wire(bytesOf(3000, 1), bytesOf(16_384, 2)), () => 7000);
  assert.equal(few.keptBuffers, 0);
  for (const message of few.messages) {
    assert.equal(message.length, 1);
    assert.equal(message[0]!.buffer.byteLength, message[0]!.length);
  }
  const large = new MessageReader(1 << 20);
  const many = feed(large, wire(bytesOf(1_000_000, 3)), () => 65_536);
  assert.equal(many.keptBuffers, 16);
  assert.equal(many.messages[0]!.length, 16);
});

Deno.test("MessageReader does not hold a read buffer for a few bytes of it", () => {
  const reader = new MessageReader(1 << 30);
  const readBuffer = 256 * 1024;
  let held = 0;
  let sent = 0;
  const sink = { onMessage() {} };
  reader.read(messagePrefix(100_000_000, false), sink);
  for (let index = 0; index < 4000; index++) {
    // The worst a sender can do: every frame just large enough to be a slice, alone in its buffer.
    const chunk = new Uint8Array(readBuffer).subarray(0, 4096);
    sent += chunk.length;
    if (reader.read(chunk, sink)) held += readBuffer;
    assert.ok(held <= 4 * sent + 512 * 1024);
  }
});

Deno.test("MessageReader refuses by the prefix alone, before any body", () => {
  const sink = { onMessage: () => assert.fail("no message") };
  const huge = new Uint8Array([0, 255, 255, 255, 255]);
  assert.throws(() => new MessageReader(1000).read(huge, sink), ResourceExhaustedError);
  assert.throws(
    () => new MessageReader(1000).read(wire(new Uint8Array(1001)), sink),
    /1001 bytes is over the limit of 1000/,
  );
  assert.throws(
    () => new MessageReader(10).read(new Uint8Array([2, 0, 0, 0, 0]), sink),
    InternalError,
  );
  let count = 0;
  new MessageReader(1000).read(wire(new Uint8Array(1000)), { onMessage: () => count++ });
  assert.equal(count, 1);
});

Deno.test("MessageReader allocates for what has come, not for what a prefix promises", () => {
  const before = Deno.memoryUsage().external;
  let lentBytes = 0;
  const pool = new BufferPool({
    allocate: (bytes) => {
      lentBytes += bytes;
      return new Uint8Array(bytes);
    },
  });
  const prefixes = [[255, 255, 255, 255], [1, 0, 0, 0], [0, 64, 0, 0]];
  const readers = Array.from({ length: 99 }, (_, index) => {
    const reader = new MessageReader(0xffffffff, pool);
    reader.read(new Uint8Array([0, ...prefixes[index % 3]!, 1, 2, 3]), { onMessage() {} });
    return reader;
  });
  assert.ok(Deno.memoryUsage().external - before < 16 << 20);
  assert.equal(lentBytes, 0);
  assert.ok(readers.every((reader) => !reader.isBetweenMessages));
});

Deno.test("MessageReader passes the compressed flag on", () => {
  const bytes = wire(bytesOf(3, 1), bytesOf(4, 2));
  bytes[0] = 1;
  assert.deepEqual(feed(new MessageReader(100), bytes, () => 3).flags, [true, false]);
});

Deno.test("messagePrefix() writes flag and big-endian length", () => {
  assert.deepEqual([...messagePrefix(0x01020304, true)], [1, 1, 2, 3, 4]);
  assert.deepEqual([...messagePrefix(0xfffffffe, false)], [0, 255, 255, 255, 254]);
});
