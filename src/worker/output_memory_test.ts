import assert from "node:assert/strict";
import { BufferPool, type CallContext, type Loan } from "../transport/mod.ts";
import { OutputMemory } from "./output_memory.ts";

Deno.test("OutputMemory gives an output the same room again, and the call what it has lent", () => {
  const pool = new BufferPool();
  const memory = new OutputMemory(pool);
  const room = memory.get("scores", 100_000)!;
  assert.equal(room.length, 100_000);
  assert.equal(memory.get("scores", 100_000)!.buffer, room.buffer);
  assert.notEqual(memory.get("boxes", 100_000)!.buffer, room.buffer);
  assert.equal(memory.get("count", 4), undefined);
  const lent: Loan[] = [];
  memory.lendTo({ lend: (loan: Loan) => lent.push(loan) } as unknown as CallContext);
  assert.equal(lent.length, 2);
  assert.equal(pool.idleBytes, 0);
  for (const loan of lent) loan.release();
  assert.ok(pool.idleBytes >= 200_000);
});

Deno.test("OutputMemory gives nothing back where a call does not tell when its answer has left", () => {
  const pool = new BufferPool();
  const memory = new OutputMemory(pool);
  memory.get("scores", 100_000);
  memory.lendTo({} as CallContext);
  assert.equal(pool.idleBytes, 0);
});
