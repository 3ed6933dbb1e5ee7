/**
 * `deno task soak [--rig single|pair|quad|both|all] [--seconds N] [--interval N] [--out FOLDER]`: loads whole nodes of
 * CPU workers for a time and fails when they leak. Leaves `{rig}.csv`, `{rig}.svg`, `{rig}.json` (the load) and
 * `{rig}.log` (the node) in the folder.
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { RigName } from "./rigs.ts";
import { runSoak } from "./soak_run.ts";

const USAGE = `usage: deno task soak [flags]

  --rig NAME       single: one worker with more models than its device takes; pair: two workers and a
                   gateway in lpt_packing, all models fit; quad: the same with four; both: single
                   and pair (default); all
  --seconds N      how long each rig is loaded (default 60; a real soak takes 600 or more)
  --interval N     seconds between readings (default: a 300th of the time, 0.5 to 15)
  --concurrency N  requests in flight (default 8)
  --rate N         requests per second (default 0: as many as the concurrency gives)
  --heap-mib N     bound on each process's JavaScript heap, so that garbage does not look like a leak
                   (default 96; 0: V8's own, a share of the machine's memory)
  --models N       models with weights of 2 MiB (default 10)
  --out FOLDER     default dist/soak`;

const RIG_CHOICES: Readonly<Record<string, readonly RigName[]>> = {
  single: ["single"],
  pair: ["pair"],
  quad: ["quad"],
  both: ["single", "pair"],
  all: ["single", "pair", "quad"],
};

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      rig: { type: "string", default: "both" },
      seconds: { type: "string", default: "60" },
      interval: { type: "string" },
      concurrency: { type: "string", default: "8" },
      rate: { type: "string", default: "0" },
      "heap-mib": { type: "string", default: "96" },
      models: { type: "string", default: "10" },
      out: { type: "string", default: fileURLToPath(new URL("../../dist/soak", import.meta.url)) },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  const rigs = RIG_CHOICES[values.rig];
  const seconds = Number(values.seconds);
  const interval = Number(values.interval ?? Math.min(15, Math.max(0.5, seconds / 300)));
  const [concurrency, models] = [Number(values.concurrency), Number(values.models)];
  const [rate, heapMib] = [Number(values.rate), Number(values["heap-mib"])];
  const isUsable = rate >= 0 && heapMib >= 0 && rigs !== undefined && seconds >= 5 &&
    interval > 0 && concurrency >= 1 &&
    Number.isInteger(models) && models >= 6;
  if (values.help || !isUsable) {
    console.error(USAGE);
    return values.help ? 0 : 2;
  }
  let isGood = true;
  for (const rig of rigs) {
    const result = await runSoak({
      rig,
      seconds,
      intervalSeconds: interval,
      outFolder: values.out,
      concurrency,
      rate,
      heapMib,
      heavyModels: models,
      print: console.log,
    });
    for (const finding of result.findings) console.log(`${rig}: ${finding}`);
    console.log(
      `${rig}: ${result.isGood ? "GOOD" : "BAD"}; ${result.csvFile} ${result.pictureFile}`,
    );
    isGood &&= result.isGood;
  }
  return isGood ? 0 : 1;
}

if (import.meta.main) process.exitCode = await main();
