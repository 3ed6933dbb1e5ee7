import assert from "node:assert/strict";
import { V8_FLAGS } from "../standalone.ts";
import { heapSettings } from "./heap_share.ts";

const MiB = 2 ** 20;

Deno.test("heapSettings() has children go by the control group, and is as usual where that is large", () => {
  const usual = { v8Flags: V8_FLAGS, environment: { DENO_USE_CGROUPS: "1" } };
  assert.deepEqual(heapSettings(undefined, 2), usual);
  assert.deepEqual(heapSettings(2048 * MiB, 1), usual);
});

Deno.test("heapSettings() has less garbage lie about the less memory a child has", () => {
  const flags = "--initial-old-space-size=64";
  assert.deepEqual(heapSettings(512 * MiB, 1), {
    v8Flags: flags,
    environment: { DENO_USE_CGROUPS: "1", REACTANTSERVER_V8_FLAGS: flags },
  });
  assert.equal(heapSettings(1024 * MiB, 3).v8Flags, "--initial-old-space-size=42");
  assert.equal(heapSettings(64 * MiB, 4).v8Flags, "--initial-old-space-size=16");
});
