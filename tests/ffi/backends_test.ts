import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import type { RuntimeConfig } from "../../src/config/mod.ts";
import { ConfigError } from "../../src/errors.ts";
import { Logger, silentLogger } from "../../src/log.ts";
import { openBackend, probeNumerics } from "../../src/runtime/mod.ts";
import { cpuPlugin } from "./subject.ts";

function runtime(changes: Partial<RuntimeConfig>): RuntimeConfig {
  return {
    backend: "cpu",
    pjrtPlugin: cpuPlugin(),
    deviceOrdinal: 0,
    memFraction: 0.9,
    deviceMemoryBytes: 0,
    preallocate: true,
    allowCpuFallback: false,
    weightCacheFraction: 1,
    weightCacheWiggleFraction: 0.1,
    autotune: true,
    autotuneCache: undefined,
    autotuneCacheDir: "",
    numerics: "auto",
    sharedHostWeights: false,
    sharedHostWeightsMode: "666",
    compileParallelism: 0,
    workerThreads: 0,
    workerCores: "",
    ...changes,
  };
}

Deno.test("openBackend() opens what the configuration names", async () => {
  await using backend = await openBackend(runtime({}), silentLogger);
  assert.equal(backend.platform, "cpu");
  // A CPU has no other precision; here it is the program that is tried.
  assert.equal(await probeNumerics(backend), "f32");
});

Deno.test("openBackend() fails without CUDA when no fallback is allowed", async () => {
  await assert.rejects(
    openBackend(runtime({ backend: "cuda" }), silentLogger),
    (error) =>
      error instanceof ConfigError && /is for cpu, the backend is cuda/.test(error.message),
  );
});

Deno.test("openBackend() does not fall back for an ordinal beyond the devices that there are", async () => {
  await assert.rejects(
    openBackend(
      runtime({ backend: "cuda", deviceOrdinal: 99, allowCpuFallback: true }),
      silentLogger,
    ),
    (error) =>
      error instanceof ConfigError &&
      /device_ordinal 99 is out of range.*\d+ device/.test(error.message),
  );
});

const setupPlugin = new URL("../../.cache/pjrt/xla_cpu_pjrt.so", import.meta.url);

Deno.test({
  name:
    "openBackend() warns and serves from the CPU when CUDA cannot be had and a fallback is allowed",
  // The fallback is the plugin that setup fetched, whatever plugin the suite runs on.
  ignore: !existsSync(setupPlugin),
  fn: async () => {
    const lines: string[] = [];
    const logger = new Logger({ format: "json", write: (line) => lines.push(line) });
    const wanted = runtime({ backend: "cuda", deviceOrdinal: 1, allowCpuFallback: true });
    await using backend = await openBackend(wanted, logger);
    assert.equal(backend.platform, "cpu");
    assert.equal(lines.length, 1);
    const { level, reason } = JSON.parse(lines[0]!);
    assert.equal(level, "warn");
    assert.match(reason, /is for cpu, the backend is cuda/);
  },
});
