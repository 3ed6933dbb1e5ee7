/**
 * What the configuration means to XLA: the `DebugOptions` that travel with every compilation, and through
 * them part of the executable cache's key.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import type { RuntimeConfig } from "../config/mod.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import type { Backend, CompileSettings } from "./backend.ts";

/** How FP32 matrix products and convolutions of one worker are computed. */
export type EffectiveNumerics = "f32" | "auto" | "tf32";

/**
 * `numerics` as it works out on a platform. Only CUDA has TF32; everywhere else FP32 is computed as such.
 */
export function effectiveNumerics(
  { numerics }: Pick<RuntimeConfig, "numerics">,
  platform: string,
): EffectiveNumerics {
  return platform === "cuda" ? numerics : "f32";
}

/**
 * For NVIDIA's libraries, which read it once: 0 keeps cuBLAS and cuDNN from TF32, whatever they are asked
 * for. To be called before the client exists.
 */
export function announceNumerics({ numerics }: Pick<RuntimeConfig, "numerics">): void {
  if (numerics === "f32") Deno.env.set("NVIDIA_TF32_OVERRIDE", "0");
}

/**
 * Settings of every compilation on a backend. `auto` and `tf32` change nothing: XLA computes FP32 products
 * of default precision in TF32 where the device has it, and honours what a program asks for. No option
 * forbids that, so `f32` leaves all products to NVIDIA's libraries, which `announceNumerics` has told.
 */
export function compileSettings(
  runtime: Pick<RuntimeConfig, "numerics" | "autotune" | "autotuneCache" | "autotuneCacheDir">,
  backend: Pick<Backend, "platform" | "fingerprint">,
  logger: Logger,
): CompileSettings {
  const autotuneLevel = runtime.autotune ? {} : { autotuneLevel: 0 };
  if (backend.platform !== "cuda") return autotuneLevel;
  const overrides: Record<string, string | boolean> = {};
  if (runtime.numerics === "f32") overrides.xla_gpu_enable_triton_gemm = false;
  const folder = autotuneCacheFolder(runtime, backend, logger);
  if (folder !== undefined) overrides.xla_gpu_per_fusion_autotune_cache_dir = folder;
  return { ...autotuneLevel, ...(Object.keys(overrides).length > 0 ? { overrides } : {}) };
}

/** XLA leaves telling its versions apart to whoever names the folder, and wants it to exist. */
function autotuneCacheFolder(
  { autotuneCache, autotuneCacheDir }: Pick<RuntimeConfig, "autotuneCache" | "autotuneCacheDir">,
  { fingerprint }: Pick<Backend, "fingerprint">,
  logger: Logger,
): string | undefined {
  if (autotuneCache === false) return undefined;
  if (autotuneCacheDir === "") {
    if (autotuneCache) {
      logger.warn("autotune results are not kept: no folder is known", {
        setting: "runtime.autotune_cache",
        remedy: "give runtime.autotune_cache_dir",
      });
    }
    return undefined;
  }
  const build = createHash("sha256").update(fingerprint).digest("hex").slice(0, 16);
  const folder = join(autotuneCacheDir, `xla-${build}`);
  try {
    Deno.mkdirSync(folder, { recursive: true });
  } catch (error) {
    logger.warn("autotune results are not kept: the folder cannot be made", {
      setting: "runtime.autotune_cache_dir",
      folder,
      reason: messageOf(error),
    });
    return undefined;
  }
  return folder;
}
