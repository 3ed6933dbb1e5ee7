import assert from "node:assert/strict";
import { LatencyHistogram } from "./histogram.ts";

Deno.test("an empty histogram answers 0 to everything", () => {
  const histogram = new LatencyHistogram();
  const { count, min, max, mean } = histogram;
  assert.deepEqual([count, min, max, mean, histogram.quantile(0.5)], [0, 0, 0, 0, 0]);
});

Deno.test("quantiles are within half a percent of sorted samples, from microseconds to minutes", () => {
  const histogram = new LatencyHistogram();
  // A multiplicative walk that covers nine powers of ten, the same on every run.
  const samples: number[] = [];
  for (let index = 0, state = 12345; index < 20_000; index++) {
    state = (state * 1103515245 + 12345) % 2147483648;
    samples.push(10 ** (state / 2147483648 * 9 - 3));
  }
  for (const sample of samples) histogram.record(sample);
  const sorted = samples.toSorted((a, b) => a - b);
  for (const share of [0.01, 0.1, 0.5, 0.9, 0.99, 0.999]) {
    const exact = sorted[Math.ceil(share * sorted.length) - 1]!;
    const found = histogram.quantile(share);
    // Below 512 µs a bucket is one microsecond wide.
    assert.ok(
      Math.abs(found - exact) <= Math.max(0.001, exact * 0.005),
      `${share}: ${found} ${exact}`,
    );
  }
  assert.equal(histogram.min, sorted[0]);
  assert.equal(histogram.max, sorted.at(-1));
  assert.equal(histogram.quantile(1), sorted.at(-1));
  const mean = samples.reduce((sum, sample) => sum + sample, 0) / samples.length;
  assert.ok(Math.abs(histogram.mean - mean) < 1e-6 * mean);
});

Deno.test("quantiles of few recordings are those of NumPy", () => {
  // numpy.quantile(samples, [0, 0.5, 0.9, 0.95, 0.99, 1])
  const expected: readonly (readonly [readonly number[], readonly number[]])[] = [
    [[7], [7, 7, 7, 7, 7, 7]],
    [[1, 100], [1, 50.5, 90.1, 95.05, 99.01, 100]],
    [[3, 1, 2], [1, 2, 2.8, 2.9, 2.98, 3]],
    [[10, 20, 30, 40, 1000], [10, 30, 616, 808, 961.6, 1000]],
    [Array.from({ length: 100 }, (_, i) => i + 1), [1, 50.5, 90.1, 95.05, 99.01, 100]],
  ];
  for (const [samples, quantiles] of expected) {
    const histogram = new LatencyHistogram();
    for (const sample of samples) histogram.record(sample);
    for (const [index, share] of [0, 0.5, 0.9, 0.95, 0.99, 1].entries()) {
      const [found, exact] = [histogram.quantile(share), quantiles[index]!];
      assert.ok(Math.abs(found - exact) <= 0.004 * exact, `${samples} ${share}: ${found} ${exact}`);
    }
  }
});

Deno.test("a recording that is no number spoils nothing", () => {
  const histogram = new LatencyHistogram();
  for (const value of [NaN, -5, 2]) histogram.record(value);
  assert.deepEqual([histogram.count, histogram.min, histogram.max], [3, 0, 2]);
  assert.ok(Math.abs(histogram.mean - 2 / 3) < 1e-9);
});

Deno.test("a quantile is interpolated within its bucket and stays between the extremes", () => {
  const histogram = new LatencyHistogram();
  for (let index = 0; index < 100; index++) histogram.record(0.01);
  assert.equal(histogram.quantile(0.5), 0.01);
  histogram.reset();
  for (let index = 0; index < 100; index++) histogram.record(index < 50 ? 1 : 3);
  assert.ok(histogram.quantile(0.25) < 1.01);
  assert.ok(histogram.quantile(0.75) > 2.98);
});

Deno.test("every bucket edge is found again, and the longest durations share one bucket", () => {
  for (let power = 0; power < 31; power++) {
    for (const micros of [2 ** power, 2 ** power + 1, 2 ** (power + 1) - 1]) {
      const histogram = new LatencyHistogram();
      histogram.record(0);
      histogram.record(micros / 1000);
      histogram.record(1e9);
      const found = histogram.quantile(1 / 2) * 1000;
      assert.ok(Math.abs(found - micros) <= micros * 0.002 + 0.5, `${micros}: ${found}`);
    }
  }
  const histogram = new LatencyHistogram();
  histogram.record(1e12);
  assert.equal(histogram.max, 1e12);
  assert.equal(histogram.quantile(0.5), 1e12);
});
