import assert from "node:assert/strict";
import { ModelRegistry } from "./model_registry.ts";

class FakeModel implements Disposable {
  disposals = 0;
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
