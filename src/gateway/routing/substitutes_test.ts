import assert from "node:assert/strict";
import { substitutes } from "./substitutes.ts";

const WORKERS = Array.from({ length: 8 }, (_, index) => `10.0.0.${index}:8080`);
const MODELS = Array.from({ length: 400 }, (_, index) => `model${index}`);

Deno.test("substitutes() are the same each time, sorted, as many as asked for", () => {
  for (const model of MODELS.slice(0, 20)) {
    const two = substitutes(model, WORKERS, 2);
    assert.deepEqual(two, [...new Set(two)].sort());
    assert.equal(two.length, 2);
    assert.deepEqual(substitutes(model, WORKERS, 2), two);
  }
  assert.deepEqual(substitutes("m", WORKERS, 9), WORKERS);
});

Deno.test("substitutes() change only for the models of a worker that goes", () => {
  const rest = WORKERS.slice(1);
  for (const model of MODELS) {
    const [before] = substitutes(model, WORKERS, 1);
    if (before !== WORKERS[0]) assert.deepEqual(substitutes(model, rest, 1), [before]);
  }
});

Deno.test("substitutes() share the models out", () => {
  const counts = new Map<string, number>();
  for (const model of MODELS) {
    const [worker] = substitutes(model, WORKERS, 1);
    counts.set(worker!, (counts.get(worker!) ?? 0) + 1);
  }
  // 50 each on average; a standard deviation is 6.6.
  for (const worker of WORKERS) {
    const count = counts.get(worker) ?? 0;
    assert.ok(count > 25 && count < 75, `${worker}: ${count}`);
  }
});
