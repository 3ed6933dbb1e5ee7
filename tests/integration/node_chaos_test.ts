/**
 * A whole node whose processes are killed, stopped and slowed under load. Short here; for longer, and with
 * the figures printed: `deno run -A tests/harness/chaos/chaos.ts --seconds 120`.
 */

import assert from "node:assert/strict";
import { describeChaos, runChaos } from "../harness/chaos/chaos.ts";

const SEED = 7;

Deno.test("a node under blows answers every request rightly and leaves nothing behind", async () => {
  const report = await runChaos({ seconds: 20, seed: SEED, workers: 3, clients: 6 });
  const text = `seed ${SEED}\n${describeChaos(report)}\n${report.log}`;
  assert.deepEqual(report.complaints, [], text);
  assert.deepEqual(report.leftOver, [], text);
  assert.equal(report.exitCode, 0, text);
  assert.ok(report.answered > 0, text);
});
