import assert from "node:assert/strict";
import { keepHeapSmall } from "./garbage.ts";

const MIB = 2 ** 20;

/** A heap of which the test says what is alive and what is not. */
function heap(alive: number) {
  const state = { alive, garbage: 0, ms: 0, collections: 0 };
  const look = keepHeapSmall({
    usedBytes: () => state.alive + state.garbage,
    collect: () => {
      state.garbage = 0;
      state.collections++;
    },
    now: () => state.ms,
  });
  return { state, look };
}

Deno.test("keepHeapSmall() bounds the garbage, however slowly it comes", () => {
  const { state, look } = heap(6 * MIB);
  let most = 0;
  for (let call = 0; call < 100_000; call++) {
    state.garbage += 1024;
    state.ms += 50;
    look();
    most = Math.max(most, state.garbage);
  }
  assert.ok(most <= 2 * MIB, `${most} bytes of garbage`);
  assert.equal(state.collections, Math.floor(100_000 / 2048));
});

Deno.test("keepHeapSmall() collects rarely where much is alive or garbage comes fast", () => {
  const { state, look } = heap(200 * MIB);
  state.garbage = 49 * MIB;
  look();
  assert.equal(state.collections, 0);
  state.garbage = 50 * MIB;
  look();
  assert.equal(state.collections, 1);
  for (state.ms = 1000; state.ms < 200_000; state.ms += 1000) {
    state.garbage += 100 * MIB;
    look();
  }
  assert.equal(state.collections, 1);
  state.ms = 200_000;
  look();
  assert.equal(state.collections, 2);
});

Deno.test("keepHeapSmall() takes what a collection leaves as alive", () => {
  const { state, look } = heap(8 * MIB);
  state.alive = 40 * MIB;
  look();
  assert.equal(state.collections, 1);
  state.garbage = 9 * MIB;
  state.ms = 60_000;
  look();
  assert.equal(state.collections, 1);
  state.garbage = 10 * MIB;
  look();
  assert.equal(state.collections, 2);
});
