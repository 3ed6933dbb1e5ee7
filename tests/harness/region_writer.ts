/**
 * A process that is killed while it fills a shared region of weights: it fills half, says so, and waits.
 *
 *     deno run -A region_writer.ts KEY BYTES
 */

import { silentLogger } from "../../src/log.ts";
import { acquireRegion } from "../../src/runtime/mod.ts";

if (import.meta.main) {
  const [key, bytes] = Deno.args as [string, string];
  await acquireRegion({
    key: Uint8Array.fromHex(key),
    byteLength: Number(bytes),
    source: { model: "killed", path: "/nowhere", identity: "none" },
    mode: 0o600,
    logger: silentLogger,
    fill: async (target, start) => {
      target.bytes(start, Number(bytes) / 2).fill(0xff);
      console.log("half");
      await new Promise((resolve) => setTimeout(resolve, 600_000));
    },
  });
}
