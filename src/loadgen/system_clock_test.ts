import assert from "node:assert/strict";
import { systemClock } from "./system_clock.ts";

Deno.test("systemClock sleeps through times that no timer can be set to, until it is told to end", async () => {
  const end = new AbortController();
  let isOver = false;
  // A timer set to more than 2^31 - 1 ms goes off at once.
  const sleep = systemClock.sleep(2 ** 31 + 5, end.signal).then(() => isOver = true);
  await systemClock.sleep(20, new AbortController().signal);
  assert.equal(isOver, false);
  end.abort();
  await sleep;
  await systemClock.sleep(1e12, end.signal);
  await systemClock.sleep(-1, new AbortController().signal);
});
