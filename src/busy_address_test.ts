import assert from "node:assert/strict";
import { isAddressInUse, whileBusy } from "./busy_address.ts";
import { UnavailableError } from "./errors.ts";

const inUse = () =>
  new UnavailableError("Cannot listen", { cause: new Deno.errors.AddrInUse("in use") });

/** Attempts of which the first `failures` fail; time passes in the waits alone. */
function attempts(failures: number, failure: () => Error = inUse) {
  const waits: number[] = [];
  const complaints: unknown[] = [];
  let nowMs = 0;
  let made = 0;
  return {
    waits,
    complaints,
    get made() {
      return made;
    },
    listen: () => {
      if (made++ < failures) throw failure();
      return "listening";
    },
    options: {
      seconds: 1,
      signal: new AbortController().signal,
      onBusy: (error: unknown) => void complaints.push(error),
      now: () => nowMs,
      sleep: (ms: number) => {
        waits.push(ms);
        nowMs += ms;
        return Promise.resolve();
      },
    },
  };
}

Deno.test("whileBusy() tries again while the address is in use, and says so once", async () => {
  const world = attempts(3);
  assert.equal(await whileBusy(world.listen, world.options), "listening");
  assert.deepEqual(world.waits, [250, 250, 250]);
  assert.equal(world.complaints.length, 1);
});

Deno.test("whileBusy() gives up with the last failure when time is up", async () => {
  const world = attempts(Infinity);
  await assert.rejects(whileBusy(world.listen, world.options), /Cannot listen/);
  assert.equal(world.made, 5);
});

Deno.test("whileBusy() makes one attempt when it is not to wait", async () => {
  const world = attempts(Infinity);
  await assert.rejects(whileBusy(world.listen, { ...world.options, seconds: 0 }));
  assert.deepEqual([world.made, world.complaints.length], [1, 0]);
});

Deno.test("whileBusy() does not wait for what will not change", async () => {
  const world = attempts(Infinity, () => new Deno.errors.PermissionDenied("port 80"));
  await assert.rejects(whileBusy(world.listen, world.options), /port 80/);
  assert.equal(world.made, 1);
});

Deno.test("whileBusy() ends with its signal", async () => {
  const stop = new AbortController();
  const world = attempts(Infinity);
  const sleep = () => Promise.resolve(stop.abort());
  await assert.rejects(
    whileBusy(world.listen, { ...world.options, signal: stop.signal, sleep }),
    /Cannot listen/,
  );
  assert.equal(world.made, 2);
});

Deno.test("isAddressInUse() is false for anything else", () => {
  for (const other of [undefined, "in use", new Error("refused"), new TypeError()]) {
    assert.equal(isAddressInUse(other), false);
  }
});
