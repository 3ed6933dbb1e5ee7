/**
 * The soak as its page has it, both rigs, a few seconds each: that they run and tell what they should, not
 * that nothing leaks.
 */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { attribute, blocksOf } from "../../scripts/docs/page.ts";
import { COLUMNS } from "../../scripts/soak/monitor.ts";
import { RIGS } from "../../scripts/soak/rigs.ts";
import { Manual } from "../harness/manual.ts";

const PAGE = "docs/soak.md";

Deno.test("the soak's rigs run under load and leave their readings and pictures", async (t) => {
  const page = Deno.readTextFileSync(
    fileURLToPath(new URL(`../../${PAGE}`, import.meta.url)),
  );
  const block = blocksOf(PAGE, page).find((block) => attribute(block, "run-by") !== undefined)!;
  await using manual = new Manual();
  const { code, output } = await manual.script(block);
  // What a few seconds can show: growth takes longer, and its judgement here is worth nothing.
  assert.ok(code === 0 || code === 1, output);
  for (const rig of ["single", "pair"] as const) {
    await t.step(rig, () => {
      for (const what of ["the load generator ended with 0", "the node ended with 0"]) {
        assert.match(output, new RegExp(`^${rig}: ok +${what}`, "m"), output);
      }
      const [header, ...rows] = manual.read(`soak/${rig}.csv`).trim().split("\n");
      assert.equal(header, COLUMNS.join(","));
      assert.ok(rows.length > 0, output);
      for (const row of rows) {
        const numbers = row.split(",").filter((_, column) => column !== 1).map(Number);
        assert.equal(numbers.length, COLUMNS.length - 1);
        assert.ok(numbers.every((value) => Number.isFinite(value) && value >= 0), row);
      }
      const result = JSON.parse(manual.read(`soak/${rig}.json`));
      assert.ok(result.totals.ok > 0 && result.totals.wrong === 0, output);
      // The warm-up alone asks every model once, and not all of them fit the single worker's device.
      const evicted = Math.max(
        result.counters.after?.evicts ?? 0,
        ...rows.map((row) => Number(row.split(",")[COLUMNS.indexOf("weight_evicts")])),
      );
      assert.equal(evicted > 0, RIGS[rig].isOversubscribed, output);
      if (rows.length === 1) return console.log("this machine is too busy for two readings");
      const picture = manual.read(`soak/${rig}.svg`);
      assert.match(picture, /^<svg /);
      assert.ok(!picture.includes("NaN"));
    });
  }
});
