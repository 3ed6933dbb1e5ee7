import assert from "node:assert/strict";
import { RoundRobinRouter } from "./round_robin.ts";
import { tableOf, testRouterContract } from "./router_contract.ts";

testRouterContract("round_robin", () => new RoundRobinRouter());

Deno.test("round_robin starts each request at the next worker and fails over in rotation", () => {
  const router = new RoundRobinRouter();
  router.discovered(tableOf({ m: ["a", "b", "c"] }));
  assert.deepEqual(router.reserve("m", 1)!.workers, ["a", "b", "c"]);
  assert.deepEqual(router.reserve("m", 1)!.workers, ["b", "c", "a"]);
  assert.deepEqual(router.reserve("m", 1)!.workers, ["c", "a", "b"]);
  assert.deepEqual(router.reserve("m", 1)!.workers, ["a", "b", "c"]);
});

Deno.test("round_robin takes turns per model", () => {
  const router = new RoundRobinRouter();
  router.discovered(tableOf({ m: ["a", "b"], n: ["a", "b"] }));
  assert.equal(router.reserve("m", 1)!.workers[0], "a");
  assert.equal(router.reserve("n", 1)!.workers[0], "a");
  assert.equal(router.reserve("m", 1)!.workers[0], "b");
});

Deno.test("round_robin goes on where it was when the table is swapped", () => {
  const router = new RoundRobinRouter();
  const table = tableOf({ m: ["a", "b", "c"] });
  router.discovered(table);
  router.reserve("m", 1);
  router.discovered(table);
  assert.equal(router.reserve("m", 1)!.workers[0], "b", "the turns started again");
  // It is c's turn. c leaves: the next in order is the first again; d joins: it follows b.
  router.discovered(tableOf({ m: ["a", "b"] }));
  assert.equal(router.reserve("m", 1)!.workers[0], "a");
  router.discovered(tableOf({ m: ["a", "b", "d"] }));
  assert.equal(router.reserve("m", 1)!.workers[0], "b");
  assert.equal(router.reserve("m", 1)!.workers[0], "d");
});
