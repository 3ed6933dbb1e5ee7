import assert from "node:assert/strict";
import { ModelRegistry, type RegisteredModel } from "./model_registry.ts";
import { Usage } from "./usage.ts";

class FakeModel implements RegisteredModel {
  readonly usage = new Usage();
  disposals = 0;
  constructor(public name = "m") {}
  [Symbol.dispose](): void {
    this.disposals++;
  }
}

Deno.test("ready() says why a model cannot infer", () => {
  const registry = new ModelRegistry<FakeModel>();
  registry.beginLoading("slow");
  registry.setFailed("broken", "weights.safetensors is missing");
  assert.throws(() => registry.ready("nobody"), { status: "NOT_FOUND" });
  assert.throws(() => registry.ready("slow"), { status: "UNAVAILABLE", message: /loading/ });
  assert.throws(() => registry.ready("broken"), {
    status: "UNAVAILABLE",
    message: /weights.safetensors is missing/,
  });
});

Deno.test("setReady() disposes the model it replaces, once", () => {
  const registry = new ModelRegistry<FakeModel>();
  const [first, second] = [new FakeModel(), new FakeModel()];
  registry.setReady("m", first);
  registry.beginLoading("m");
  assert.equal(registry.ready("m"), first);
  registry.setReady("m", second);
  assert.deepEqual([first.disposals, second.disposals], [1, 0]);
  registry.setFailed("m", "a bad update");
  assert.equal(registry.ready("m"), second);
  registry[Symbol.dispose]();
  assert.deepEqual([first.disposals, second.disposals], [1, 1]);
});

Deno.test("index() and progress() cover every state, sorted by name", () => {
  const registry = new ModelRegistry<FakeModel>();
  registry.setFailed("c", "why");
  registry.setReady("b", new FakeModel());
  registry.beginLoading("a");
  assert.deepEqual(registry.progress(), { total: 3, ready: 1, loading: 1, failed: 1 });
  assert.deepEqual(registry.index(), [
    { name: "a", isReady: false, reason: "loading" },
    { name: "b", isReady: true, reason: "" },
    { name: "c", isReady: false, reason: "why" },
  ]);
});

Deno.test("a model that is replaced or removed is disposed with the last request that uses it", () => {
  const registry = new ModelRegistry<FakeModel>();
  const [first, second] = [new FakeModel(), new FakeModel()];
  registry.setReady("m", first);
  first.usage.begin();
  first.usage.begin();
  registry.setReady("m", second);
  second.usage.begin();
  registry.remove("m");
  assert.throws(() => registry.ready("m"), { status: "NOT_FOUND" });
  first.usage.end();
  assert.deepEqual([first.disposals, second.disposals], [0, 0]);
  first.usage.end();
  assert.deepEqual([first.disposals, second.disposals], [1, 0]);
  registry[Symbol.dispose]();
  second.usage.end();
  assert.deepEqual([first.disposals, second.disposals], [1, 1]);
});

Deno.test("rename() lets models change places and takes requests in progress along", () => {
  const registry = new ModelRegistry<FakeModel>();
  const [a, b, c, older] = ["a", "b", "c", "a"].map((name) => new FakeModel(name));
  older!.usage.begin();
  registry.setReady("a", older!);
  for (const model of [a!, b!, c!]) registry.setReady(model.name, model);
  a!.usage.begin();
  const moved = ["b", "c"].map((name) => new FakeModel(name));
  registry.rename([{ from: "a", model: moved[0]! }, { from: "b", model: moved[1]! }]);
  assert.deepEqual(registry.index().map(({ name }) => name), ["b", "c"]);
  assert.deepEqual([registry.ready("b"), registry.ready("c")], moved);
  assert.deepEqual([a!.name, b!.name, older!.name], ["b", "c", "b"]);
  assert.deepEqual([a!, b!, c!, older!].map(({ disposals }) => disposals), [0, 1, 1, 0]);
  a!.usage.end();
  older!.usage.end();
  assert.deepEqual([a!, older!].map(({ disposals }) => disposals), [1, 1]);
});
