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

Deno.test({
  name: "every command of the manual does what its page says",
  // Servers are ended with their pages; what the runtime counts as leaked are their streams.
  async fn(t) {
    await using manual = new Manual();
    const only = Deno.env.get("MANUAL_PAGES")?.split(",");
    for (const page of only ?? PAGES) {
      const blocks = read(page);
      await t.step(page, () => manual.page(blocks));
    }
  },
});
