/** A configuration as a list of settings, for people to read. */

import {
  fileSpelling,
  type Origin,
  type Origins,
  SERVER_KEYS,
  type ServerConfig,
} from "../config/mod.ts";

/** One setting. */
export interface Setting {
  readonly path: string;
  readonly value: string | number | boolean | readonly string[] | null;
  readonly origin: Origin;
}

/** Every setting in the order of the table; per-model blocks follow, with the file as their origin. */
export function settingsOf(config: ServerConfig, origins: Origins): Setting[] {
  const settings: Setting[] = SERVER_KEYS.map(({ path, fields }) => {
    let value: unknown = config;
    for (const field of fields) value = (value as Record<string, unknown>)[field];
    return {
      path,
      value: (value ?? null) as Setting["value"],
      origin: origins.get(path) ?? { source: "default", name: "" },
    };
  });
  for (const [model, block] of config.scheduler.models) {
    for (const [field, value] of Object.entries(block)) {
      settings.push({
        path: `scheduler.models.${model}.${fileSpelling(field)}`,
        value: value ?? null,
        origin: { source: "file", name: "node file" },
      });
    }
  }
  return settings;
}
