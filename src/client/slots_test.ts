import assert from "node:assert/strict";
import { CancelledError, DeadlineExceededError, InvalidArgumentError } from "../errors.ts";
import { SlotAllocator, type SlotRun } from "./slots.ts";

function release(run: SlotRun): void {
  run[Symbol.dispose]();
}

Deno.test("acquire() gives disjoint runs of neighbours", async () => {
  const slots = new SlotAllocator(4);
  const [a, b, c] = [await slots.acquire(), await slots.acquire(2), await slots.acquire()];
  assert.deepEqual([a.first, b.first, c.first], [0, 1, 3]);
  release(b);
  assert.equal((await slots.acquire(2)).first, 1);
});

Deno.test("a large run is not passed by small ones that came later", async () => {
  const slots = new SlotAllocator(3);
  const first = await slots.acquire();
  const order: string[] = [];
  const large = slots.acquire(3).then((run) => (order.push("large"), run));
  const small = slots.acquire(1).then((run) => (order.push("small"), run));
  await Promise.resolve();
  // Two slots are free, but whoever wants three came first.
  assert.equal(slots.waiting, 2);
  release(first);
  release(await large);
  release(await small);
  assert.deepEqual(order, ["large", "small"]);
  assert.equal(slots.waiting, 0);
});

Deno.test("a run that can never be had fails at once, and so does a second release", async () => {
  const slots = new SlotAllocator(2);
  for (const count of [0, -1, 1.5, 3]) {
    assert.throws(() => slots.acquire(count), InvalidArgumentError, String(count));
  }
  const run = await slots.acquire();
  release(run);
  assert.throws(() => release(run), /Slots 0 to 0 are free already/);
});

Deno.test("whoever stops waiting leaves the line, and whoever waited behind goes on", async () => {
  const slots = new SlotAllocator(2);
  const held = await slots.acquire();
  const cancel = new AbortController();
  const cancelled = slots.acquire(2, { signal: cancel.signal });
  const late = slots.acquire(2, { deadlineMs: performance.now() + 5 });
  const small = slots.acquire(1);
  assert.equal(slots.waiting, 3);
  cancel.abort();
  await assert.rejects(cancelled, CancelledError);
  await assert.rejects(late, DeadlineExceededError);
  const run = await small;
  assert.equal(run.first, 1);
  assert.equal(slots.waiting, 0);
  release(run);
  release(held);
  // With the time over or the signal given, what is free is still had.
  const limits = { deadlineMs: 0, signal: cancel.signal };
  release(await slots.acquire(2, limits));
});
