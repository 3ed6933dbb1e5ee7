import assert from "node:assert/strict";
import { sharedText } from "./shared_text.ts";

/** A text that takes a time, and a clock that moves only when it is made or waited for. */
function subject(costMs: number) {
  const world = { nowMs: 1000, costMs, made: 0, isBroken: false };
  const begun: number[] = [];
  const ask = sharedText(() => {
    begun.push(world.nowMs);
    world.nowMs += world.costMs;
    if (world.isBroken) return Promise.reject(new Error("broken"));
    return Promise.resolve(String(++world.made));
  }, {
    now: () => world.nowMs,
    sleep: (ms) => {
      const untilMs = world.nowMs + ms;
      return Promise.resolve().then(() => void (world.nowMs = Math.max(world.nowMs, untilMs)));
    },
  });
  return { world, begun, ask };
}

Deno.test("sharedText() makes one text for all who wait, begun after they asked", async () => {
  const { begun, ask } = subject(10);
  assert.equal(await ask(), "1");
  const waiting = Array.from({ length: 50 }, ask);
  assert.deepEqual(new Set(await Promise.all(waiting)), new Set(["2"]));
  assert.equal(await ask(), "3");
  // A quarter of the time.
  assert.deepEqual(begun, [1000, 1040, 1080]);
});

Deno.test("sharedText() lets nobody wait who comes seldom, or long for what is slow itself", async () => {
  const { world, begun, ask } = subject(10);
  await ask();
  world.nowMs += 15_000;
  await ask();
  world.costMs = 5000;
  world.nowMs += 15_000;
  await ask();
  await ask();
  assert.deepEqual(begun, [1000, 16_010, 31_020, 36_020]);
});

Deno.test("sharedText() goes on after a text that could not be made", async () => {
  const { world, ask } = subject(10);
  world.isBroken = true;
  await assert.rejects(ask(), /broken/);
  const waiting = [ask(), ask()];
  for (const one of waiting) await assert.rejects(one, /broken/);
  world.isBroken = false;
  assert.equal(await ask(), "1");
});
