/** From flags, variables and a file to one typed, checked configuration that knows where it came from. */

import { ConfigError } from "../errors.ts";
import { checkVariables, type Environment } from "./environment.ts";
import { asBlock } from "./known_keys.ts";
import { type Leaf, type Row, showRefused } from "./rows.ts";
import {
  fileSpelling,
  type Key,
  MODEL_HOOKS_ROWS,
  MODEL_ROWS,
  type ModelHooksConfig,
  type ModelSchedulerConfig,
  SERVER_KEYS,
  type ServerConfig,
} from "./server_config.ts";
import { type Mapping, valueAt } from "./yaml.ts";

/** Where a value came from. `name` is the flag, the variable, or file and key; empty for a default. */
export interface Origin {
  readonly source: "flag" | "variable" | "file" | "default";
  readonly name: string;
}

/** The origin of every key, by path (`runtime.mem_fraction`, `scheduler.models.bert.weight`). */
export type Origins = ReadonlyMap<string, Origin>;

/** One worker's settings as a file gives them. */
export interface FileLayer {
  /** The file's name, for messages. */
  readonly file: string;
  readonly values: Mapping;
  /** The place in the file of a key given by the names on the way to it. */
  readonly placeOf: (path: readonly string[]) => string;
}

/** Everything a configuration is made from, strongest first. */
export interface ConfigSources {
  /** Values by flag name without dashes; several for a repeated flag. */
  readonly flags?: ReadonlyMap<string, readonly string[]>;
  readonly environment?: Environment;
  readonly file?: FileLayer;
}

/** A configuration, where each of its values came from, and what the operator should be told. */
export interface ResolvedConfig {
  readonly config: ServerConfig;
  readonly origins: Origins;
  readonly warnings: readonly string[];
}

/** Without a node file the worker is what clients talk to, so it has the public ports. */
const DEFAULTS_WITHOUT_FILE: Readonly<Record<string, Leaf>> = {
  "model_dirs": ["models"],
  "endpoints.port": 8001,
  "endpoints.metrics_port": 8002,
};

/**
 * Resolves every key: flag over variable over file over default. Types and ranges are checked here,
 * for the value that wins; what concerns several keys or the disk is `validateServerConfig`'s.
 *
 * @throws {ConfigError} naming the flag, variable or key at fault
 */
export function resolveServerConfig(sources: ConfigSources): ResolvedConfig {
  const warnings = checkVariables(sources.environment ?? {});
  const origins = new Map<string, Origin>();
  const root: Record<string, unknown> = {};
  for (const key of SERVER_KEYS) {
    const { value, origin } = resolveKey(key, sources);
    origins.set(key.path, origin);
    assign(root, key.fields, value);
  }
  assign(root, ["scheduler", "models"], resolveSchedulerModels(sources.file, origins));
  assign(root, ["hooks", "models"], resolveHooksModels(sources.file, origins));
  // Every field has a row (`RowTree`) and each row gives its field's type, so the tree is complete.
  const config = root as unknown as ServerConfig;
  return { config, origins, warnings: [...warnings, ...adviceOn(config)] };
}

/** How an origin is named in a message: the flag, the variable, file and key, or the bare key. */
export function nameOf(path: string, origins: Origins): string {
  return origins.get(path)?.name || path;
}

function resolveKey(key: Key, sources: ConfigSources): { value: Leaf; origin: Origin } {
  const given = sources.flags?.get(key.flag);
  if (given !== undefined && given.length > 0) {
    const origin: Origin = { source: "flag", name: `--${key.flag}` };
    if (key.row.kind === "list") return { value: given, origin };
    const text = given.at(-1)!;
    return { value: accept(key.row, key.row.fromText(text), origin.name, text), origin };
  }
  for (const name of [key.variable, key.otherVariable]) {
    const text = name && sources.environment?.[name];
    if (text === undefined || text === "" && isOptionalVariable(name!)) continue;
    const origin: Origin = { source: "variable", name: name! };
    return { value: accept(key.row, key.row.fromText(text), origin.name, text), origin };
  }
  if (sources.file !== undefined) {
    const path = key.path.split(".");
    const raw = valueAt(sources.file.values, path);
    if (raw !== undefined) {
      const name = `${sources.file.file}: ${sources.file.placeOf(path)}`;
      return {
        value: accept(key.row, key.row.fromFile(raw), name, raw),
        origin: { source: "file", name },
      };
    }
  }
  const fallback = sources.file === undefined && Object.hasOwn(DEFAULTS_WITHOUT_FILE, key.path)
    ? DEFAULTS_WITHOUT_FILE[key.path]
    : key.row.default;
  return { value: fallback, origin: { source: "default", name: "" } };
}

/**
 * `INFERENCE_SERVER_*` counts as set even when empty, as in the original; an empty `REACTANT_*` is how a
 * container file passes on one that is not set.
 */
function isOptionalVariable(name: string): boolean {
  return name.startsWith("REACTANT_");
}

/** Reads one field of a model's block. */
type ReadField = <T extends Leaf>(field: string, row: Row<T>) => T;

function resolveSchedulerModels(
  file: FileLayer | undefined,
  origins: Map<string, Origin>,
): Map<string, ModelSchedulerConfig> {
  return resolveModels(file, "scheduler", origins, (read, at) => {
    const residency = read("residency", MODEL_ROWS.residency);
    const isPinned = read("pinToGpu", MODEL_ROWS.pinToGpu);
    const pin = `${at}.pin_to_gpu`;
    if (residency === undefined && isPinned) origins.set(`${at}.residency`, origins.get(pin)!);
    // It has no field of its own.
    origins.delete(pin);
    return {
      weight: read("weight", MODEL_ROWS.weight),
      residency: residency ?? (isPinned ? "device" : undefined),
      maxBatchSize: read("maxBatchSize", MODEL_ROWS.maxBatchSize),
      batchWaitSeconds: read("batchWaitSeconds", MODEL_ROWS.batchWaitSeconds),
    };
  });
}

function resolveHooksModels(
  file: FileLayer | undefined,
  origins: Map<string, Origin>,
): Map<string, ModelHooksConfig> {
  return resolveModels(file, "hooks", origins, (read) => ({
    allowRead: read("allowRead", MODEL_HOOKS_ROWS.allowRead),
    allowNet: read("allowNet", MODEL_HOOKS_ROWS.allowNet),
    allowEnv: read("allowEnv", MODEL_HOOKS_ROWS.allowEnv),
  }));
}

/** The blocks of `<name>.models`, by model; `make` is given the path of each, too. */
function resolveModels<M>(
  file: FileLayer | undefined,
  name: string,
  origins: Map<string, Origin>,
  make: (read: ReadField, at: string) => M,
): Map<string, M> {
  const models = new Map<string, M>();
  if (file === undefined) return models;
  const above = [name, "models"];
  const blocks = asBlock(valueAt(file.values, above), file.file, file.placeOf(above));
  for (const [model, value] of Object.entries(blocks)) {
    const path = [...above, model];
    const block = asBlock(value, file.file, file.placeOf(path));
    const read: ReadField = (field, row) => {
      const key = fileSpelling(field);
      const raw = block[key];
      const place = `${file.file}: ${file.placeOf([...path, key])}`;
      const origin: Origin = raw === undefined
        ? { source: "default", name: "" }
        : { source: "file", name: place };
      origins.set([...path, key].join("."), origin);
      return raw === undefined ? row.default : accept(row, row.fromFile(raw), place, raw);
    };
    models.set(model, make(read, path.join(".")));
  }
  return models;
}

function accept<T extends Leaf>(row: Row<T>, value: T | undefined, name: string, raw: unknown): T {
  if (value !== undefined) return value;
  throw new ConfigError(`${name} must be ${row.expects}, got ${showRefused(row, raw)}`);
}

function adviceOn(config: ServerConfig): string[] {
  const advice: string[] = [];
  const { sharedHostWeights, sharedHostWeightsMode } = config.runtime;
  if (sharedHostWeights && Number.parseInt(sharedHostWeightsMode, 8) === 0o666) {
    advice.push(
      "Shared host weights are writable by every user of this machine " +
        '(runtime.shared_host_weights_mode "666"); set it to "660" where that matters',
    );
  }
  return advice;
}

function assign(root: Record<string, unknown>, fields: readonly string[], value: unknown): void {
  let node = root;
  for (const field of fields.slice(0, -1)) {
    node[field] ??= {};
    node = node[field] as Record<string, unknown>;
  }
  node[fields.at(-1)!] = value;
}
