/**
 * Settings that are part of the configuration but that this version does not act on yet. Whoever sets
 * one is told so at start: a setting must never be silently without effect.
 */

import type { Origins, ServerConfig } from "../config/mod.ts";
import type { Logger } from "../log.ts";

/** What happens instead, by configuration path. */
const INEFFECTIVE: Readonly<Record<string, string>> = {
  "runtime.autotune_cache": "the compiler's own default holds",
  "runtime.autotune_cache_dir": "the compiler's own default holds",
  "runtime.numerics": "programs run with the precision they were exported with",
  "runtime.shared_host_weights": "every worker keeps its own weights",
  "runtime.shared_host_weights_mode": "every worker keeps its own weights",
  "runtime.weight_cache_fraction": "all weights stay on the device",
  "runtime.weight_cache_wiggle_fraction": "all weights stay on the device",
  "scheduler.compaction_interval": "all weights stay on the device",
};

/** Warns of each such setting that was given. */
export function warnOfIneffectiveSettings(
  config: ServerConfig,
  origins: Origins,
  logger: Logger,
): void {
  for (const [setting, instead] of Object.entries(INEFFECTIVE)) {
    const origin = origins.get(setting);
    if (origin === undefined || origin.source === "default") continue;
    logger.warn("a setting has no effect in this version", {
      setting,
      given: origin.name,
      instead,
    });
  }
  if (config.modelControlMode === "explicit") {
    logger.warn("a setting has no effect in this version", {
      setting: "model_control_mode",
      given: "explicit",
      instead: "models are loaded once, at start, and all weights stay on the device",
    });
  }
  for (const [model, { residency }] of config.scheduler.models) {
    if (residency === undefined || residency === "device") continue;
    const setting = `scheduler.models.${model}.residency`;
    logger.warn("a setting has no effect in this version", {
      setting,
      instead: "all weights stay on the device",
    });
  }
}
