import assert from "node:assert/strict";
import { alignedBytes, DEVICE_ALIGNMENT } from "./aligned.ts";

Deno.test("alignedBytes() gives zeroed memory of the length at a device's alignment", () => {
  for (const length of [16_384, 16_385, 50_176, 1 << 20]) {
    const data = alignedBytes(length);
    assert.equal(data.length, length);
    assert.ok(data.every((byte) => byte === 0));
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(data));
    assert.equal(address % BigInt(DEVICE_ALIGNMENT), 0n);
  }
  assert.equal(alignedBytes(0).length, 0);
  assert.equal(alignedBytes(100).buffer.byteLength, 100);
});
