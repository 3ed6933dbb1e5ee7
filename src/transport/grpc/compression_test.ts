import assert from "node:assert/strict";
import { deflateSync, gunzipSync, gzipSync } from "node:zlib";
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
  for (const [encoding, pack] of [["gzip", gzipSync], ["deflate", deflateSync]] as const) {
    const packed = new Uint8Array(pack(text));
    const parts = [packed.subarray(0, 20), packed.subarray(20)];
    const message = await decompress(parts, encoding, text.length);
    assert.deepEqual(new Uint8Array(joinMessage(message)), text);
    await assert.rejects(decompress([packed], encoding, text.length - 1), ResourceExhaustedError);
    const nothing = await decompress([pack(new Uint8Array(0))], encoding, 0);
    assert.equal(joinMessage(nothing).length, 0);
  }
});

Deno.test("decompress() stops a bomb at the limit", async () => {
  const bomb = new Uint8Array(gzipSync(new Uint8Array(256 << 20)));
  await assertNoGrowth({
    what: "bombs",
    perRound: 1,
    round: () => assert.rejects(decompress([bomb], "gzip", 1 << 20), ResourceExhaustedError),
    residentBytesEach: 64 << 20,
    isCollected: false,
  });
});

Deno.test("decompress() refuses what is not of the format, or not all of it", async () => {
  const wrong = [text.subarray(0, 100), new Uint8Array(0)];
  for (const bytes of [...wrong, gzipSync(text).subarray(0, 50), deflateSync(text)]) {
    await assert.rejects(decompress([new Uint8Array(bytes)], "gzip", 1 << 20), InternalError);
  }
  for (const bytes of [...wrong, deflateSync(text).subarray(0, 50), gzipSync(text)]) {
    const given = decompress([new Uint8Array(bytes)], "deflate", 1 << 20);
    await assert.rejects(given, { status: "INTERNAL", message: "Message is not valid deflate" });
  }
});

Deno.test("encoding names", () => {
  assert.deepEqual(["identity", "gzip", "deflate", "snappy", ""].map(encodingOf), [
    "identity",
    "gzip",
    "deflate",
    undefined,
    undefined,
  ]);
  assert.ok(acceptsGzip("identity, deflate, gzip"));
  assert.ok(!acceptsGzip("identity,xgzip"));
});
