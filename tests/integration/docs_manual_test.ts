/**
 * Every command of the manual, run as a reader would: page by page, with the server that Getting started
 * starts running throughout.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { type Block, blocksOf, isRun } from "../../scripts/docs/page.ts";
import { goTool, lacksGoTool } from "../harness/go_tools.ts";
import { Manual } from "../harness/manual.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

/** In the order in which they are meant to be read; pages that are not here have nothing to run. */
const PAGES = [
  "getting_started",
  "from_triton",
  "node_configuration",
  "bundles_and_hooks",
  "meta_models",
  "on_demand_weights",
  "scheduling",
  "gateway",
  "metrics",
  "control",
  "security",
  "troubleshooting",
  "deployment",
  "packaging",
  "performance",
  "transport",
  "fleet_simulation",
];

function read(path: string): Block[] {
  return blocksOf(path, Deno.readTextFileSync(root + path));
}

Deno.test("no page with commands is left out", () => {
  const pages = [...Deno.readDirSync(`${root}docs`)].map(({ name }) => `docs/${name}`);
  for (const path of ["README.md", ...pages].filter((name) => name.endsWith(".md"))) {
    if (PAGES.some((page) => path === `docs/${page}.md`)) continue;
    const scripts = read(path).filter(isRun);
    if (scripts.length > 0) throw new Error(`${scripts[0]!.place} is run by nobody`);
  }
});

/** Programs of the pages that a machine may lack. */
const PROGRAMS = ["curl", "openssl"];

function missingProgram(blocks: readonly Block[]): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return PROGRAMS.find((program) =>
    blocks.some((block) => isRun(block) && new RegExp(`\\b${program} `).test(block.text)) &&
    !folders.some((folder) => exists(`${folder}/${program}`))
  );
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

Deno.test({
  name: "every command of the manual does what its page says",
  async fn(t) {
    // Those that this machine can have, which a clean checkout has not built yet.
    for (const tool of ["grpcurl", "ghz"] as const) {
      if (lacksGoTool(tool) === undefined) await goTool(tool);
    }
    await using manual = new Manual();
    for (const page of Deno.env.get("MANUAL_PAGES")?.split(",") ?? PAGES) {
      const blocks = read(`docs/${page}.md`);
      const missing = missingProgram(blocks);
      if (missing === undefined) {
        await t.step(page, async () => {
          await manual.page(blocks);
          if (page === "fleet_simulation") checkSimulation((path) => manual.read(path));
        });
      } else await leftOut(t, page, missing);
      for (const block of blocks) {
        const lacking = manual.lacking(block);
        if (lacking !== undefined) await leftOut(t, block.place, lacking);
      }
    }
  },
});

/** Named in the list of tests, where also those see it who are shown nothing else. */
async function leftOut(t: Deno.TestContext, what: string, program: string): Promise<void> {
  await t.step({
    name: `${what} needs ${program}, which this machine has not`,
    ignore: true,
    fn: () => {},
  });
}

/** The page and its picture are what the simulation writes, figures aside: fewer seconds give others. */
function checkSimulation(written: (path: string) => string): void {
  const [page, picture] = ["docs/fleet_simulation.md", "docs/fleet_simulation.svg"] as const;
  const ours = (path: string) => Deno.readTextFileSync(root + path);
  const withoutFigures = (text: string) =>
    text.replaceAll(/\d+(\.\d+)?/g, "#").replaceAll(/(?<=\| +)-(?= +\|)/g, "#")
      .replaceAll(/-{3,}/g, "-").replaceAll(/\s+/g, " ");
  // What the command itself says is of the run, and so is how long is measured.
  assert.equal(withoutFigures(written(page)), withoutFigures(ours(page)));
  const labels = (svg: string) =>
    [...svg.matchAll(/<text x="([^"]*)" y="([^"]*)" text-anchor="end">([^<]*)/g)].slice(0, 11)
      .map((found) => found.slice(1));
  assert.equal(labels(ours(picture)).length, 11);
  assert.deepEqual(labels(written(picture)), labels(ours(picture)));
}
