/**
 * Simulates a fleet of 64 workers and 500 models around the gateway's own routing and packing code, and
 * compares the scheduling modes.
 *
 *     deno task simulate [--seed N] [--write]
 *
 * `--write` puts the table and a picture into docs/.
 */

import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type RunResult, simulate } from "./fleet.ts";
import { report } from "./report.ts";
import { routingSpeed } from "./routing_speed.ts";
import { FLEET, SCENARIOS } from "./scenarios.ts";

const DOCS = new URL("../../docs/", import.meta.url);
const DEFAULT_SEED = "20250601";

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
      write: { type: "boolean", default: false },
    },
  });
  const seed = Number(values.seed);
  if (!Number.isSafeInteger(seed)) throw new TypeError(`--seed must be an integer, got ${seed}`);
  console.log(`seed ${seed}`);
  const startedAt = performance.now();
  const results: { name: string; result: RunResult }[] = [];
  for (const { name, scheduling, fleet } of SCENARIOS) {
    results.push({ name, result: simulate({ ...FLEET, ...fleet, seed, scheduling }) });
    console.error(`${name}: done after ${((performance.now() - startedAt) / 1000).toFixed(0)} s`);
  }
  const speeds = SCENARIOS.filter(({ name }) => MEASURED.includes(name)).map((scenario) => ({
    name: scenario.name,
    perSecond: routingSpeed(scenario, { ...FLEET, decisions: 500_000 }),
  }));
  const { markdown, svg, table } = report({ seed, results, speeds });
  console.log(table);
  if (values.write) {
    const page = new URL("fleet_simulation.md", DOCS);
    await Deno.writeTextFile(page, markdown);
    await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", fileURLToPath(page)] })
      .spawn().status;
    await Deno.writeTextFile(new URL("fleet_simulation.svg", DOCS), svg);
  }
}
