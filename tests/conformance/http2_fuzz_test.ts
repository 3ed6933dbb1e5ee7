import assert from "node:assert/strict";
import { fuzz } from "../../scripts/fuzz_http2.ts";

Deno.test("the HTTP/2 and HPACK layers survive 200 000 mutated frames", async () => {
  const seed = Date.now() % 1_000_000_000;
  console.log(`seed ${seed}`);
  const { cases, frames } = await fuzz(seed, 200_000);
  assert.ok(frames >= 200_000 && cases > 1000, `${cases} cases, ${frames} frames`);
});
