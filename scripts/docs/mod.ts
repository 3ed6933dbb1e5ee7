/**
 * `deno task docs`: writes the generated parts of the manual, which stand between
 * `<!-- generated:NAME -->` and `<!-- /generated:NAME -->`. With `--check` writes nothing, and fails
 * when a page is not what it should be.
 */

import { fileURLToPath } from "node:url";
import process from "node:process";
import { datatypes, manifestKeys, tensorKeys } from "./bundles.ts";
import {
  gatewayKeys,
  gatewayModelKeys,
  modelKeys,
  nodeFlags,
  nodeKeys,
  serverKeys,
} from "./configuration.ts";
import { withGeneratedParts } from "./markdown.ts";
import { gatewayMetrics, processMetrics, workerMetrics } from "./metrics.ts";

/** Every generated part by its name. */
export const PARTS: ReadonlyMap<string, () => string> = new Map([
  ["node-keys", nodeKeys],
  ["node-flags", nodeFlags],
  ["server-keys", serverKeys],
  ["model-keys", modelKeys],
  ["gateway-keys", gatewayKeys],
  ["gateway-model-keys", gatewayModelKeys],
  ["manifest-keys", manifestKeys],
  ["tensor-keys", tensorKeys],
  ["datatypes", datatypes],
  ["worker-metrics", workerMetrics],
  ["gateway-metrics", gatewayMetrics],
  ["process-metrics", processMetrics],
]);

const FOLDER = fileURLToPath(new URL("../../docs/", import.meta.url));

/** Pages that are not as they should be, with the text that they should have. */
export function stalePages(folder: string = FOLDER): Map<string, string> {
  const stale = new Map<string, string>();
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  for (const name of names.filter((name) => name.endsWith(".md"))) {
    const text = Deno.readTextFileSync(folder + name);
    const wanted = withGeneratedParts(text, PARTS);
    if (wanted !== text) stale.set(name, wanted);
  }
  return stale;
}

if (import.meta.main) {
  const stale = stalePages();
  if (Deno.args.includes("--check")) {
    for (const name of stale.keys()) console.error(`docs/${name} is stale: run deno task docs`);
    process.exitCode = stale.size === 0 ? 0 : 1;
  } else {
    for (const [name, text] of stale) Deno.writeTextFileSync(FOLDER + name, text);
    console.log(stale.size === 0 ? "every page is fresh" : `wrote ${[...stale.keys()].join(", ")}`);
  }
}
