/** Refusing keys nobody reads: a mistyped key must not quietly mean "default". */

import { ConfigError } from "../errors.ts";
import { suggestion } from "../nearest.ts";
import { show } from "./rows.ts";
import { fileSpelling, MODEL_HOOKS_ROWS, MODEL_ROWS, SERVER_KEYS } from "./server_config.ts";
import { isMapping, type Mapping } from "./yaml.ts";

/** Keys that were taken away, with what to use instead. Using one stops the start. */
export const REMOVED_KEYS: Readonly<Record<string, string>> = {
  "batch_policy": "use scheduler.models.<name>.max_batch_size",
  "runtime.residency_mode": "use model_control_mode (explicit means externally managed)",
};

const PATHS = new Set(SERVER_KEYS.map((key) => key.path));
const BLOCKS = new Set(
  SERVER_KEYS.filter((key) => key.path.includes(".")).map((key) => key.path.split(".")[0]!),
);
/** Blocks with a `models` block of their own, and the keys each model may have there. */
const MODEL_KEYS = new Map<string, ReadonlySet<string>>([
  ["scheduler", new Set(Object.keys(MODEL_ROWS).map(fileSpelling))],
  ["hooks", new Set(Object.keys(MODEL_HOOKS_ROWS).map(fileSpelling))],
]);

/**
 * Checks the key names of a block of server settings (`global`, or a worker entry without its own
 * keys). `at` is the block's place in the file, `alsoKnown` further keys it may hold.
 *
 * @throws {ConfigError} for an unknown or removed key, or a block that is not a mapping
 */
export function checkServerKeys(
  block: Mapping,
  file: string,
  at: string,
  alsoKnown: readonly string[] = [],
): void {
  const topLevel = [...[...PATHS].filter((path) => !path.includes(".")), ...BLOCKS, ...alsoKnown];
  for (const [key, value] of Object.entries(block)) {
    if (BLOCKS.has(key)) checkBlock(key, value, file, `${at}.${key}`);
    else checkKey(key, key, topLevel, file, `${at}.${key}`);
  }
}

function checkBlock(name: string, value: unknown, file: string, at: string): void {
  const known = [...PATHS].filter((path) => path.startsWith(`${name}.`))
    .map((path) => path.slice(name.length + 1));
  const modelKeys = MODEL_KEYS.get(name);
  if (modelKeys) known.push("models");
  for (const [key, inner] of Object.entries(asBlock(value, file, at))) {
    checkKey(key, `${name}.${key}`, known, file, `${at}.${key}`);
    if (modelKeys && key === "models") checkModels(name, modelKeys, inner, file, `${at}.models`);
  }
}

function checkModels(
  name: string,
  known: ReadonlySet<string>,
  value: unknown,
  file: string,
  at: string,
): void {
  for (const [model, block] of Object.entries(asBlock(value, file, at))) {
    for (const key of Object.keys(asBlock(block, file, `${at}.${model}`))) {
      checkKey(key, `${name}.models.*.${key}`, known, file, `${at}.${model}.${key}`);
    }
  }
}

/** @throws {ConfigError} when `key` is removed or not among the known ones */
export function checkKey(
  key: string,
  path: string,
  known: Iterable<string>,
  file: string,
  at: string,
): void {
  const successor = Object.hasOwn(REMOVED_KEYS, path) ? REMOVED_KEYS[path] : undefined;
  if (successor !== undefined) {
    throw new ConfigError(`${file}: ${at} is no longer supported; ${successor}`);
  }
  const names = [...known];
  if (!names.includes(key)) {
    throw new ConfigError(`${file}: unknown key ${at}${suggestion(key, names)}`);
  }
}

/** A block as a mapping; an empty one (null) counts as having no keys. */
export function asBlock(value: unknown, file: string, at: string): Mapping {
  if (value === null || value === undefined) return {};
  if (isMapping(value)) return value;
  throw new ConfigError(`${file}: ${at} must be a mapping, got ${show(value)}`);
}
