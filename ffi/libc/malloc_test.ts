import assert from "node:assert/strict";
import { releaseFreeMemory } from "./mod.ts";

Deno.test("releaseFreeMemory() can be called at any time, and twice at once", async () => {
  const done = await Promise.all([releaseFreeMemory(), releaseFreeMemory()]);
  assert.deepEqual(done, [undefined, undefined]);
});
