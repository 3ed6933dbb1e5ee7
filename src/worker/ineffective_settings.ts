/**
 * Settings that a CPU has no use for. Whoever sets one there is told so at start: a setting must never be
 * silently without effect.
 */

import type { BackendName, Origins } from "../config/mod.ts";
import type { Logger } from "../log.ts";

/** Why, by configuration path. */
const INEFFECTIVE_ON_CPU: Readonly<Record<string, string>> = {
  "runtime.autotune_cache": "only the compiler for GPUs tries kernels",
  "runtime.autotune_cache_dir": "only the compiler for GPUs tries kernels",
};

/** Warns of each such setting that was given. */
export function warnOfIneffectiveSettings(
  backend: BackendName,
  origins: Origins,
  logger: Logger,
): void {
  if (backend !== "cpu") return;
  for (const [setting, reason] of Object.entries(INEFFECTIVE_ON_CPU)) {
    const origin = origins.get(setting);
    if (origin === undefined || origin.source === "default") continue;
    logger.warn("a setting has no effect on this backend", {
      setting,
      given: origin.name,
      backend,
      reason,
    });
  }
}
