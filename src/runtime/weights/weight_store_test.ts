import assert from "node:assert/strict";
import { ResourceExhaustedError, UnavailableError } from "../../errors.ts";
import { Logger } from "../../log.ts";
import { MemoryRoom } from "./memory_room.ts";
import type { ModelWeights } from "./model_weights.ts";
import { dispatch, Fixture, TENSOR } from "./testing.ts";

Deno.test("WeightStore without a budget keeps everything on the device", async () => {
  await using fixture = new Fixture();
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b", { floor: "system" })];
  assert.deepEqual([a.isResident, b.isResident, b.isHostResident], [true, true, false]);
  assert.deepEqual([a.floor, b.floor], ["unpinned", "system"]);
  assert.equal(fixture.store.reading(), undefined);
  assert.deepEqual(await fixture.store.compact([a]), { reloaded: 0, residentBytes: 0 });
  assert.equal(fixture.buffers, 2);
});

Deno.test("WeightStore refuses weights that host memory has no room for; the others stay", async () => {
  await using fixture: Fixture = new Fixture({
    room: new MemoryRoom({
      // The last of them as it is brought in, twice.
      limitBytes: 3 * TENSOR,
      from: "the test",
      usedBytes: () => fixture.buffers * TENSOR,
    }),
  });
  const [a, b] = await Promise.all([fixture.attach("a"), fixture.attach("b")]);
  await assert.rejects(fixture.attach("c"), (error) => {
    assert.ok(error instanceof ResourceExhaustedError);
    assert.match(
      error.message,
      /^The weights of model "c" take 0\.0 MiB of memory, 0\.0 MiB more .*, and 0\.0 MiB are left/,
    );
    return true;
  });
  await dispatch(a);
  await dispatch(b);
  b[Symbol.dispose]();
  await assert.rejects(
    fixture.attach("e", { scratch: 1 }),
    /0\.0 MiB more to bring them in and for dispatches/,
  );
  assert.ok((await fixture.attach("d")).isResident);
});

Deno.test("WeightStore keeps no host copy that there is no room for, and reads the file instead", async () => {
  const warned: string[] = [];
  let used = 0;
  await using fixture = new Fixture({
    arenaBytes: 8 * TENSOR,
    room: new MemoryRoom({ limitBytes: TENSOR, from: "the test", usedBytes: () => used }),
    logger: new Logger({ write: (line) => warned.push(line), level: "warn", format: "text" }),
  });
  const a = await fixture.attach("a");
  used = TENSOR;
  const b = await fixture.attach("b");
  assert.deepEqual([a.isHostResident, b.isHostResident], [true, false]);
  await dispatch(b);
  assert.ok(b.isResident);
  assert.equal(warned.length, 1);
  assert.match(warned[0]!, /no host copy of weights is kept, every load reads the file.*model=b/);
});

Deno.test("WeightStore brings weights in when they are asked for, and lets the oldest go", async () => {
  await using fixture = new Fixture({ arenaBytes: 2 * TENSOR });
  const models = [];
  for (const name of ["a", "b", "c"]) models.push(await fixture.attach(name));
  const [a, b, c] = models as [ModelWeights, ModelWeights, ModelWeights];
  assert.equal(fixture.buffers, 0);
  assert.ok(a.isHostResident, "with a budget the host keeps a copy unless told otherwise");
  await dispatch(a);
  await dispatch(b);
  await dispatch(a);
  await dispatch(c);
  assert.deepEqual([a.isResident, b.isResident, c.isResident], [true, false, true]);
  const { loads, evictions, residentBytes, maxBytes } = fixture.store.reading()!;
  assert.deepEqual([loads, evictions, residentBytes, maxBytes], [3, 1, 2 * TENSOR, 2 * TENSOR]);
  assert.equal(fixture.buffers, 2);
});

Deno.test("WeightStore accounts for weights on the device and for what dispatches take besides", async () => {
  await using fixture = new Fixture({ arenaBytes: 4 * TENSOR });
  const { account } = fixture.store;
  const taken = () => [account.inUseBytes / TENSOR, account.peakBytes / TENSOR];
  const pinned = await fixture.attach("pinned", { floor: "device" });
  const [a, b] = [await fixture.attach("a", { tensors: 2 }), await fixture.attach("b")];
  assert.deepEqual(taken(), [1, 1]);
  const uses = [await pinned.use(3 * TENSOR), await a.use(5 * TENSOR)];
  assert.deepEqual(taken(), [11, 11]);
  for (const use of uses) {
    use[Symbol.dispose]();
    use[Symbol.dispose]();
  }
  assert.deepEqual(taken(), [3, 11]);
  // A load takes its place before it is done, and gives it back when it fails.
  const gate = fixture.backend.gate("upload");
  fixture.backend.failNext("upload", new Error("the cable is out"));
  const load = b.load();
  await gate.reached;
  assert.deepEqual(taken(), [4, 11]);
  gate.open();
  await assert.rejects(load, /cable/);
  assert.deepEqual(taken(), [3, 11]);
  await fixture.store.compact();
  assert.deepEqual(taken(), [1, 11]);
});

Deno.test("WeightStore loads once for everyone who asks at the same time", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const weights = await fixture.attach("a", { tensors: 3 });
  const gate = fixture.backend.gate("upload");
  assert.equal(weights.request(), false);
  assert.equal(weights.request(), false);
  const uses = [weights.use(), weights.use()];
  await gate.reached;
  assert.equal(weights.isResident, false, "half of it is nothing to run on");
  gate.open();
  for (const use of await Promise.all(uses)) {
    assert.equal(use.buffers.length, 3);
    use[Symbol.dispose]();
  }
  assert.equal(fixture.backend.calls.upload, 3);
  assert.equal(weights.request(), true);
  assert.equal(fixture.ready, 1);
});

Deno.test("WeightStore frees a load that fails, tells those who wait, and tries again for the next", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const weights = await fixture.attach("a", { tensors: 5 });
  fixture.backend.failNext("upload", new Error("the cable is out"));
  assert.equal(weights.request(), false);
  await assert.rejects(weights.load(), /cable/);
  assert.deepEqual(fixture.failures.map(([model, error]) => [model, String(error)]), [
    ["a", "Error: the cable is out"],
  ]);
  assert.deepEqual([fixture.buffers, fixture.store.reading()!.residentBytes], [0, 0]);
  await dispatch(weights);
  assert.equal(fixture.failures.length, 1);
});

Deno.test("WeightStore makes room and tries once more when the device has no memory", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const [idle, weights] = [await fixture.attach("idle"), await fixture.attach("a")];
  await dispatch(idle);
  const full = () => Object.assign(new Error("out of memory"), { code: "RESOURCE_EXHAUSTED" });
  fixture.backend.failNext("upload", full());
  await dispatch(weights);
  assert.deepEqual([idle.isResident, weights.isResident], [false, true]);
  await fixture.store.compact();
  fixture.backend.failNext("upload", full());
  fixture.backend.failNext("upload", full());
  await assert.rejects(async () => await dispatch(weights), /out of memory/);
  assert.equal(fixture.store.reading()!.residentBytes, 0);
});

Deno.test("WeightStore lets nothing go that is in use, or came for work that has not begun", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b")];
  const use = await a.use();
  assert.equal(b.request(), false);
  await Promise.resolve();
  assert.equal(a.isResident, true);
  fixture.wanted.add("b");
  use[Symbol.dispose]();
  await b.load();
  assert.deepEqual([a.isResident, b.isResident], [false, true]);
  assert.equal(a.request(), false, "work waits for b");
  await Promise.resolve();
  assert.equal(b.isResident, true);
  await dispatch(b);
  await a.load();
  assert.deepEqual([a.isResident, b.isResident], [true, false]);
  assert.deepEqual(fixture.failures, []);
});

Deno.test("WeightStore serves whom the device waits for before the others", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const [a, b, c] = [
    await fixture.attach("a"),
    await fixture.attach("b"),
    await fixture.attach("c"),
  ];
  fixture.wanted.add("a").add("b");
  await a.load();
  assert.equal(b.request(), false, "a has not run yet");
  await dispatch(c);
  assert.ok(!a.isResident, "nobody could have run a: the device waited for c");
  fixture.wanted.clear();
  await b.load();
});

Deno.test("WeightStore refuses what is larger than the budget, with the numbers", async () => {
  await using fixture = new Fixture({ arenaBytes: 100, wiggle: 0.5, fraction: 1 });
  await assert.rejects(
    fixture.attach("big", { tensors: 7 }),
    (error) => {
      assert.ok(error instanceof ResourceExhaustedError);
      assert.match(error.message, /"big" need 56 bytes .* more than the 50 .*arena 100/);
      return true;
    },
  );
  const late = await fixture.attach("late", { tensors: 6 });
  await fixture.attach("scratchy", { scratch: 10 });
  assert.equal(fixture.store.reading()!.maxBytes, 40);
  // While the scratchy one executes, another model's inputs may be on the device already.
  const mover = await fixture.attach("mover", { scratch: 7, staged: 5 });
  assert.equal(fixture.store.reading()!.maxBytes, 35);
  mover[Symbol.dispose]();
  assert.equal(fixture.store.reading()!.maxBytes, 40);
  late.request();
  await assert.rejects(late.load(), ResourceExhaustedError);
  assert.equal(fixture.failures.length, 1);
});

Deno.test("WeightStore takes pinned weights out of the budget, and gives it back with them", async () => {
  await using fixture = new Fixture({ arenaBytes: 4 * TENSOR });
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b")];
  await dispatch(a);
  await dispatch(b);
  const pinned = await fixture.attach("pinned", { floor: "device", tensors: 3 });
  assert.deepEqual([a.isResident, b.isResident, pinned.isResident], [false, true, true]);
  const { pinnedBytes, maxBytes, residentBytes, loads } = fixture.store.reading()!;
  assert.deepEqual([pinnedBytes, maxBytes, residentBytes, loads], [24, 8, 8, 2]);
  await dispatch(a);
  assert.ok(pinned.isResident);
  pinned[Symbol.dispose]();
  await dispatch(b);
  assert.deepEqual([a.isResident, b.isResident], [true, true]);
  assert.equal(fixture.store.reading()!.maxBytes, 32);
});

Deno.test("WeightStore follows whoever manages residency, and nothing else", async () => {
  await using fixture = new Fixture({ arenaBytes: 3 * TENSOR, isExternallyManaged: true });
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b", { tensors: 3 })];
  assert.equal(a.request(), true, "the dispatch is told why");
  assert.throws(() => a.use(), UnavailableError);
  assert.throws(() => a.checkServable(), /"a" are not on the device/);
  await a.measure(async () => {});
  await a.settle(fixture.store.isExternallyManaged);
  assert.equal(a.isResident, false, "warming up leaves nothing behind");
  await a.setFloor("device");
  await dispatch(a);
  await assert.rejects(b.setFloor("device"), (error) => {
    assert.match(String(error), /24 bytes .* 8 bytes are pinned already, of the 24/);
    return error instanceof ResourceExhaustedError;
  });
  assert.equal(b.floor, "system");
  const use = await a.use();
  const freed = a.setFloor("unpinned");
  assert.ok(a.isResident, "in use");
  use[Symbol.dispose]();
  await freed;
  assert.deepEqual([a.isResident, a.isHostResident], [false, false]);
  assert.equal((await fixture.store.compact([a, b])).reloaded, 0);
});

Deno.test("WeightStore.compact() frees what is not pinned and brings back what it is told to", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const names = ["a", "b", "pinned"] as const;
  const [a, b, pinned] = await Promise.all(
    names.map((name) => fixture.attach(name, { floor: name === "pinned" ? "device" : undefined })),
  ) as [ModelWeights, ModelWeights, ModelWeights];
  await dispatch(a);
  await dispatch(b);
  assert.deepEqual(await fixture.store.compact([b, pinned]), {
    reloaded: 1,
    residentBytes: TENSOR,
  });
  assert.deepEqual([a.isResident, b.isResident, pinned.isResident], [false, true, true]);
});

Deno.test("WeightStore.compact() waits for a load in progress and is not stopped by those in line", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b")];
  fixture.wanted.add("a").add("b");
  const gate = fixture.backend.gate("upload");
  a.request();
  b.request();
  await gate.reached;
  const compacted = fixture.store.compact([a]);
  gate.open();
  assert.equal((await compacted).residentBytes, TENSOR);
  fixture.wanted.clear();
  await b.load();
  assert.deepEqual([a.isResident, b.isResident], [false, true]);
});

Deno.test("WeightStore shares one set of weights between models that came from one file", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const weights = fixture.file("a");
  const [before, after] = [
    await fixture.attach("before", { weights, floor: "device" }),
    await fixture.attach("after", { weights }),
  ];
  assert.equal(fixture.buffers, 1);
  assert.equal(fixture.store.reading()!.pinnedBytes, TENSOR);
  weights[Symbol.dispose]();
  before[Symbol.dispose]();
  await dispatch(after);
  const { pinnedBytes, residentBytes } = fixture.store.reading()!;
  assert.deepEqual([pinnedBytes, residentBytes], [0, TENSOR], "it is not pinned any more");
  after[Symbol.dispose]();
});

Deno.test("WeightStore drops a model whose load is under way, after that", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b")];
  const gate = fixture.backend.gate("upload");
  a.request();
  b.request();
  await gate.reached;
  a[Symbol.dispose]();
  b[Symbol.dispose]();
  gate.open();
  await fixture.store[Symbol.asyncDispose]();
  assert.equal(fixture.buffers, 0);
  assert.deepEqual(fixture.failures, [], "nobody is left to be told");
});

Deno.test("ModelWeights.measure() learns what a run needs, where the device can tell", async () => {
  await using fixture = new Fixture({ arenaBytes: 1000 });
  const weights = await fixture.attach("a", { scratch: 10 });
  /** A run that has so many bytes in use at its height. */
  const run = (peak: number) => () => {
    const before = fixture.memory!;
    const peakInUseBytes = Math.max(before.peakInUseBytes!, peak);
    fixture.memory = { ...before, peakInUseBytes };
    return Promise.resolve();
  };
  await weights.measure(() => Promise.resolve());
  assert.equal(fixture.store.reading()!.maxScratchBytes, 10, "this device cannot tell");
  fixture.memory = {
    inUseBytes: 100,
    limitBytes: 1000,
    peakInUseBytes: 150,
    poolBytes: undefined,
  };
  await weights.measure(run(140));
  assert.equal(weights.scratchBytes, 10, "hidden by what ran before");
  await weights.measure(run(180));
  const { maxScratchBytes, maxBytes } = fixture.store.reading()!;
  assert.deepEqual([maxScratchBytes, maxBytes], [80, 920]);
  await weights.measure(run(181));
  assert.equal(weights.scratchBytes, 81);
  weights[Symbol.dispose]();
  assert.equal(fixture.store.reading()!.maxScratchBytes, 0, "it goes with the model");
});

Deno.test("ModelWeights.measure() lets no upload come in between", async () => {
  await using fixture = new Fixture({ arenaBytes: 1000 });
  const [a, b] = [await fixture.attach("a"), await fixture.attach("b")];
  await a.load();
  const [started, finish] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const measured = a.measure(() => {
    started.resolve();
    return finish.promise;
  });
  await started.promise;
  const uploads = fixture.backend.calls.upload;
  b.request();
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  assert.equal(fixture.backend.calls.upload, uploads);
  finish.resolve();
  await measured;
  await b.load();
  assert.equal(fixture.backend.calls.upload, uploads + 1);
});
