/// <reference path="../api.d.ts" />
/// <reference path="./api.d.ts" />
import assert from "node:assert/strict";
import { helpers as built } from "./mod.ts";

Deno.test("helpers are what api.d.ts declares, no less and no more, and frozen", () => {
  // Assignable both ways: names and signatures agree, which the type check proves.
  const declared: HookHelpers = built;
  const exact: {
    [Group in keyof typeof built]: { [Name in keyof (typeof built)[Group]]: unknown };
  } = declared;
  assert.equal(exact, built);
  assert.ok(Object.isFrozen(built));
  for (const group of Object.values(built)) {
    assert.ok(Object.isFrozen(group));
    for (const helper of Object.values(group)) assert.equal(typeof helper, "function");
  }
});
