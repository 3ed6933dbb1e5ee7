/** The results as a table, a page and a picture. */

import { chart } from "./chart.ts";
import type { RunResult } from "./fleet.ts";
import type { FLEET } from "./scenarios.ts";

/** Everything that was found. */
export interface Findings {
  readonly seed: number;
  /** The fleet and its load, as every scenario had it unless it says otherwise. */
  readonly load: typeof FLEET;
  readonly results: readonly { readonly name: string; readonly result: RunResult }[];
  readonly speeds: readonly { readonly name: string; readonly perSecond: number }[];
}

const average = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

/** What to print, and the two files. */
export function report(findings: Findings): { table: string; markdown: string; svg: string } {
  const rows = findings.results.map(({ name, result }) => {
    const spread = average(result.windows.map((window) => window.spread));
    const bound = average(result.windows.map((window) => window.bound));
    return { name, result, spread, bound };
  });
  const table = [
    markdownTable([
      [
        "scenario",
        "load max/mean",
        "bound",
        "worst window",
        "busy",
        "p50 ms",
        "p99 ms",
        "refused",
        "rows per dispatch",
        "weights GB/s",
        "moved per repack",
      ],
      ...rows.map(({ name, result, spread, bound }) => [
        name,
        spread.toFixed(2),
        bound.toFixed(2),
        Math.max(...result.windows.map((window) => window.spread)).toFixed(2),
        `${(result.utilization * 100).toFixed(0)} %`,
        result.p50Ms.toFixed(1),
        result.p99Ms.toFixed(0),
        `${(result.shed / result.requests * 100).toFixed(1)} %`,
        result.meanBatch.toFixed(2),
        (result.loadedBytesPerSecond / 1e9).toFixed(1),
        result.repacks === 0 ? "-" : result.movedPerRepack.toFixed(0),
      ]),
    ]),
    "",
    markdownTable([
      ["routing decisions", "per second"],
      ...findings.speeds.map(({ name, perSecond }) => [
        name,
        `${(perSecond / 1e6).toFixed(2)} million`,
      ]),
    ]),
  ].join("\n");
  const svg = chart(`Fleet simulation, seed ${findings.seed}`, [
    {
      title: "Load of the busiest worker over the mean",
      markTitle: "no placement could do better",
      bars: rows.map(({ name, spread, bound }) => ({
        label: name,
        value: spread,
        text: spread.toFixed(2),
        mark: bound,
      })),
    },
    {
      title: "Weights brought to devices, GB/s over the fleet",
      bars: rows.map(({ name, result }) => ({
        label: name,
        value: result.loadedBytesPerSecond,
        text: (result.loadedBytesPerSecond / 1e9).toFixed(1),
      })),
    },
    {
      title: "Models moved per repack",
      bars: rows.filter(({ result }) => result.repacks > 0).map(({ name, result }) => ({
        label: name,
        value: result.movedPerRepack,
        text: result.movedPerRepack.toFixed(0),
      })),
    },
  ]);
  return { table, svg, markdown: page(findings, table) };
}

function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  const widths = head!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length), 3));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(" | ")} |`;
  return [line(head!), line(widths.map((width) => "-".repeat(width))), ...body.map(line)].join(
    "\n",
  );
}

function page({ seed, load }: Findings, table: string): string {
  const { workers, models, requestsPerSecond, seconds, warmUpSeconds, budgetBytes } = load;
  return `# Fleet simulation

The gateway's own routing and packing code (\`src/gateway/routing\`, \`src/gateway/packing\`) in simulated
time; only the workers and the clock are made up. This made the page:

\`\`\`sh short=seconds:15
./scripts/deno task simulate --seed ${seed} --seconds 90 --out docs
\`\`\`

The figures of the first table are the same for the same seed on any machine; the second table is this
machine's.

${workers} workers with ${
    budgetBytes / 1e9
  } GB of weight memory each serve ${models} models of 0.1 to 3 GB.
${requestsPerSecond} requests per second arrive at random; popularity follows Zipf's law (exponent
${load.zipfExponent}), and every ${load.driftSeconds} s ${load.driftSwaps} pairs of ranks change places,
hot ones among them. A worker runs one dispatch at a time, takes along what waits for the same model up to
its batch, and loads weights that are not resident at ${
    load.loadBytesPerSecond / 1e9
  } GB/s. Measured are
the ${seconds - warmUpSeconds} s after the first ${warmUpSeconds}, the load in windows of
${load.windowSeconds} s.

![Load spread, weight traffic and churn by scenario](fleet_simulation.svg)

${table}

- **load max/mean** is the busiest worker's device time over the mean, averaged over the windows. **bound**
  is what no placement with so many replicas could have bettered: the hottest model's device time,
  divided by its replicas, over the mean, and at least 1.
- **weights** counts what was brought to devices. A mode that uses every worker for every model cannot keep
  ${models} models resident on each, so it loads all the time, and its workers are busy with that alone;
  were loading free, it would balance best of all.
- **moved per repack** counts the models whose set of workers changed; a placement that is never renewed
  moves nothing, and the last row shows what that costs as demand drifts. Repacks follow demand by an
  average over compute, so drift is seen late; the row without drift is what the packing itself leaves.

What follows for settings: give hot models as many replicas as their load needs devices (no packing can
split a model over fewer), and set a hysteresis. Without one nearly every model moves at each repack, for
little in balance, and the loading shows in the slowest requests.

The greedy pass orders models by use, so a large model of little use may find every worker filled although
everything would fit. With \`forbid_memory_oversubscription\` such a placement is repaired by moves and
swaps, then by packing anew by size. On 200 random instances of 8 workers that can be filled exactly, with
1 % of room to spare, the greedy pass alone fits none and the repair fits all; with 5 % it is 112 and all
(\`src/gateway/packing/repair.ts\`; \`pack_test.ts\` keeps a smaller version of this).
`;
}
