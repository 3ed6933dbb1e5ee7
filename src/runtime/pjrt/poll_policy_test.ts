import assert from "node:assert/strict";
import { PollPolicy } from "./poll_policy.ts";

/** How many of `calls` executions are polled when each outlasts the polling. */
function pollsOfLongProgram(policy: PollPolicy, calls: number): number {
  let polls = 0;
  for (let call = 0; call < calls; call++) {
    if (!policy.next()) continue;
    polls++;
    policy.observe(false);
  }
  return polls;
}

Deno.test("PollPolicy polls a short program always, through single misses", () => {
  const policy = new PollPolicy();
  for (let call = 0; call < 1_000; call++) {
    assert.equal(policy.next(), true);
    policy.observe(call % 4 === 0);
  }
});

Deno.test("PollPolicy polls a long program ever more rarely", () => {
  const policy = new PollPolicy();
  assert.equal(pollsOfLongProgram(policy, 4 + 64), 4);
  assert.equal(pollsOfLongProgram(policy, 4 + 128), 4);
  assert.equal(pollsOfLongProgram(policy, 4 + 256), 4);
  assert.ok(pollsOfLongProgram(policy, 100_000) < 120);
});

Deno.test("PollPolicy comes back to a program that has become short", () => {
  const policy = new PollPolicy();
  pollsOfLongProgram(policy, 5_000);
  let skipped = 0;
  while (!policy.next()) skipped++;
  assert.ok(skipped <= 4_096);
  policy.observe(true);
  assert.equal(pollsOfLongProgram(policy, 4 + 64), 4, "with the first pause again");
});
