import assert from "node:assert/strict";
import { judgeGrowth, type Point, trendOf } from "./trend.ts";

/** A reading a second, with noise that repeats. */
function series(count: number, value: (second: number, noise: number) => number): Point[] {
  let state = 1;
  return Array.from({ length: count }, (_, seconds) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return { seconds, value: value(seconds, state / 2147483648 - 0.5) };
  });
}

const LIMIT = { allowance: 10, unit: "MiB" };

Deno.test("trendOf() finds the slope of a line under noise, and brackets it from below", () => {
  const trend = trendOf(series(600, (second, noise) => 100 + 0.5 * second + 20 * noise))!;
  assert.ok(Math.abs(trend.slope - 0.5) < 0.02, `${trend.slope}`);
  assert.ok(trend.lowerSlope > 0.45 && trend.lowerSlope <= trend.slope, `${trend.lowerSlope}`);
  assert.equal(trend.seconds, 599);
});

Deno.test("a leak under a sawtooth is found", () => {
  // A collector that frees 50 MiB every 30 s, and 0.1 MiB/s that it never gets.
  const points = series(600, (second, noise) => 200 + second % 30 / 30 * 50 + 0.1 * second + noise);
  const { isLeak, text } = judgeGrowth("memory", points, LIMIT);
  assert.equal(isLeak, true, text);
  assert.match(
    text,
    /^memory: \+\d+\.\d MiB in 599 s, at least \+\d+\.\d with 95 % confidence, 10\.0 allowed: LEAK$/,
  );
});

Deno.test("noise, sawteeth, a step and growth that levels off are no leaks", () => {
  const shapes: Record<string, (second: number, noise: number) => number> = {
    noise: (_, noise) => 100 + 60 * noise,
    sawtooth: (second) => 100 + second % 47,
    "an early step": (second, noise) => (second < 100 ? 100 : 180) + noise,
    "levelling off": (second, noise) => 100 + 60 * (1 - Math.exp(-second / 40)) + noise,
    falling: (second) => 500 - 0.2 * second,
    constant: () => 42,
  };
  for (const [name, shape] of Object.entries(shapes)) {
    const { isLeak, text } = judgeGrowth(name, series(600, shape), LIMIT);
    assert.equal(isLeak, false, text);
  }
});

Deno.test("few readings are no ground for a judgement", () => {
  assert.equal(trendOf([]), undefined);
  assert.equal(trendOf([{ seconds: 0, value: 1 }, { seconds: 1, value: 100 }]), undefined);
  assert.equal(judgeGrowth("x", [], LIMIT).isLeak, false);
});
