import assert from "node:assert/strict";
import { SharedPool } from "./shared_pool.ts";

Deno.test("acquire() makes a value once, also for those who come while it is made", async () => {
  const freed: string[] = [];
  const pool = new SharedPool<string>((value) => freed.push(value));
  const made = Promise.withResolvers<string>();
  const first = pool.acquire("k", () => made.promise);
  const second = pool.acquire("k", () => Promise.reject(new Error("made twice")));
  made.resolve("program");
  const shares = await Promise.all([first, second]);
  assert.deepEqual(shares.map(({ value, isReused }) => [value, isReused]), [
    ["program", false],
    ["program", true],
  ]);
  shares[0]![Symbol.dispose]();
  shares[0]![Symbol.dispose]();
  assert.deepEqual([freed, pool.size], [[], 1]);
  shares[1]![Symbol.dispose]();
  assert.deepEqual([freed, pool.size], [["program"], 0]);
  using again = await pool.acquire("k", () => Promise.resolve("new"));
  assert.deepEqual([again.value, again.isReused], ["new", false]);
});

Deno.test("acquire() keeps nothing of a value that could not be made", async () => {
  const pool = new SharedPool<string>(() => assert.fail("there is nothing to free"));
  const failing = [1, 2].map(() => pool.acquire("k", () => Promise.reject(new Error("no memory"))));
  for (const one of failing) await assert.rejects(one, /no memory/);
  assert.equal(pool.size, 0);
});
