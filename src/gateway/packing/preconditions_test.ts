import assert from "node:assert/strict";
import { fleetReport, modelReport } from "../routing/router_contract.ts";
import { checkPackable, fleetReadiness } from "./preconditions.ts";

Deno.test("fleetReadiness() tells who has answered from who has not", () => {
  assert.deepEqual(fleetReadiness(["c", "b", "a"], fleetReport(["b"], [])), {
    ready: ["b"],
    pending: ["a", "c"],
  });
});

Deno.test("checkPackable() accepts fifo and edf with the same models in any order", () => {
  const [m, n] = [modelReport("m"), modelReport("n")];
  checkPackable({
    atSeconds: 0,
    workers: [
      { worker: "a", discipline: "fifo", models: [m, n], weightBudgetBytes: 0 },
      { worker: "b", discipline: "edf", models: [n, m], weightBudgetBytes: 0 },
    ],
  });
  checkPackable({ atSeconds: 0, workers: [] });
});

Deno.test("checkPackable() names the worker that runs fair", () => {
  const workers = [{ worker: "a:1", discipline: "fair", models: [], weightBudgetBytes: 0 }];
  assert.throws(() => checkPackable({ atSeconds: 0, workers }), {
    name: "ConfigError",
    message: /worker a:1 runs scheduler\.discipline fair/,
  });
});

Deno.test("checkPackable() names two workers whose models differ, and a model", () => {
  const { workers: [a] } = fleetReport(["a:1"], [modelReport("m"), modelReport("n")]);
  const { workers: [b] } = fleetReport(["b:1"], [modelReport("m")]);
  assert.throws(() => checkPackable({ atSeconds: 0, workers: [b!, a!] }), {
    name: "ConfigError",
    message: /a:1 has 2 and b:1 has 1.*"n"/,
  });
});
