/**
 * The node file: one YAML mapping that describes one machine. Every worker of the machine reads the
 * same file and picks its own entry by name; the gateway never reads it.
 */

import { ConfigError } from "../errors.ts";
import { readConfigText } from "./config_text.ts";
import { asBlock, checkKey, checkServerKeys } from "./known_keys.ts";
import { readWorkers, type WorkerEntry } from "./node_workers.ts";
import { show } from "./rows.ts";
import { isMapping, type Mapping, parseMapping } from "./yaml.ts";

/** What the supervisor starts. */
export type Role = "all" | "workers" | "gateway";

/** Which devices a node uses: found by looking, or these selectors (an empty list: none, a CPU node). */
export type DeviceChoice = "auto" | readonly string[];

/** A node file that has passed its structural checks. */
export interface NodeFile {
  /** As it was given, for messages. */
  readonly file: string;
  readonly modelRepo: string;
  readonly role: Role;
  readonly devices: DeviceChoice;
  readonly sharedHostWeights: boolean | undefined;
  /** Settings of all workers. */
  readonly global: Mapping;
  readonly workers: readonly WorkerEntry[];
  /** Names of the workers a model is pinned on, by model. */
  readonly models: ReadonlyMap<string, readonly string[]>;
  /** Keys that are accepted and mean nothing. */
  readonly warnings: readonly string[];
}

/** The keys of a node file. */
export const NODE_KEYS: readonly string[] = [
  "model_repo",
  "base_port",
  "metrics_base_port",
  "gpus",
  "role",
  "shared_host_weights",
  "global",
  "workers",
  "models",
  "gateway",
];
/** Every `Role`. */
export const ROLES: readonly Role[] = ["all", "workers", "gateway"];

/**
 * Reads and checks a node file.
 *
 * @throws {ConfigError} when it cannot be read or breaks a rule; the message names file, key and value
 */
export function readNodeFile(path: string): NodeFile {
  return parseNodeFile(readNodeText(path), path);
}

/** The text of a node file. @throws {ConfigError} when it cannot be read */
export function readNodeText(path: string): string {
  try {
    return readConfigText(path);
  } catch (error) {
    const problem = error instanceof Deno.errors.NotFound
      ? "does not exist; give its path with --node-file"
      : `cannot be read: ${(error as Error).message}`;
    throw new ConfigError(`Node file ${JSON.stringify(path)} ${problem}`, { cause: error });
  }
}

/** `readNodeFile` for text that is at hand; `file` is the name messages use. */
export function parseNodeFile(text: string, file: string): NodeFile {
  const raw = parseMapping(text, file);
  for (const key of Object.keys(raw)) checkKey(key, key, NODE_KEYS, file, key);
  const modelRepo = raw["model_repo"];
  if (typeof modelRepo !== "string" || modelRepo === "") {
    throw wrong(file, "model_repo", "the path of the folder that holds the bundles", modelRepo);
  }
  const global = asBlock(raw["global"], file, "global");
  checkServerKeys(global, file, "global");
  const workers = readWorkers(raw, global, file);
  const warnings = workers.filter((worker) => worker.hasHost).map((worker) =>
    `${file}: ${worker.at}.host has no effect; use ${worker.at}.endpoints.host`
  );
  if (raw["gateway"] !== undefined) {
    warnings.push(`${file}: gateway has no effect; the gateway has a file of its own`);
  }
  return {
    file,
    modelRepo,
    role: readRole(raw["role"], file),
    devices: readDevices(raw["gpus"], file),
    sharedHostWeights: readSharing(raw["shared_host_weights"], file),
    global,
    workers,
    models: readPlacement(raw["models"], workers, file),
    warnings,
  };
}

/** The role a word names, in any case. */
export function parseRole(text: string): Role | undefined {
  const word = text.trim().toLowerCase();
  return ROLES.find((known) => known === word);
}

/** A file's `role`. @throws {ConfigError} */
export function readRole(value: unknown, file: string): Role {
  if (value === undefined) return "all";
  const role = typeof value === "string" ? parseRole(value) : undefined;
  if (role === undefined) throw wrong(file, "role", `one of ${ROLES.join(", ")}`, value);
  return role;
}

/** A file's `gpus`. @throws {ConfigError} */
export function readDevices(value: unknown, file: string): DeviceChoice {
  if (value === undefined) return "auto";
  if (typeof value === "string" && value.trim().toLowerCase() === "auto") return "auto";
  if (typeof value === "bigint" && value >= 0n && value <= 1024n) {
    return Array.from({ length: Number(value) }, (_, ordinal) => String(ordinal));
  }
  if (
    Array.isArray(value) && value.length > 0 &&
    value.every((item) => typeof item === "string" || typeof item === "bigint")
  ) {
    return value.map((item) => String(item).trim());
  }
  throw wrong(file, "gpus", "auto, a count, or a non-empty list of ordinals or UUIDs", value);
}

function readSharing(value: unknown, file: string): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  throw wrong(file, "shared_host_weights", "true or false", value);
}

function readPlacement(
  value: unknown,
  workers: readonly WorkerEntry[],
  file: string,
): Map<string, readonly string[]> {
  const placement = new Map<string, readonly string[]>();
  if (value === undefined || value === null) return placement;
  if (!isMapping(value)) {
    throw wrong(file, "models", "a mapping of model names to lists of workers", value);
  }
  const known = workers.map((worker) => worker.name);
  for (const [model, names] of Object.entries(value)) {
    const at = `models.${model}`;
    if (!Array.isArray(names)) throw wrong(file, at, "a list of worker names", names);
    for (const name of names) {
      if (typeof name !== "string") throw wrong(file, at, "a list of worker names", name);
    }
    if (names.length === 0) {
      throw new ConfigError(`${file}: ${at} must name at least one worker; or leave the model out`);
    }
    for (const name of names) {
      if (known.includes(name)) continue;
      throw new ConfigError(
        `${file}: ${at} names worker ${JSON.stringify(name)}, which is not defined; ` +
          `the workers are ${known.join(", ")}`,
      );
    }
    placement.set(model, names);
  }
  return placement;
}

function wrong(file: string, key: string, expects: string, value: unknown): ConfigError {
  return new ConfigError(`${file}: ${key} must be ${expects}, got ${show(value)}`);
}
