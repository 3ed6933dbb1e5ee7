/** The mixed load (`tests/harness/load/mixed_load.ts`), short. */
import assert from "node:assert/strict";
import { describe, growing, runMixedLoad } from "../harness/load/mixed_load.ts";
import { MODES } from "../harness/load/tally.ts";

Deno.test({
  name: "a mixed load is answered right, every call of it, and leaves nothing behind",
  // Deno 2.8 can keep a socket that was closed while it was read (denoland/deno#35292), and the load hangs
  // up on many calls in progress.
  sanitizeResources: false,
  fn: testMixedLoad,
});

async function testMixedLoad(): Promise<void> {
  const report = await runMixedLoad({ seconds: 10, seed: 7, clients: 16 });
  const text = describe(report);
  console.log(text);
  const { tally, atRest } = report;
  assert.equal(tally.wrong, 0, text);
  assert.equal(report.lost, 0, text);
  assert.equal(report.leftOver, 0, text);
  assert.deepEqual(report.errors, []);
  // All of it really happened.
  assert.deepEqual([...tally.statuses.keys()].sort(), [...MODES].sort());
  assert.equal(tally.latencies.size, 8, text);

  assert.equal(new Set(atRest.map(({ nativeHandles }) => nativeHandles)).size, 1, text);
  assert.deepEqual(growing(atRest), [], text);
}
