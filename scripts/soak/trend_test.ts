import assert from "node:assert/strict";
import { judgeGrowth, type Point, trendOf } from "./trend.ts";

/** Noise that repeats for the same seed, from -0.5 to 0.5. */
function noiseFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return state / 2147483648 - 0.5;
  };
}

/** A reading every `step` seconds. */
function series(
  seconds: number,
  value: (second: number, noise: number) => number,
  { seed = 1, step = 1 } = {},
): Point[] {
  const noise = noiseFrom(seed);
  return Array.from(
    { length: Math.floor(seconds / step) },
    (_, index) => ({ seconds: index * step, value: value(index * step, noise()) }),
  );
}

/** What a soak allows of a heap that is bounded to 96 MiB. */
const LIMIT = { always: 2, settling: 48, unit: "MiB" };
/** The judged part of ten minutes, looked at as the soak does. */
const TEN_MINUTES = 480;
const STEP = 2;
const SEEDS = Array.from({ length: 40 }, (_, index) => 101 * index + 1);

/** For how many of the seeds a shape is taken for a leak. */
function alarms(shape: (second: number, noise: number) => number, seconds = TEN_MINUTES): number {
  return SEEDS.filter((seed) =>
    judgeGrowth("memory", series(seconds, shape, { seed, step: STEP }), LIMIT).isLeak
  ).length;
}

/** A heap that is emptied about every 20 s, never at quite the same fill. */
function collected(second: number, noise: number): number {
  return 40 + second % 19 / 19 * 30 + 10 * noise;
}

Deno.test("trendOf() finds the slope of a line under noise, and brackets it from below", () => {
  const trend = trendOf(series(600, (second, noise) => 100 + 0.5 * second + 20 * noise))!;
  assert.ok(Math.abs(trend.slope - 0.5) < 0.02, `${trend.slope}`);
  assert.ok(trend.lowerSlope > 0.45 && trend.lowerSlope <= trend.slope, `${trend.lowerSlope}`);
  assert.equal(trend.seconds, 599);
});

Deno.test("a leak of 1 MiB a minute is found in ten minutes, under noise and collections", () => {
  const text = judgeGrowth("memory", series(TEN_MINUTES, (s) => 100 + s / 60), LIMIT).text;
  assert.match(
    text,
    /^memory: \+8\.0 MiB in 479 s, at least \+8\.0 with 95 % confidence, 2\.0 allowed: LEAK$/,
  );
  const leak = (second: number) => second / 60;
  const shapes: Record<string, (second: number, noise: number) => number> = {
    noise: (second, noise) => 500 + 5 * noise + leak(second),
    "steps of 2 MiB": (second, noise) => 500 + noise + 2 * Math.floor(leak(second) / 2),
    "larger collections": (second, noise) => 200 + second % 30 / 30 * 50 + noise + leak(second),
  };
  for (const [name, shape] of Object.entries(shapes)) {
    assert.equal(alarms(shape), SEEDS.length, name);
  }
  // Where what collections leave differs by more than the leak, one soak of ten may miss it, not several.
  const found = alarms((second, noise) => collected(second, noise) + leak(second));
  assert.ok(found >= 0.9 * SEEDS.length, `${found}`);
});

Deno.test("noise, collections, a step and growth that levels off are no leaks", () => {
  const shapes: Record<string, (second: number, noise: number) => number> = {
    noise: (_, noise) => 100 + 60 * noise,
    "an early step": (second, noise) => (second < 100 ? 100 : 180) + noise,
    "a step in the middle": (second, noise) => (second < 230 ? 100 : 120) + noise,
    "levelling off": (second, noise) => 100 + 60 * (1 - Math.exp(-second / 40)) + noise,
    "levelling off slowly": (second, noise) => 100 + 60 * (1 - Math.exp(-second / 80)) + noise,
    "creeping to a level": (second, noise) => 100 + 10 * (1 - Math.exp(-second / 100)) + noise,
    "filling up": (second, noise) => 100 + Math.min(second, 200) / 5 + noise,
    falling: (second) => 500 - 0.2 * second,
    constant: () => 42,
  };
  for (const [name, shape] of Object.entries(shapes)) assert.equal(alarms(shape), 0, name);
  // With 95 % confidence that there is growth at all; the allowance takes most of the rest.
  assert.ok(alarms(collected) <= 0.05 * SEEDS.length, `${alarms(collected)}`);
});

Deno.test("a short soak does not take what settles for a leak, but what grows by more", () => {
  const settling = (second: number, noise: number) => 100 + second + noise;
  assert.equal(alarms(settling, 40), 0);
  assert.equal(alarms((second, noise) => 100 + 3 * second + noise, 40), SEEDS.length);
});

type Row = Readonly<Record<string, number>>;

/** Series of the recorded soaks, of their columns by name, and the leak a minute that ten minutes show. */
const RECORDED: Readonly<Record<string, readonly [value: (row: Row) => number, leak: number]>> = {
  memory: [
    (row) => row.worker_mem! - row.heap_pages_mib! - row.shared_mib! - row.pool_mib!,
    2,
  ],
  "hook threads' heaps": [(row) => row.hook_heap_mib!, 2],
  threads: [(row) => row.threads!, 1],
  descriptors: [(row) => row.open_fds!, 1],
  handles: [(row) => row.native_handles!, 1],
  "device memory": [(row) => row.gpu_mem_used_mib!, 1],
};

Deno.test("ten recorded minutes show no leak, and one that is added to them", async (t) => {
  const allowed = { always: 4, settling: 0, unit: "" };
  for (const rig of ["single", "pair"]) {
    const file = new URL(`../../docs/soak/${rig}.csv`, import.meta.url);
    const [header, ...lines] = (await Deno.readTextFile(file)).trim().split("\n");
    const names = header!.split(",");
    const rows = lines.map((line) => {
      const cells = line.split(",");
      return Object.fromEntries(names.map((name, index) => [name, Number(cells[index])]));
    });
    for (const [name, [value, leak]] of Object.entries(RECORDED)) {
      await t.step(`${name} of ${rig}`, () => {
        const judged = rows.map((row): Point => ({
          seconds: row.epoch! - rows[0]!.epoch!,
          value: value(row),
        })).filter(({ seconds }) => seconds >= 120);
        const calm = judgeGrowth(name, judged, allowed);
        assert.equal(calm.isLeak, false, calm.text);
        const leaking = judged.map(({ seconds, value }) => ({
          seconds,
          value: value + leak * seconds / 60,
        }));
        const found = judgeGrowth(name, leaking, allowed);
        assert.equal(found.isLeak, true, found.text);
      });
    }
  }
});

Deno.test("few readings are no ground for a judgement", () => {
  assert.equal(trendOf([]), undefined);
  assert.equal(trendOf([{ seconds: 0, value: 1 }, { seconds: 1, value: 100 }]), undefined);
  assert.equal(judgeGrowth("x", [], LIMIT).isLeak, false);
});
