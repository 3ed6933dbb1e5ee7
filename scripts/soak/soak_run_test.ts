import assert from "node:assert/strict";
import { COLUMNS, csvLine, type Look } from "./monitor.ts";
import { drawSoak } from "./picture.ts";
import { judge, type Judged } from "./soak_run.ts";

const START = Date.parse("2026-01-01T00:00:00Z");

/** Ten minutes of a node that does its work and keeps nothing. */
function readings(change: (second: number) => Partial<Look> = () => ({})): Look[] {
  return Array.from({ length: 120 }, (_, index): Look => {
    const second = index * 5;
    return {
      epoch: START / 1000 + second,
      iso_time: new Date(START + second * 1000).toISOString(),
      gpu_mem_used_mib: 8,
      gpu_util_pct: 40,
      worker_mem: 500 + second % 35,
      worker_cpu_pct: 90,
      shm_regions: 1,
      heap_mib: 60 + second % 35,
      heaps: new Map([["a", 30 + second % 17], ["b", 30 + second % 18]]),
      open_fds: 80,
      native_handles: 120,
      weight_loads: second,
      weight_evicts: second,
      requests: 100 * second,
      shed: 0,
      heap_pages_mib: 110,
      shared_mib: 20,
      pool_mib: 24,
      hook_heap_mib: 40 + second % 3,
      threads: 90,
      ...change(second),
    };
  });
}

const SINGLE: Judged = { isOversubscribed: true, processes: 1, heapMib: 96 };
const PAIR: Judged = { isOversubscribed: false, processes: 3, heapMib: 96 };

function failures(
  rig: Judged,
  series: Look[],
  codes: { load?: number; node?: number; restarts?: number } = {},
) {
  const { isGood, findings } = judge(rig, {
    readings: series,
    warmUp: 120,
    loadCode: codes.load ?? 0,
    nodeCode: codes.node ?? 0,
    restarts: codes.restarts ?? 0,
  });
  const failed = findings.filter((finding) => finding.startsWith("FAIL"));
  assert.equal(isGood, failed.length === 0);
  return failed.join("\n");
}

Deno.test("judge() passes a node that keeps nothing, each rig with the evictions it should have", () => {
  assert.equal(failures(SINGLE, readings()), "");
  const calm = readings(() => ({ weight_evicts: 3 }));
  assert.equal(failures(PAIR, calm), "");
  assert.match(failures(SINGLE, calm), /weights evicted after the warm-up: 0; some have to be/);
  assert.match(failures(PAIR, readings()), /weights evicted .*; none may be: all models fit/);
});

Deno.test("judge() finds a leak of each kind, and nothing in what fills up during the warm-up", () => {
  // Each of one a minute: MiB, descriptors, handles.
  const grown = (second: number) => second / 60;
  const leaks: readonly [keyof Look, (second: number) => number, RegExp][] = [
    [
      "worker_mem",
      (second) => 500 + grown(second),
      /resident memory beside heaps.*: \+\d+\.\d MiB .*LEAK/,
    ],
    ["open_fds", (second) => 80 + Math.floor(grown(second)), /descriptors: .*LEAK/],
    ["native_handles", (second) => 120 + Math.floor(grown(second)), /native handles: .*LEAK/],
    ["gpu_mem_used_mib", (second) => 8 + grown(second), /device memory: .*LEAK/],
    ["shm_regions", (second) => 1 + Math.floor(grown(second)), /shared-memory objects: .*LEAK/],
    ["hook_heap_mib", (second) => 40 + grown(second), /heaps of hook threads: .*LEAK/],
    ["threads", (second) => 90 + Math.floor(grown(second)), /threads: .*LEAK/],
  ];
  for (const [column, value, message] of leaks) {
    assert.match(failures(SINGLE, readings((second) => ({ [column]: value(second) }))), message);
    const filling = readings((second) => ({ [column]: value(Math.min(second, 100)) }));
    assert.equal(failures(SINGLE, filling), "", column);
  }
});

Deno.test("judge() finds the one process whose heap grows while all of them are emptied at times", () => {
  const heaps = (second: number) =>
    new Map([["a", 20 + second % 17], ["b", 50 + (second * 7) % 19 + second / 60]]);
  const failed = failures(PAIR, readings((second) => ({ heaps: heaps(second), weight_evicts: 0 })));
  assert.match(failed, /^FAIL JavaScript heap b: .*LEAK$/);
  // Below half its bound V8 lets garbage lie, and memory grows with it; beyond that it does not.
  const lying = (share: number) =>
    readings((second) => ({
      heaps: new Map([["a", 15 + share * second / 20]]),
      worker_mem: 500 + share * second / 20,
      heap_pages_mib: 110 + share * second / 20,
      weight_evicts: 0,
    }));
  assert.equal(failures(PAIR, lying(1)), "");
  assert.match(failures(PAIR, lying(2)), /^FAIL JavaScript heap a: .*LEAK$/);
});

Deno.test("judge() takes heap pages, shared pages and blocks for weights for no leak, but memory beside them", () => {
  const steps = (second: number) => second < 200 ? 0 : second < 300 ? 24 : 48;
  const growing = (perMinute: number) =>
    readings((second) => ({
      worker_mem: 500 + 3 * steps(second) + perMinute * second / 60,
      heap_pages_mib: 110 + steps(second),
      shared_mib: 20 + steps(second),
      pool_mib: 24 + steps(second),
      weight_evicts: 0,
    }));
  assert.equal(failures(PAIR, growing(0)), "");
  assert.match(
    failures(PAIR, growing(1)),
    /^FAIL resident memory beside heaps.*: .*LEAK$/,
  );
});

Deno.test("judge() minds how load and node ended, and that there was anything to judge", () => {
  assert.match(failures(SINGLE, readings(), { load: 4 }), /the load generator ended with 4/);
  assert.match(failures(SINGLE, readings(), { node: 1 }), /the node ended with 1/);
  assert.match(failures(SINGLE, readings(), { restarts: 2 }), /2 processes of the node ended/);
  assert.match(failures(SINGLE, readings(() => ({ requests: 7 }))), /0 requests answered/);
  assert.match(failures(SINGLE, []), /0 readings, 0 after the warm-up/);
});

Deno.test("a reading is a line of CSV under the columns of the GPU monitor and our own", () => {
  assert.equal(
    COLUMNS.slice(0, 7).join(","),
    "epoch,iso_time,gpu_mem_used_mib,gpu_util_pct,worker_mem,worker_cpu_pct,shm_regions",
  );
  const [reading] = readings(() => ({ worker_mem: 500.26 }));
  assert.equal(
    csvLine(reading!),
    "1767225600,2026-01-01T00:00:00.000Z,8,40,500.3,90,1,60,80,120,0,0,0,0,110,20,24,40,90",
  );
});

Deno.test("drawSoak() draws every line within its strip", () => {
  const picture = drawSoak("a < b & c", readings(), 120);
  assert.match(picture, /^<svg .*viewBox="0 0 960 \d+"/);
  assert.match(picture, /a &lt; b &amp; c, 595 s/);
  const lines = [...picture.matchAll(/<polyline points="([^"]+)"/g)].map((match) => match[1]!);
  assert.equal(lines.length, 12);
  const height = Number(/viewBox="0 0 960 (\d+)"/.exec(picture)![1]);
  for (const line of lines) {
    for (const point of line.split(" ")) {
      const [x, y] = point.split(",").map(Number);
      assert.ok(x! >= 70 && x! <= 940 && y! >= 40 && y! <= height, point);
    }
  }
});
