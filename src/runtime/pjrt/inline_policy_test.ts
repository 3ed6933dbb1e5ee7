import assert from "node:assert/strict";
import { InlinePolicy } from "./inline_policy.ts";

/** Calls of a duration until the policy decides otherwise, at most `limit`. */
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
  assert.equal(callsUntilChange(policy, 50), 8);
  assert.equal(policy.isInline, true);
  assert.equal(callsUntilChange(policy, 50, 10_000), 10_000, "and stays");
});

Deno.test("InlinePolicy finds the short program behind slow hops", () => {
  const policy = new InlinePolicy();
  for (let call = 0; call < 8; call++) policy.observe(false, call === 5 ? 150 : 900);
  assert.equal(policy.isInline, true);
});

Deno.test("InlinePolicy never brings a long program to the event loop", () => {
  const policy = new InlinePolicy();
  assert.equal(callsUntilChange(policy, 5_000, 100_000), 100_000);
});

Deno.test("InlinePolicy bears a preemption now and then, but no long calls", () => {
  const policy = new InlinePolicy();
  callsUntilChange(policy, 50);
  for (let round = 0; round < 100; round++) {
    policy.observe(true, 8_000);
    for (let call = 0; call < 20; call++) policy.observe(true, 20);
    assert.equal(policy.isInline, true);
  }
  assert.equal(callsUntilChange(policy, 1_500), 2);
});

Deno.test("InlinePolicy leaves at once when a call holds everybody up", () => {
  const policy = new InlinePolicy();
  callsUntilChange(policy, 50);
  policy.observe(true, 25_000);
  assert.equal(policy.isInline, false);
});

Deno.test("InlinePolicy tries again ever more rarely while tries fail, and afresh after success", () => {
  const policy = new InlinePolicy();
  const pauses: number[] = [];
  for (let round = 0; round < 14; round++) {
    pauses.push(callsUntilChange(policy, 100));
    policy.observe(true, 1_000_000);
  }
  assert.deepEqual(pauses.slice(0, 5), [8, 64, 128, 256, 512]);
  assert.equal(pauses.at(-1), 65_536);
  callsUntilChange(policy, 100);
  for (let call = 0; call < 1_024; call++) policy.observe(true, 100);
  policy.observe(true, 1_000_000);
  assert.equal(callsUntilChange(policy, 100), 64);
});

Deno.test("InlinePolicy ignores what was decided before its last change of mind", () => {
  const policy = new InlinePolicy();
  callsUntilChange(policy, 50);
  for (let call = 0; call < 100; call++) policy.observe(false, 50_000);
  assert.equal(policy.isInline, true);
});

Deno.test("calls that take long and are not done are forgiven once, not twice in a row", () => {
  const policy = new InlinePolicy();
  while (!policy.isInline) policy.observe(false, 50);
  for (let i = 0; i < 20; i++) {
    policy.observe(true, 45_000, false);
    assert.equal(policy.isInline, true, "preempted");
    policy.observe(true, 10, false);
  }
  policy.observe(true, 45_000, false);
  policy.observe(true, 45_000, false);
  assert.equal(policy.isInline, false, "a loop that is computed by the call");
});
