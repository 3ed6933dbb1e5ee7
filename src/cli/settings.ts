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

/** Blocks per model, by path. */
const MODEL_BLOCKS: readonly (readonly [
  path: string,
  blocks: (config: ServerConfig) => ReadonlyMap<string, object>,
])[] = [
  ["scheduler.models", (config) => config.scheduler.models],
  ["hooks.models", (config) => config.hooks.models],
];

/** Every setting in the order of the table; per-model blocks follow. */
export function settingsOf(config: ServerConfig, origins: Origins): Setting[] {
  const originOf = (path: string): Origin => origins.get(path) ?? { source: "default", name: "" };
  const settings: Setting[] = SERVER_KEYS.map(({ path, fields }) => {
    let value: unknown = config;
    for (const field of fields) value = (value as Record<string, unknown>)[field];
    return {
      path,
      value: (value ?? null) as Setting["value"],
      origin: originOf(path),
    };
  });
  for (const [path, blocks] of MODEL_BLOCKS) {
    for (const [model, block] of blocks(config)) {
      for (const [field, value] of Object.entries(block)) {
        const key = `${path}.${model}.${fileSpelling(field)}`;
        settings.push({
          path: key,
          value: (value ?? null) as Setting["value"],
          origin: originOf(key),
        });
      }
    }
  }
  return settings;
}
