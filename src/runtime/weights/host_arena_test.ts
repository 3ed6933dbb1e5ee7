import assert from "node:assert/strict";
import { HostArena } from "./host_arena.ts";

Deno.test("HostArena gives blocks that were given back to the next of about that size", async () => {
  using arena = new HostArena({ limitBytes: 10_000 });
  const [a, b] = [await arena.take(4000), await arena.take(3000)];
  assert.equal(arena.usedBytes, 7000);
  arena.give(a);
  arena.give(b);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [0, 7000]);
  assert.equal(await arena.take(2900), b, "the smallest that is large enough");
  assert.equal(await arena.take(3500), a);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [7000, 0]);
});

Deno.test("HostArena gives free blocks back to the system before it takes more than its limit", async () => {
  using arena = new HostArena({ limitBytes: 10_000 });
  for (const bytes of [1000, 2000, 3000]) arena.give(await arena.take(bytes));
  assert.equal(arena.freeBytes, 6000);
  const large = await arena.take(7500);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [7500, 0]);
  const beyond = await arena.take(5000);
  assert.equal(arena.usedBytes, 12_500, "who asks is served: the budget is kept elsewhere");
  arena.give(large);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [5000, 0], "too large to be kept");
  arena.give(beyond);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [0, 5000]);
  const empty = await arena.take(0);
  assert.equal(empty.byteLength, 0);
  arena.give(empty);
});

Deno.test("HostArena waits for a block on its way back rather than to take more than its limit", async () => {
  using arena = new HostArena({ limitBytes: 10_000 });
  const [a, b] = [await arena.take(5000), await arena.take(5000)];
  const released = Promise.withResolvers<void>();
  arena.giveWhen(a, released.promise);
  const waiting = arena.take(4500);
  released.resolve();
  assert.equal(await waiting, a);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [10_000, 0]);
  arena.giveWhen(a, Promise.reject(new Error("lost")));
  const fresh = await arena.take(5000);
  assert.ok(fresh !== a && fresh !== b, "one that was lost is not given to anyone");
});

Deno.test("HostArena gives blocks back to the system that nobody wanted for a while", async () => {
  using arena = new HostArena({ limitBytes: 10_000, keepMs: 20 });
  const [used, ...others] = [await arena.take(4000), await arena.take(3000), await arena.take(500)];
  for (const block of others) arena.give(block);
  assert.equal(arena.freeBytes, 3500);
  while (arena.freeBytes > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.equal(arena.usedBytes, 4000);
  arena.give(used);
  assert.equal(await arena.take(4000), used, "wanted again in time");
});

Deno.test("a disposed HostArena keeps nothing, also not what comes back later", async () => {
  const arena = new HostArena({ limitBytes: 10_000 });
  const [early, late] = [await arena.take(4000), await arena.take(3000)];
  arena.give(early);
  arena[Symbol.dispose]();
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [3000, 0]);
  arena.give(late);
  assert.deepEqual([arena.usedBytes, arena.freeBytes], [0, 0]);
});
