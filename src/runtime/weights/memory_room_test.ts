import assert from "node:assert/strict";
import { ResourceExhaustedError } from "../../errors.ts";
import { MemoryRoom } from "./memory_room.ts";

const MiB = 2 ** 20;

Deno.test("MemoryRoom refuses what does not fit beside what is in use, with the figures", async () => {
  const room = new MemoryRoom({
    limitBytes: 100 * MiB,
    from: "0.9 of the control group's",
    usedBytes: () => 70 * MiB,
  });
  using _fits = await room.claim("a", 30 * MiB);
  _fits[Symbol.dispose]();
  await assert.rejects(room.claim("b", 30 * MiB + 1), (error) => {
    assert.ok(error instanceof ResourceExhaustedError);
    assert.equal(
      error.message,
      'The weights of model "b" take 30.0 MiB of memory, and 30.0 MiB are left of 100.0 MiB ' +
        "(0.9 of the control group's); give the container more, or serve fewer models",
    );
    return true;
  });
  using _beside = await room.claim("c", 20 * MiB, 10 * MiB);
  _beside[Symbol.dispose]();
  await assert.rejects(
    room.claim("d", 20 * MiB, 11 * MiB),
    /take 20\.0 MiB of memory, 11\.0 MiB more to bring them in and for dispatches, and 30\.0 MiB are left/,
  );
});

Deno.test("MemoryRoom has those wait who may fit once it shows what the others have taken", async () => {
  let used = 0;
  const room = new MemoryRoom({ limitBytes: 100, from: "the test", usedBytes: () => used });
  const first = await room.claim("a", 60);
  // Half of it is there, and counted twice for now.
  used = 30;
  let isIn = false;
  const second = room.claim("b", 40).then((claim) => {
    isIn = true;
    return claim;
  });
  await Promise.resolve();
  assert.equal(isIn, false);
  used = 60;
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  using _held = await second;
  const third = room.claim("c", 1);
  used = 100;
  _held[Symbol.dispose]();
  await assert.rejects(third, ResourceExhaustedError);
});

Deno.test("MemoryRoom refuses nobody where it cannot be told what is in use", async () => {
  const room = new MemoryRoom({ limitBytes: 100, from: "the test", usedBytes: () => undefined });
  using _claim = await room.claim("a", 100);
});

Deno.test("MemoryRoom has what is in use for nothing given back before it refuses", async () => {
  let used = 90;
  const room = new MemoryRoom({
    limitBytes: 100,
    from: "the test",
    usedBytes: () => used,
    release: () => {
      used -= 30;
      return Promise.resolve();
    },
  });
  using _small = await room.claim("a", 10);
  assert.equal(used, 90);
  using _large = await room.claim("b", 30);
  assert.equal(used, 60);
  _small[Symbol.dispose]();
  _large[Symbol.dispose]();
  await assert.rejects(room.claim("c", 90), ResourceExhaustedError);
  assert.equal(used, 30);
});
