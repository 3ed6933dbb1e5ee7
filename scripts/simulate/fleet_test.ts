import assert from "node:assert/strict";
import { EventQueue } from "./event_queue.ts";
import { type RunOptions, simulate } from "./fleet.ts";
import { report } from "./report.ts";
import { FLEET, SCENARIOS } from "./scenarios.ts";
import { seededRandom } from "./workload.ts";

/** A small fleet; `name` is one of the scenarios. */
function small(name: string, values: Partial<RunOptions> = {}) {
  const { scheduling } = SCENARIOS.find((scenario) => scenario.name === name)!;
  return simulate({
    ...FLEET,
    seed: 5,
    workers: 6,
    models: 40,
    requestsPerSecond: 400,
    seconds: 30,
    warmUpSeconds: 10,
    windowSeconds: 10,
    pollSeconds: 2,
    scheduling: { ...scheduling, rebalanceComputeSeconds: 10, firstRebalanceComputeSeconds: 2 },
    ...values,
  });
}

Deno.test("simulation: the same seed gives the same figures, another seed others", () => {
  const first = small("lpt_packing, 4 replicas");
  assert.deepEqual(small("lpt_packing, 4 replicas"), first);
  assert.notDeepEqual(small("lpt_packing, 4 replicas", { seed: 6 }), first);
});

Deno.test("simulation: no placement beats the bound, and weights stay within their budget", () => {
  const { windows, worstOverfill, repacks, shed } = small("lpt_packing, 1 replica");
  assert.equal(windows.length, 2);
  for (const { spread, bound } of windows) {
    assert.ok(bound >= 1);
    // A dispatch counts in full where it starts, hence the tolerance.
    assert.ok(spread >= bound * 0.99, `${spread} is better than ${bound}`);
  }
  assert.ok(worstOverfill <= 0);
  assert.ok(repacks > 0);
  assert.equal(shed, 0);
});

Deno.test("simulation: hysteresis moves fewer models", () => {
  const loose = small("lpt_packing, 4 replicas");
  const { scheduling } = SCENARIOS.find(({ name }) => name === "lpt_packing, 4 replicas")!;
  const steady = small("lpt_packing, 4 replicas", {
    scheduling: {
      ...scheduling,
      rebalanceComputeSeconds: 10,
      firstRebalanceComputeSeconds: 2,
      hysteresis: 0.5,
    },
  });
  assert.ok(steady.movedPerRepack < loose.movedPerRepack);
});

Deno.test("simulation: the report has a row and a bar for every scenario", () => {
  const result = small("round_robin");
  const { table, svg, markdown } = report({
    seed: 5,
    load: FLEET,
    results: [{ name: "first & only", result }],
    speeds: [{ name: "first", perSecond: 2e6 }],
  });
  assert.match(table, /^\| first & only \|/m);
  assert.match(table, /2\.00 million/);
  assert.match(svg, /first &amp; only/);
  assert.doesNotMatch(svg, /NaN|undefined/);
  assert.ok(markdown.includes(table));
});

Deno.test("simulation: a row of the page is what the code gives", () => {
  const page = Deno.readTextFileSync(new URL("../../docs/fleet_simulation.md", import.meta.url));
  const seed = Number(/--seed (\d+)/.exec(page)![1]);
  const { name, scheduling } = SCENARIOS.at(-1)!;
  const result = simulate({ ...FLEET, seed, scheduling });
  const { table } = report({ seed, load: FLEET, results: [{ name, result }], speeds: [] });
  const row = (text: string) =>
    text.split("\n").find((line) => line.startsWith(`| ${name} `))!.replaceAll(/ +/g, " ");
  assert.equal(row(page), row(table));
});

Deno.test("event queue: events come out by time", () => {
  const random = seededRandom(1);
  const times = Array.from({ length: 500 }, () => random());
  const queue = new EventQueue();
  times.forEach((time, id) => queue.push(time, id));
  const out: number[] = [];
  while (queue.nextTime < Infinity) out.push(times[queue.pop()]!);
  assert.deepEqual(out, times.toSorted((a, b) => a - b));
});
