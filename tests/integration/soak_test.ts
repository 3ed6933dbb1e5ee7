/** The soak's two rigs, a few seconds each: that they run and tell what they should, not that nothing leaks. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { COLUMNS } from "../../scripts/soak/monitor.ts";
import { type RigName, RIGS } from "../../scripts/soak/rigs.ts";
import { runSoak } from "../../scripts/soak/soak_run.ts";
import { temporaryDirectory } from "../harness/bundle_builder.ts";

for (const rig of Object.keys(RIGS) as RigName[]) {
  Deno.test(`the ${rig} rig runs under load and leaves its readings and a picture`, async () => {
    await using folder = await temporaryDirectory();
    const printed: string[] = [];
    const { findings, csvFile, pictureFile } = await runSoak({
      rig,
      seconds: 4,
      intervalSeconds: 0.5,
      outFolder: join(folder.path, "out"),
      concurrency: 4,
      rate: 100,
      heapMib: 96,
      heavyModels: 6,
      print: (line) => printed.push(line),
    });
    const all = [...printed, ...findings].join("\n");
    // What a few seconds can show: growth takes longer, and is judged by the soak itself.
    for (const what of [/load generator ended with 0/, /node ended with 0/]) {
      assert.ok(findings.some((finding) => finding.startsWith("ok") && what.test(finding)), all);
    }
    const [header, ...rows] = (await Deno.readTextFile(csvFile)).trim().split("\n");
    assert.equal(header, COLUMNS.join(","));
    assert.ok(rows.length > 0, all);
    for (const row of rows) {
      const numbers = row.split(",").filter((_, column) => column !== 1).map(Number);
      assert.equal(numbers.length, COLUMNS.length - 1);
      assert.ok(numbers.every((value) => Number.isFinite(value) && value >= 0), row);
    }
    const result = JSON.parse(await Deno.readTextFile(join(folder.path, `out/${rig}.json`)));
    assert.ok(result.totals.ok > 0 && result.totals.wrong === 0, all);
    // The warm-up alone asks every model once, and not all of them fit the single worker's device.
    const evicted = Math.max(
      result.counters.after?.evicts ?? 0,
      ...rows.map((row) => Number(row.split(",")[COLUMNS.indexOf("weight_evicts")])),
    );
    assert.equal(evicted > 0, RIGS[rig].isOversubscribed, all);
    if (rows.length === 1) return console.log("this machine is too busy for two readings");
    const picture = await Deno.readTextFile(pictureFile);
    assert.match(picture, /^<svg /);
    assert.ok(!picture.includes("NaN"));
  });
}
