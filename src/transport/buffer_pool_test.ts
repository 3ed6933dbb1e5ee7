import assert from "node:assert/strict";
import { BufferPool, type Loan } from "./buffer_pool.ts";

const MIB = 1 << 20;

Deno.test("BufferPool.take() gives the same memory again to whoever comes next, to one at a time", () => {
  const pool = new BufferPool();
  const first = pool.take(MIB)!;
  const second = pool.take(MIB)!;
  assert.notEqual(first.memory.buffer, second.memory.buffer);
  const { memory } = first;
  first.release();
  assert.equal(pool.idleBytes, memory.length);
  assert.equal(pool.take(MIB)!.memory, memory);
  assert.equal(pool.idleBytes, 0);
});

Deno.test("BufferPool.take() lends at least what was asked for and at most a quarter more", () => {
  const pool = new BufferPool();
  for (let length = 16 * 1024; length <= 32 * MIB; length = Math.ceil(length * 1.07)) {
    for (const asked of [length, length + 1]) {
      const lent = pool.take(asked);
      if (asked > 32 * MIB) assert.equal(lent, undefined);
      else {
        assert.ok(lent!.memory.length >= asked && lent!.memory.length <= 1.25 * asked, `${asked}`);
      }
    }
  }
  for (const length of [0, 16 * 1024 - 1, 32 * MIB + 1]) assert.equal(pool.take(length), undefined);
});

Deno.test("BufferPool.takeIdle() makes no memory", () => {
  const pool = new BufferPool();
  assert.equal(pool.takeIdle(MIB), undefined);
  pool.take(MIB)!.release();
  const lent = pool.takeIdle(MIB);
  assert.ok(lent !== undefined);
  assert.equal(pool.takeIdle(MIB), undefined);
});

Deno.test("a loan is given back once, and its memory is not to be had through it afterwards", () => {
  const pool = new BufferPool();
  const loan = pool.take(MIB)!;
  loan.release();
  const next = pool.take(MIB)!;
  loan.release();
  assert.equal(pool.idleBytes, 0);
  assert.throws(() => loan.memory, /given back/);
  assert.equal(next.memory.length, MIB);
});

Deno.test("BufferPool keeps no more than it may, and what was used last", () => {
  const pool = new BufferPool({ maxIdleBytes: 4 * MIB });
  const lend = (count: number, bytes: number) =>
    Array.from({ length: count }, () => pool.take(bytes)!);
  const release = (loans: Loan[]) => loans.forEach((loan) => loan.release());
  release(lend(3, 512 * 1024));
  release(lend(3, MIB));
  assert.equal(pool.idleBytes, 4 * MIB);
  // Of the smaller ones, which were used longest ago, one has gone.
  lend(3, 512 * 1024);
  assert.equal(pool.idleBytes, 3 * MIB);
  release(lend(1, 8 * MIB));
  assert.equal(pool.idleBytes, 3 * MIB);
});

Deno.test("memory that was handed to another thread is not kept", () => {
  const pool = new BufferPool();
  const loan = pool.take(MIB)!;
  structuredClone(loan.memory, { transfer: [loan.memory.buffer] });
  loan.release();
  assert.equal(pool.idleBytes, 0);
});

Deno.test("a poisoning BufferPool shows who reads or writes what was given back", () => {
  const pool = new BufferPool({ isPoisoning: true });
  const loan = pool.take(MIB)!;
  const { memory } = loan;
  memory.fill(7);
  loan.release();
  assert.ok(memory.every((byte) => byte === 0xa5));
  memory[1000] = 1;
  assert.throws(() => pool.take(MIB), /written to at 1000 after its release/);
});
