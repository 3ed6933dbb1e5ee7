import assert from "node:assert/strict";
import { InlinePolicy } from "./inline_policy.ts";

/** Calls until the policy decides otherwise, at most `limit`. */
function callsUntilChange(policy: InlinePolicy, micros: number, limit = 1_000_000): number {
  const before = policy.isInline;
  let calls = 0;
  while (policy.isInline === before && calls < limit) {
    policy.observe(policy.isInline, micros);
    calls++;
  }
  return calls;
}

Deno.test("InlinePolicy starts off the event loop and comes to it after a few short calls", () => {
  const policy = new InlinePolicy();
  assert.equal(policy.isInline, false);
  assert.equal(callsUntilChange(policy, 50), 4);
  assert.equal(policy.isInline, true);
  assert.equal(callsUntilChange(policy, 50, 10_000), 10_000, "and stays");
});

Deno.test("InlinePolicy never brings a long program to the event loop", () => {
  const policy = new InlinePolicy();
  assert.equal(callsUntilChange(policy, 5_000, 10_000), 10_000);
  // Short now and then is not short.
  for (let round = 0; round < 1_000; round++) {
    for (const micros of [50, 50, 50, 5_000]) policy.observe(false, micros);
    assert.equal(policy.isInline, false);
  }
});

Deno.test("InlinePolicy leaves at the first very long call, not for one preemption", () => {
  const policy = new InlinePolicy();
  callsUntilChange(policy, 50);
  policy.observe(true, 1_000);
  assert.equal(policy.isInline, true);
  for (let call = 0; call < 20; call++) policy.observe(true, 20);
  policy.observe(true, 30_000);
  assert.equal(policy.isInline, false);
});

Deno.test("InlinePolicy tries again ever more rarely when the calls stay long", () => {
  const policy = new InlinePolicy();
  const pauses: number[] = [];
  for (let round = 0; round < 12; round++) {
    pauses.push(callsUntilChange(policy, 100));
    policy.observe(true, 1_000_000);
    assert.equal(policy.isInline, false);
  }
  assert.deepEqual(pauses.slice(0, 4), [4, 260, 516, 1028]);
  assert.equal(pauses.at(-1), 65_540);
});
