/**
 * Draws `docs/status_page.png`: the page of a node of two workers behind lpt_packing, under load, in a
 * headless Chromium.
 *
 *     deno run -A scripts/status_page.ts [OUTPUT]
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { findBrowser, openPage } from "../tests/harness/browser.ts";
import { HEAVY_BYTES, writeSoakModels } from "./soak/models.ts";
import { startNode } from "./soak/node.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const output = Deno.args[0] ?? join(root, "docs/status_page.png");
const HEAVY_MODELS = 6;
/** As many as fit one worker's device: what is placed elsewhere leaves it. */
const FITTING = 4;
/** Time for the lines below the figures to be drawn, and for a few repacks. */
const SECONDS = 80;
const SIZE = { width: 1200, height: 900, scheme: "light" } as const;

const browser = await findBrowser();
if (browser === undefined) throw new Error("there is no chromium to draw the page with");
const folder = await Deno.makeTempDir({ prefix: "status-page-" });
try {
  const modelRepo = join(folder, "models");
  await Deno.mkdir(modelRepo);
  await writeSoakModels(modelRepo, HEAVY_MODELS);
  for (const { name } of Deno.readDirSync(modelRepo)) {
    if (!name.startsWith("heavy")) await Deno.remove(join(modelRepo, name), { recursive: true });
  }
  await using node = await startNode({
    folder,
    modelRepo,
    workers: 2,
    global: {
      runtime: { backend: "cpu", device_memory_bytes: Math.ceil(FITTING * HEAVY_BYTES / 0.8) },
      scheduler: { discipline: "fifo" },
    },
    env: {
      REACTANT_GATEWAY_SCHEDULING_MODE: "lpt_packing",
      REACTANT_GATEWAY_SCHEDULING_REBALANCE_COMPUTE_SECONDS: "2",
      REACTANT_GATEWAY_SCHEDULING_FIRST_REBALANCE_COMPUTE_SECONDS: "0.5",
    },
  });
  const loads = ["heavy0=6,heavy1=3", "heavy2=2,heavy3,heavy4,heavy5"].map((models, index) =>
    new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--no-check", join(root, "main.ts"), "loadgen"],
        ...["--gateway", `127.0.0.1:${node.grpcPort}`, "--metrics", "off", "--models", models],
        ...["--rate", index === 0 ? "120" : "60", "--batch-mode", "rows"],
        ...["--duration-seconds", "600"],
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn()
  );
  try {
    await using page = await openPage(browser, `http://127.0.0.1:${node.httpPort}/`);
    await page.present(SIZE);
    await new Promise((resolve) => setTimeout(resolve, SECONDS * 1000));
    if (page.complaints.length > 0) throw new Error(page.complaints.join("\n"));
    await Deno.writeFile(output, await page.screenshot());
    console.log(`wrote ${output}`);
  } finally {
    for (const load of loads) load.kill("SIGTERM");
    await Promise.all(loads.map(({ status }) => status));
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
