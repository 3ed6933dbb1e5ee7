/** The mixed load (`tests/harness/load/mixed_load.ts`), short. */
import assert from "node:assert/strict";
import { describe, runMixedLoad } from "../harness/load/mixed_load.ts";
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
  const { tally, before, after } = report;
  assert.equal(tally.wrong, 0, text);
  assert.equal(report.lost, 0, text);
  assert.equal(report.leftOver, 0, text);
  assert.deepEqual(report.errors, []);
  // All of it really happened.
  assert.deepEqual([...tally.statuses.keys()].sort(), [...MODES].sort());
  assert.equal(tally.latencies.size, 8, text);

  assert.equal(after.nativeHandles, before.nativeHandles, text);
  // Hook workers come and go, each with half a dozen descriptors and a heap of its own.
  assert.ok(after.descriptors <= before.descriptors + 24, text);
  assert.ok(after.heapBytes <= before.heapBytes + 2 ** 25, text);
  assert.ok(after.residentBytes <= before.residentBytes + 2 ** 26, text);
}
