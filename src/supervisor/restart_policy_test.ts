import assert from "node:assert/strict";
import { RestartPolicy } from "./restart_policy.ts";

function delays(policy: RestartPolicy, uptimes: readonly number[]): (number | string)[] {
  return uptimes.map((uptime) => {
    const decision = policy.ended(uptime);
    return decision.action === "restart" ? decision.delaySeconds : decision.action;
  });
}

Deno.test("RestartPolicy doubles the wait up to thirty seconds", () => {
  assert.deepEqual(delays(new RestartPolicy(0), [0, 1, 0, 5, 0, 0, 59]), [1, 2, 4, 8, 16, 30, 30]);
});

Deno.test("RestartPolicy forgets what was before a stable run", () => {
  assert.deepEqual(delays(new RestartPolicy(0), [0, 0, 0, 60, 0]), [1, 2, 4, 1, 2]);
});

Deno.test("RestartPolicy gives up after its budget without a stable run", () => {
  assert.deepEqual(delays(new RestartPolicy(2), [0, 0, 0]), [1, 2, "give up"]);
  assert.deepEqual(delays(new RestartPolicy(1), [0, 61, 61, 1]), [1, 1, 1, "give up"]);
  const decision = new RestartPolicy(1);
  decision.ended(0);
  assert.deepEqual(decision.ended(0), { action: "give up", failures: 2 });
});
