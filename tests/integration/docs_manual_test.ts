/**
 * Every command of the manual, run as a reader would: page by page, with the server that Getting started
 * starts running throughout.
 */
import { fileURLToPath } from "node:url";
import { type Block, blocksOf } from "../../scripts/docs/page.ts";
import { Manual } from "../harness/manual.ts";

const docs = fileURLToPath(new URL("../../docs/", import.meta.url));

/** Pages of parts of the program whose own tests and reports they come with. */
const OTHERS = ["fleet_simulation", "packaging", "performance", "soak", "transport"];

/** In the order in which they are meant to be read; pages that are not here have nothing to run. */
const PAGES = [
  "getting_started",
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
];

function read(name: string): Block[] {
  return blocksOf(`docs/${name}.md`, Deno.readTextFileSync(`${docs}${name}.md`));
}

const isScript = (block: Block) => block.language === "sh" && block.words[0] !== "no-run";

Deno.test("no page with commands is left out", () => {
  for (const { name } of Deno.readDirSync(docs)) {
    const page = name.replace(/\.md$/, "");
    if (page === name || PAGES.includes(page) || OTHERS.includes(page)) continue;
    const scripts = read(page).filter(isScript);
    if (scripts.length > 0) throw new Error(`${scripts[0]!.place} is run by nobody`);
  }
});

/** Programs of the pages that a machine may lack. */
const PROGRAMS = ["curl", "openssl"];

function missingProgram(blocks: readonly Block[]): string | undefined {
  const folders = (Deno.env.get("PATH") ?? "").split(":");
  return PROGRAMS.find((program) =>
    blocks.some((block) => isScript(block) && new RegExp(`\\b${program} `).test(block.text)) &&
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
    await using manual = new Manual();
    for (const page of Deno.env.get("MANUAL_PAGES")?.split(",") ?? PAGES) {
      const blocks = read(page);
      const missing = missingProgram(blocks);
      if (missing === undefined) await t.step(page, () => manual.page(blocks));
      else console.log(`NOT RUN: docs/${page}.md needs ${missing}, which is not on this machine`);
    }
  },
});
