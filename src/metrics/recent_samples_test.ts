import assert from "node:assert/strict";
import { RecentSamples } from "./recent_samples.ts";

Deno.test("quantile() is the nearest rank of the latest samples", () => {
  const samples = new RecentSamples(4);
  assert.equal(samples.quantile(0.5), 0);
  samples.add(100);
  assert.deepEqual([samples.quantile(0), samples.quantile(0.99)], [100, 100]);
  for (const value of [4, 1, 3, 2]) samples.add(value);
  assert.deepEqual([0.25, 0.5, 0.51, 0.99].map((q) => samples.quantile(q)), [1, 2, 3, 4]);
});
