/** What happens to weights when several want different things of them at once. */

import assert from "node:assert/strict";
import { Weights } from "../../bundle/mod.ts";
import type { ResidencyFloor } from "../../config/mod.ts";
import { ResourceExhaustedError } from "../../errors.ts";
import type { ModelWeights } from "./model_weights.ts";
import { regionKey, regionName } from "./shared_region.ts";
import { dispatch, Fixture, TENSOR } from "./testing.ts";

/** Lets everything go on that waits for nothing else. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

Deno.test("WeightStore pins no more than there is room for when two are pinned at once", async () => {
  await using fixture = new Fixture({ arenaBytes: 3 * TENSOR, isExternallyManaged: true });
  const [a, b] = [
    await fixture.attach("a", { tensors: 2 }),
    await fixture.attach("b", { tensors: 2 }),
  ];
  const [first, second] = await Promise.allSettled([a.setFloor("device"), b.setFloor("device")]);
  assert.deepEqual([first.status, second.status], ["fulfilled", "rejected"]);
  assert.ok((second as PromiseRejectedResult).reason instanceof ResourceExhaustedError);
  assert.deepEqual([a.floor, b.floor], ["device", "system"]);
  assert.equal(fixture.store.reading()!.pinnedBytes, 2 * TENSOR);
});

Deno.test("ModelWeights.setFloor() to what it is on its way to waits for it too", async () => {
  await using fixture = new Fixture({ arenaBytes: 3 * TENSOR, isExternallyManaged: true });
  const weights = await fixture.attach("a");
  const gate = fixture.backend.gate("upload");
  const first = weights.setFloor("device");
  await gate.reached;
  const second = weights.setFloor("device").then(() => weights.isResident);
  await settle();
  gate.open();
  assert.equal(await second, true);
  await first;
});

Deno.test("ModelWeights.setFloor() that fails does not take back what was asked for meanwhile", async () => {
  await using fixture = new Fixture({ arenaBytes: 3 * TENSOR, isExternallyManaged: true });
  const weights = await fixture.attach("a");
  fixture.backend.failNext("upload", new Error("the cable is out"));
  const gate = fixture.backend.gate("upload");
  const failing = weights.setFloor("device");
  await gate.reached;
  const later = weights.setFloor("unpinned");
  gate.open();
  await assert.rejects(failing, /cable/);
  await later;
  assert.deepEqual([weights.floor, weights.isHostResident], ["unpinned", false]);
  assert.equal(fixture.store.reading()!.pinnedBytes, 0);
});

Deno.test("WeightStore brings in nothing that nobody waits for any more", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const hot = await fixture.attach("hot");
  const cold = await Promise.all(
    Array.from({ length: 300 }, (_, index) => fixture.attach(`cold${index}`)),
  );
  const use = await hot.use();
  for (const weights of cold) {
    fixture.wanted.add(weights.model);
    weights.request();
  }
  await settle();
  // Everyone has gone but the last.
  fixture.wanted.clear();
  fixture.wanted.add("cold299");
  use[Symbol.dispose]();
  await cold[299]!.load();
  assert.equal(fixture.store.reading()!.loads, 2, "the hot one and the last");
  assert.deepEqual(fixture.failures, [], "nobody is there to be told");
  // Whoever comes back is served.
  fixture.wanted.clear();
  await dispatch(cold[7]!);
  assert.equal(cold[7]!.isResident, true);
});

Deno.test("WeightStore serves whoever comes right when the load before is given up", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const [hot, cold] = [await fixture.attach("hot"), await fixture.attach("cold")];
  const use = await hot.use();
  fixture.wanted.add("cold");
  cold.request();
  await settle();
  fixture.wanted.clear();
  use[Symbol.dispose]();
  fixture.wanted.add("cold");
  cold.request();
  await dispatch(cold);
  assert.deepEqual(fixture.failures, []);
});

Deno.test("WeightStore lets models wait while a pinned one is replaced that leaves them no room twice", async () => {
  await using fixture = new Fixture({ arenaBytes: 10 * TENSOR });
  const before = await fixture.attach("pinned", { floor: "device", tensors: 4 });
  const other = await fixture.attach("other", { tensors: 5 });
  await dispatch(other);
  const gate = fixture.backend.gate("upload");
  const replacing = fixture.attach("pinned", {
    weights: fixture.file("pinned-2", 4),
    floor: "device",
  });
  await gate.reached;
  assert.equal(other.isResident, false, "both versions take its place");
  fixture.wanted.add("other");
  assert.equal(other.request(), false);
  gate.open();
  const after = await replacing;
  await settle();
  assert.deepEqual([fixture.failures, other.isResident], [[], false], "it waits");
  before[Symbol.dispose]();
  await other.load();
  assert.deepEqual([other.isResident, after.isResident], [true, true]);
  assert.deepEqual(fixture.failures, []);
});

Deno.test("WeightStore brings pinned weights in past a line that waits for what they replace", async () => {
  await using fixture = new Fixture({ arenaBytes: 10 * TENSOR });
  const before = await fixture.attach("pinned", { floor: "device", tensors: 4 });
  const [busy, other] = [
    await fixture.attach("busy", { tensors: 2 }),
    await fixture.attach("other", { tensors: 6 }),
  ];
  const use = await busy.use();
  fixture.wanted.add("other");
  assert.equal(other.request(), false, "it is in line behind what is in use");
  await settle();
  const replacing = fixture.attach("pinned", {
    weights: fixture.file("pinned-2", 4),
    floor: "device",
  });
  await settle();
  use[Symbol.dispose]();
  (await replacing)[Symbol.dispose]();
  before[Symbol.dispose]();
  await other.load();
  assert.deepEqual(fixture.failures, []);
});

Deno.test("WeightStore reads nothing from a shared copy that was cut short", async () => {
  await using fixture = new Fixture({ arenaBytes: 100, sharedMode: 0o600 });
  const file = fixture.file("a");
  const weights = await fixture.attach("a", { weights: file });
  const region = `/dev/shm${regionName(await regionKey(file.identity, file.specs))}`;
  Deno.truncateSync(region, 100);
  await dispatch(weights);
  assert.deepEqual([weights.isResident, weights.isHostResident], [true, true]);
  assert.throws(() => Deno.lstatSync(region), Deno.errors.NotFound);
});

Deno.test("WeightStore puts nothing to use of a shared copy that is cut short while it is copied", async () => {
  await using fixture = new Fixture({ arenaBytes: 100, sharedMode: 0o600 });
  const file = fixture.file("a", 3);
  const weights = await fixture.attach("a", { weights: file });
  const region = `/dev/shm${regionName(await regionKey(file.identity, file.specs))}`;
  const gate = fixture.backend.gate("upload");
  const load = weights.load();
  await gate.reached;
  Deno.truncateSync(region, 0);
  gate.open();
  await load;
  // Three that were zeros, which are gone, and three right ones.
  assert.deepEqual([fixture.backend.calls.upload, fixture.buffers], [6, 3]);
  using use = await weights.use();
  for (const [index, buffer] of use.buffers.entries()) {
    assert.deepEqual(
      await fixture.backend.download(buffer),
      new Uint8Array(TENSOR).fill(index + 1),
    );
  }
  assert.throws(() => Deno.lstatSync(region), Deno.errors.NotFound);
});

Deno.test("WeightStore fails a load whose file is cut short under it, and the file put back serves", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const file = fixture.file("a", 3);
  const contents = Deno.readFileSync(file.path);
  const weights = await fixture.attach("a", { weights: file, floor: "unpinned" });
  const gate = fixture.backend.gate("upload");
  const load = weights.load();
  await gate.reached;
  Deno.truncateSync(file.path, 0);
  gate.open();
  await assert.rejects(load, {
    name: "BundleError",
    message: /"a".*weights\.safetensors: it was changed in place.*rename it onto the old one/,
  });
  assert.deepEqual([weights.isResident, fixture.buffers], [false, 0]);
  await assert.rejects(weights.load(), /changed in place/);

  Deno.writeFileSync(`${file.path}.new`, contents);
  Deno.renameSync(`${file.path}.new`, file.path);
  using anew = Weights.open("a", file.path, "row_major");
  const later = await fixture.attach("a", { weights: anew });
  await dispatch(later);
  later[Symbol.dispose]();
});

Deno.test("WeightStore.compact() passes over models that go meanwhile, and the line goes on", async () => {
  await using fixture = new Fixture({ arenaBytes: 100 });
  const [a, gone, last] = [
    await fixture.attach("a"),
    await fixture.attach("gone"),
    await fixture.attach("last"),
  ];
  const gate = fixture.backend.gate("upload");
  const compacted = fixture.store.compact([a, gone]);
  await gate.reached;
  gone[Symbol.dispose]();
  gate.open();
  assert.equal((await compacted).reloaded, 1);
  await dispatch(last);
  await assert.rejects(async () => await gone.use(), /The model is gone/);
});

Deno.test("WeightStore lets those that the device waits for have their turn, where there is room for one", async () => {
  await using fixture = new Fixture({ arenaBytes: TENSOR });
  const models = await Promise.all(["a", "b", "c"].map((name) => fixture.attach(name)));
  await Promise.all(models.map((weights) => weights.load()));
  await Promise.all(models.map(dispatch));
  await Promise.all(models.map((weights) => weights.measure(() => Promise.resolve())));
  assert.equal(models.filter(({ isResident }) => isResident).length, 1);
});

/** Numbers below `below`, the same for the same seed (mulberry32). */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Any of a store's operations in any order, with loads that fail or take their time. */
class Storm {
  readonly fixture: Fixture;
  readonly models: ModelWeights[] = [];
  readonly pending: Promise<unknown>[] = [];
  readonly #pick: (below: number) => number;
  readonly #uses: Disposable[] = [];
  #gate: { open(): void } | undefined;
  #made = 0;

  constructor(fixture: Fixture, seed: number) {
    this.fixture = fixture;
    this.#pick = random(seed);
  }

  step(): void {
    const { fixture, models } = this;
    const one = models.length > 0 ? models[this.#pick(models.length)]! : undefined;
    const kind = this.#pick(14);
    if (!one || (kind < 2 && models.length < 12)) this.#attach(one);
    else if (kind === 2) this.#detach(one);
    else if (kind < 5) this.#start(this.#use(one));
    else if (kind < 7) {
      this.#uses.splice(this.#pick(this.#uses.length + 1), 1)[0]?.[Symbol.dispose]();
    } else if (kind === 7) this.#start(one.setFloor(this.#floor()));
    else if (kind === 8) this.#start(fixture.store.compact(models.slice(0, 2)));
    else if (kind === 9) fixture.backend.failNext("upload", new Error("the cable is out"));
    else if (kind === 10) this.#gate ??= fixture.backend.gate("upload");
    else if (kind === 11) this.openGate();
    else {
      fixture.wanted.add(one.model);
      one.request();
    }
  }

  openGate(): void {
    this.#gate?.open();
    this.#gate = undefined;
  }

  /** Lets everything come to its end. */
  async calm(): Promise<void> {
    this.openGate();
    this.fixture.wanted.clear();
    // As the scheduler does when it finds that those who waited have gone.
    for (const model of this.models) model.request();
    // What is pending may begin further uses.
    let isDone = false;
    const all = Promise.all(this.pending).then(() => isDone = true);
    while (!isDone) {
      for (const use of this.#uses.splice(0)) use[Symbol.dispose]();
      await new Promise((resolve) => setTimeout(resolve));
    }
    await all;
    for (const use of this.#uses.splice(0)) use[Symbol.dispose]();
    await this.fixture.store.released();
    await settle();
  }

  #attach(one: ModelWeights | undefined): void {
    const { fixture, models } = this;
    const kind = this.#pick(3);
    // A newer version of a model, one more model of the same file, or another model.
    const model = kind === 0 && one ? one.model : `m${this.#made}`;
    const weights = kind === 1 && one
      ? one.unit.weights
      : fixture.file(`f${this.#made}`, 1 + this.#pick(4));
    this.#made++;
    this.#start(
      fixture.attach(model, { weights, floor: this.#floor(), scratch: this.#pick(9) })
        .then((made) => models.push(made)),
    );
  }

  #detach(one: ModelWeights): void {
    this.models.splice(this.models.indexOf(one), 1);
    one[Symbol.dispose]();
  }

  async #use(one: ModelWeights): Promise<void> {
    this.#uses.push(await one.use());
  }

  #floor(): ResidencyFloor {
    return (["unpinned", "system", "device"] as const)[this.#pick(3)]!;
  }

  /** Failures are part of it. */
  #start(work: Promise<unknown>): void {
    this.pending.push(work.catch(() => {}));
  }
}

for (const isExternallyManaged of [false, true]) {
  Deno.test(`WeightStore gives back exactly what it took, whatever happens, managed from ${isExternallyManaged ? "outside" : "inside"}`, async () => {
    for (let seed = 1; seed <= 30; seed++) {
      await using fixture = new Fixture({ arenaBytes: 12 * TENSOR, isExternallyManaged });
      const storm = new Storm(fixture, seed);
      for (let round = 0; round < 6; round++) {
        for (let step = 0; step < 40; step++) {
          storm.step();
          if (step % 3 === 0) await settle();
        }
        await storm.calm();
        const units = new Set(storm.models.map(({ unit }) => unit));
        const bytes = (...which: boolean[]) =>
          [...units].filter(({ isPinned, isResident }) =>
            isPinned === which[0] && (which[1] === undefined || isResident === which[1])
          ).reduce((sum, { deviceBytes }) => sum + deviceBytes, 0);
        const { pinnedBytes, residentBytes, maxBytes } = fixture.store.reading()!;
        const at = `seed ${seed}, round ${round}`;
        assert.deepEqual([pinnedBytes, residentBytes], [bytes(true), bytes(false, true)], at);
        assert.ok(residentBytes <= maxBytes, at);
        const tensors = [...units].filter(({ isResident }) => isResident)
          .reduce((sum, { weights }) => sum + weights.specs.length, 0);
        assert.equal(fixture.buffers, tensors, at);
      }
      for (const model of storm.models) model[Symbol.dispose]();
      await fixture.store.released();
      await settle();
      const { pinnedBytes, residentBytes, maxBytes } = fixture.store.reading()!;
      assert.deepEqual([pinnedBytes, residentBytes, maxBytes], [0, 0, 12 * TENSOR], `seed ${seed}`);
    }
  });
}
