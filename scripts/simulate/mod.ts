/**
 * Simulates a fleet of 64 workers and 500 models around the gateway's own routing and packing code, and
 * compares the scheduling modes.
 *
 *     deno task simulate [--seed N] [--seconds N] [--out FOLDER]
 *
 * `--out docs` writes the page and its picture. A third of the simulated seconds is warm-up.
 */

import { join } from "node:path";
import { parseArgs } from "node:util";
import { type RunResult, simulate } from "./fleet.ts";
import { report } from "./report.ts";
import { routingSpeed } from "./routing_speed.ts";
import { FLEET, SCENARIOS } from "./scenarios.ts";

const DEFAULT_SEED = "20250601";
/** Of one measurement of how fast decisions are. */
const DECISIONS = 500_000;

/** The modes whose speed is measured, by their name in the table. */
const MEASURED = [
  "round_robin",
  "least_outstanding",
  "lpt_packing, 1 replica",
  "lpt_packing, 8 replicas",
];

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      seed: { type: "string", default: DEFAULT_SEED },
      seconds: { type: "string", default: String(FLEET.seconds) },
      out: { type: "string" },
    },
  });
  const seed = Number(values.seed);
  if (!Number.isSafeInteger(seed)) throw new TypeError(`--seed must be an integer, got ${seed}`);
  const seconds = Number(values.seconds);
  // What comes after the warm-up has to fill a window.
  if (!(seconds * 2 / 3 >= FLEET.windowSeconds)) {
    throw new TypeError(`--seconds must be ${FLEET.windowSeconds * 1.5} or more, got ${seconds}`);
  }
  const load = { ...FLEET, seconds, warmUpSeconds: seconds / 3 };
  console.log(`seed ${seed}`);
  const startedAt = performance.now();
  const results: { name: string; result: RunResult }[] = [];
  for (const { name, scheduling, fleet } of SCENARIOS) {
    results.push({ name, result: simulate({ ...load, ...fleet, seed, scheduling }) });
    console.error(`${name}: done after ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  }
  const speeds = SCENARIOS.filter(({ name }) => MEASURED.includes(name)).map((scenario) => ({
    name: scenario.name,
    perSecond: routingSpeed(scenario, {
      ...FLEET,
      decisions: Math.round(DECISIONS * seconds / FLEET.seconds),
    }),
  }));
  const { markdown, svg, table } = report({ seed, load, results, speeds });
  console.log(table);
  if (values.out !== undefined) {
    const page = join(values.out, "fleet_simulation.md");
    await Deno.mkdir(values.out, { recursive: true });
    await Deno.writeTextFile(page, markdown);
    await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", page] }).spawn().status;
    await Deno.writeTextFile(join(values.out, "fleet_simulation.svg"), svg);
  }
}
