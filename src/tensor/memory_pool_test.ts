import assert from "node:assert/strict";
import { MemoryPool } from "./memory_pool.ts";

const MIB = 1 << 20;

Deno.test("MemoryPool gives memory of the same length out again, to one user at a time", () => {
  const pool = new MemoryPool();
  const first = pool.take(MIB);
  const second = pool.take(MIB);
  assert.notEqual(first.buffer, second.buffer);
  pool.giveBack(first);
  assert.equal(pool.take(2 * MIB).buffer === first.buffer, false);
  assert.equal(pool.take(MIB).buffer, first.buffer);
  assert.equal(pool.take(MIB).buffer === first.buffer, false);
  assert.equal(pool.idleBytes, 0);
});

Deno.test("MemoryPool keeps a bounded amount, the most recent, and nothing small or detached", () => {
  const pool = new MemoryPool({ fromBytes: 65_536 });
  const memories = Array.from({ length: 20 }, () => pool.take(5 * MIB));
  for (const memory of memories) pool.giveBack(memory);
  assert.equal(pool.idleBytes, 60 * MIB);
  assert.equal(pool.take(5 * MIB).buffer, memories.at(-1)!.buffer);
  const before = pool.idleBytes;
  pool.giveBack(pool.take(1000));
  const detached = pool.take(3 * MIB);
  structuredClone(detached, { transfer: [detached.buffer] });
  pool.giveBack(detached);
  pool.giveBack(pool.take(100 * MIB));
  assert.equal(pool.idleBytes, before);
});

Deno.test("MemoryPool keeps so many pieces at most", () => {
  const pool = new MemoryPool({ maxPieces: 2 });
  const pieces = [1, 2, 3].map((length) => pool.take(length));
  for (const piece of pieces) pool.giveBack(piece);
  assert.equal(pool.idleBytes, 5);
  assert.notEqual(pool.take(1), pieces[0]);
  assert.equal(pool.take(2), pieces[1]);
  assert.equal(pool.take(3), pieces[2]);
});
