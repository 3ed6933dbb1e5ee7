import assert from "node:assert/strict";
import { buildRoutingTable, sameTable } from "./routing_table.ts";
import { type IndexEntry, WorkerHealth } from "./worker_health.ts";

function index(...names: string[]): Map<string, IndexEntry> {
  return new Map(names.map((name) => [name, { name, version: "", isReady: true, reason: "" }]));
}

Deno.test("WorkerHealth tells a worker that loads from one that stops", () => {
  const health = new WorkerHealth();
  assert.equal(health.isRoutable, false);
  health.answered(false);
  assert.equal(health.state, "loading");
  assert.equal(health.isRoutable, true);
  health.answered(true);
  assert.equal(health.state, "ready");
  health.answered(false);
  assert.equal(health.state, "stopping");
  assert.equal(health.isRoutable, false);
  // Another process at the same address.
  health.unreachable();
  health.answered(false);
  assert.equal(health.state, "loading");
});

Deno.test("WorkerHealth holds on through two errors and two missing indexes, not three", () => {
  const health = new WorkerHealth();
  health.answered(true);
  health.indexed(index("m"));
  for (let i = 0; i < 2; i++) {
    health.refused();
    health.indexMissed();
  }
  assert.equal(health.state, "ready");
  assert.equal(health.models.size, 1);
  health.refused();
  health.indexMissed();
  assert.equal(health.state, "failed");
  assert.equal(health.models.size, 0);
});

Deno.test("WorkerHealth gives no grace to a worker that is gone or hangs", () => {
  const health = new WorkerHealth();
  health.answered(true);
  health.hung();
  assert.equal(health.isRoutable, false);
  health.answered(true);
  assert.equal(health.isRoutable, true);
  health.unreachable();
  assert.equal(health.isRoutable, false);
});

Deno.test("buildRoutingTable() lists ready models of routable workers, sorted", () => {
  const worker = (id: string, state: boolean | "gone", ...names: string[]) => {
    const health = new WorkerHealth();
    health.indexed(index(...names));
    if (state === "gone") health.unreachable();
    else health.answered(state);
    return { id, health };
  };
  const fleet = [
    worker("b", true, "x"),
    worker("a", false, "y", "x"),
    worker("c", "gone", "x", "z"),
  ];
  const table = buildRoutingTable(fleet);
  assert.deepEqual(table.routes, new Map([["y", ["a"]], ["x", ["a", "b"]]]));
  assert.deepEqual(table.ready, ["b"]);
  assert.ok(sameTable(table, buildRoutingTable(fleet.toReversed())));
  assert.ok(!sameTable(table, buildRoutingTable(fleet.slice(1))));
});
