import assert from "node:assert/strict";
import { chooseRole } from "./role.ts";

Deno.test("chooseRole() prefers flag to variable to file to all", () => {
  const role = (flag?: string, variable?: string, file?: "all" | "workers" | "gateway") =>
    chooseRole({ flag, variable, file });
  assert.equal(role("gateway", "workers", "all"), "gateway");
  assert.equal(role(undefined, " Workers ", "gateway"), "workers");
  assert.equal(role(undefined, undefined, "gateway"), "gateway");
  assert.equal(role(undefined, "", "gateway"), "gateway");
  assert.equal(role(), "all");
});

Deno.test("chooseRole() names what is no role and who said it", () => {
  const refused = (flag: string | undefined, variable: string | undefined) => () =>
    chooseRole({ flag, variable, file: undefined });
  // The flag alone has one more, which the command line takes before anybody asks here.
  assert.throws(
    refused("boss", "all"),
    /--role must be one of all, workers, gateway, worker, got "boss"/,
  );
  assert.throws(
    refused(undefined, "worker"),
    /REACTANT_ROLE must be one of all, workers, gateway, got "worker"/,
  );
});
