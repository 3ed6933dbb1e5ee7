/**
 * `deno task dashboards`: writes Grafana's dashboards from the tables in this folder. With `--check`
 * writes nothing, and fails when a file is not what the tables say.
 */

import { fileURLToPath } from "node:url";
import process from "node:process";
import { COALESCING } from "./coalescing.ts";
import { DEVICE_MEMORY } from "./device_memory.ts";
import { FLEET_OVERVIEW } from "./fleet_overview.ts";
import { GPU_WORK_BALANCE } from "./gpu_work_balance.ts";
import { LATENCY_THROUGHPUT } from "./latency_throughput.ts";
import { MODEL_DRILLDOWN } from "./model_drilldown.ts";
import type { Dashboard } from "./panels.ts";
import { renderDashboard } from "./render.ts";
import { SCHEDULING_PLACEMENT } from "./scheduling_placement.ts";

/** Every dashboard. */
export const DASHBOARDS: readonly Dashboard[] = [
  FLEET_OVERVIEW,
  LATENCY_THROUGHPUT,
  DEVICE_MEMORY,
  SCHEDULING_PLACEMENT,
  MODEL_DRILLDOWN,
  COALESCING,
  GPU_WORK_BALANCE,
];

const FOLDER = fileURLToPath(new URL("../../docker/grafana/dashboards/", import.meta.url));

/** The files there should be, by name. */
export function dashboardFiles(): Map<string, string> {
  return new Map(
    DASHBOARDS.map((dashboard) => [
      `${dashboard.uid}.json`,
      `${JSON.stringify(renderDashboard(dashboard), undefined, 2)}\n`,
    ]),
  );
}

/** Names of files that are missing, other than they should be, or left over. */
export async function staleFiles(): Promise<string[]> {
  const wanted = dashboardFiles();
  const present: string[] = [];
  for await (const { name } of Deno.readDir(FOLDER)) present.push(name);
  const stale = present.filter((name) => !wanted.has(name));
  for (const [name, text] of wanted) {
    const found = await Deno.readTextFile(FOLDER + name).catch(() => undefined);
    if (found !== text) stale.push(name);
  }
  return stale.sort();
}

if (import.meta.main) {
  if (Deno.args.includes("--check")) {
    const stale = await staleFiles();
    for (const name of stale) console.error(`${name} is stale: run deno task dashboards`);
    process.exitCode = stale.length === 0 ? 0 : 1;
  } else {
    for (const [name, text] of dashboardFiles()) await Deno.writeTextFile(FOLDER + name, text);
    console.log(`wrote ${DASHBOARDS.length} dashboards`);
  }
}
