/** What a serialized executable must share with the process that loads it. */

import { createHash } from "node:crypto";
import type { PjrtClient } from "./client.ts";

const SAMPLES = 64;
const SAMPLE_BYTES = 16_384;

/**
 * A digest of the plugin build, its C API version, platform and device kind, and on a CPU of the
 * processor's features, because serialized CPU programs are machine code.
 */
export async function fingerprintOf(client: PjrtClient): Promise<string> {
  const hash = createHash("sha256");
  const { plugin } = client;
  const facts = [
    plugin.apiVersion,
    JSON.stringify([...plugin.attributes]),
    client.platformName,
    client.platformVersion,
    client.deviceKind,
    client.platformName === "cpu" ? await processorFeatures() : "",
  ];
  for (const fact of facts) hash.update(`${fact.length}:${fact}`);
  await hashSamples(plugin.path, (bytes) => hash.update(bytes));
  return hash.digest("hex");
}

/**
 * Feeds the size and evenly spaced samples of a file to `update`. Plugins are hundreds of megabytes and
 * the ones we know carry no build id; another build moves code and thereby changes the addresses in
 * nearly every sample.
 */
async function hashSamples(path: string, update: (bytes: Uint8Array) => void): Promise<void> {
  using file = await Deno.open(path, { read: true });
  const { size } = await file.stat();
  update(new TextEncoder().encode(String(size)));
  const stride = Math.max(SAMPLE_BYTES, Math.floor(size / SAMPLES));
  const sample = new Uint8Array(SAMPLE_BYTES);
  for (let at = 0; at < size; at += stride) {
    await file.seek(at, Deno.SeekMode.Start);
    const count = await file.read(sample) ?? 0;
    update(sample.subarray(0, count));
  }
}

async function processorFeatures(): Promise<string> {
  const text = await Deno.readTextFile("/proc/cpuinfo").catch(() => "");
  // x86 calls them flags, ARM Features; every core reports the same.
  return /^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1] ?? "";
}
