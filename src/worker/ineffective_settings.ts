/**
 * Settings that are part of the configuration but that this version does not act on yet. Whoever sets
 * one is told so at start: a setting must never be silently without effect.
 */

import type { Origins } from "../config/mod.ts";
import type { Logger } from "../log.ts";

/** What happens instead, by configuration path. */
const INEFFECTIVE: Readonly<Record<string, string>> = {
  "runtime.autotune_cache": "the compiler's own default holds",
  "runtime.autotune_cache_dir": "the compiler's own default holds",
  "runtime.numerics": "programs run with the precision they were exported with",
};

/** Warns of each such setting that was given. */
export function warnOfIneffectiveSettings(
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
}
