import assert from "node:assert/strict";
import { fuzz } from "../../scripts/fuzz_http2/mod.ts";

Deno.test("the HTTP/2 and HPACK layers survive 200 000 mutated frames", async () => {
  // Always the same ones; the script goes on with others.
  const { cases, frames } = await fuzz(1, 200_000);
  assert.ok(frames >= 200_000 && cases > 1000, `${cases} cases, ${frames} frames`);
});
