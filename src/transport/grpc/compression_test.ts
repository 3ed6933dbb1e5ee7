import assert from "node:assert/strict";
import { gunzipSync, gzipSync } from "node:zlib";
import { assertNoGrowth } from "../../../tests/harness/growth.ts";
import { InternalError, ResourceExhaustedError } from "../../errors.ts";
import { joinMessage } from "../handler.ts";
import { acceptsGzip, compress, decompress, encodingOf } from "./compression.ts";

const text = new TextEncoder().encode("a tensor of ones, ".repeat(5000));

Deno.test("compress() writes what zlib reads, from several chunks", async () => {
  const packed = joinMessage(await compress([text.subarray(0, 10), text.subarray(10)]));
  assert.ok(packed.length < text.length / 20);
  assert.deepEqual(new Uint8Array(gunzipSync(packed)), text);
});

Deno.test("decompress() reads what zlib writes, up to the limit", async () => {
  const packed = new Uint8Array(gzipSync(text));
  const message = await decompress([packed.subarray(0, 20), packed.subarray(20)], text.length);
  assert.deepEqual(new Uint8Array(joinMessage(message)), text);
  await assert.rejects(decompress([packed], text.length - 1), ResourceExhaustedError);
  assert.equal(joinMessage(await decompress([gzipSync(new Uint8Array(0))], 0)).length, 0);
});

Deno.test("decompress() stops a bomb at the limit", async () => {
  const bomb = new Uint8Array(gzipSync(new Uint8Array(256 << 20)));
  await assertNoGrowth({
    what: "bombs",
    perRound: 1,
    round: () => assert.rejects(decompress([bomb], 1 << 20), ResourceExhaustedError),
    residentBytesEach: 64 << 20,
    isCollected: false,
  });
});

Deno.test("decompress() refuses what is not gzip, or not all of it", async () => {
  for (const bytes of [text.subarray(0, 100), new Uint8Array(0), gzipSync(text).subarray(0, 50)]) {
    await assert.rejects(decompress([new Uint8Array(bytes)], 1 << 20), InternalError);
  }
});

Deno.test("encoding names", () => {
  assert.deepEqual(["identity", "gzip", "deflate", ""].map(encodingOf), [
    "identity",
    "gzip",
    undefined,
    undefined,
  ]);
  assert.ok(acceptsGzip("identity, deflate, gzip"));
  assert.ok(!acceptsGzip("identity,xgzip"));
});
