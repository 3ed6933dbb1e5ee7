/** The `workers` list of a node file: its entries, and the ports they claim. */

import { ConfigError } from "../errors.ts";
import { checkServerKeys } from "./known_keys.ts";
import { show } from "./rows.ts";
import { deepMerge, isMapping, type Mapping, valueAt } from "./yaml.ts";

/** One entry of `workers`. */
export interface WorkerEntry {
  readonly name: string;
  /** Its place in the file, for example `workers[0]`. */
  readonly at: string;
  /** gRPC port: the entry's own, else `base_port` + index. */
  readonly port: number;
  /** Where that port comes from. */
  readonly portPlace: string;
  /** HTTP port, when `metrics_base_port` gives one. */
  readonly metricsPort: number | undefined;
  readonly gpu: number | undefined;
  /** Whether it carries the reserved key `host`. */
  readonly hasHost: boolean;
  /** Settings merged over `global`. */
  readonly overrides: Mapping;
}

/** Keys of an entry that are not settings. */
const ENTRY_KEYS = ["name", "gpu", "port", "host"];

/** Other processes of a node; the names of all begin their lines in its log. */
const TAKEN_NAMES = ["gateway", "supervisor"];
/** Longest name. */
const MAX_NAME_LENGTH = 128;

/**
 * Reads and checks the list, entry by entry in declaration order.
 *
 * @throws {ConfigError} naming the first entry and key that breaks a rule
 */
export function readWorkers(raw: Mapping, global: Mapping, file: string): WorkerEntry[] {
  const list = raw["workers"];
  if (!Array.isArray(list)) {
    throw new ConfigError(
      `${file}: workers must be a list with an entry for each worker, got ${show(list)}`,
    );
  }
  if (list.length === 0) throw new ConfigError(`${file}: workers must have at least one entry`);
  list.forEach((entry, index) => {
    if (!isMapping(entry)) {
      throw new ConfigError(`${file}: workers[${index}] must be a mapping, got ${show(entry)}`);
    }
    checkServerKeys(entry, file, `workers[${index}]`, ENTRY_KEYS);
  });
  const claims = new Map<number, string>();
  const workers: WorkerEntry[] = [];
  list.forEach((entry: Mapping, index) => {
    workers.push(readEntry(entry, index, { raw, global, file, claims, workers }));
  });
  return workers;
}

interface Surroundings {
  readonly raw: Mapping;
  readonly global: Mapping;
  readonly file: string;
  /** Who has which port already. */
  readonly claims: Map<number, string>;
  readonly workers: readonly WorkerEntry[];
}

/** Names begin the lines of the log, are labels, and reach the gateway as a list with commas. */
function nameProblem(name: string): string | undefined {
  if (name === "" || name !== name.trim()) {
    return "must neither be empty nor begin or end in spaces";
  }
  if (name.length > MAX_NAME_LENGTH) return `… has more than ${MAX_NAME_LENGTH} characters`;
  // deno-lint-ignore no-control-regex
  if (/[,\x00-\x1f\x7f-\x9f]/.test(name)) return "must have no comma and no control character";
  if (TAKEN_NAMES.includes(name)) return `is the name of the node's own ${name}; choose another`;
  return undefined;
}

function readEntry(entry: Mapping, index: number, around: Surroundings): WorkerEntry {
  const { raw, file } = around;
  const at = `workers[${index}]`;
  const name = entry["name"];
  if (typeof name !== "string") {
    throw new ConfigError(`${file}: ${at}.name must be a string, got ${show(name)}`);
  }
  const problem = nameProblem(name);
  if (problem !== undefined) {
    throw new ConfigError(
      `${file}: ${at}.name ${JSON.stringify(name.slice(0, MAX_NAME_LENGTH))} ${problem}`,
    );
  }
  if (around.workers.some((worker) => worker.name === name)) {
    throw new ConfigError(
      `${file}: ${at}.name ${JSON.stringify(name)} is used twice; names must differ`,
    );
  }
  const gpu = readInteger(entry["gpu"], `${at}.gpu`, file);
  if (gpu !== undefined && gpu < 0) {
    throw new ConfigError(`${file}: ${at}.gpu must be at least 0, got ${gpu}`);
  }
  const ownPort = readInteger(entry["port"], `${at}.port`, file);
  const base = raw["base_port"];
  if (ownPort === undefined && typeof base !== "bigint") {
    throw new ConfigError(
      `${file}: base_port must be an integer because ${at} has no port of its own, ` +
        `got ${show(base)}`,
    );
  }
  const port = ownPort ?? Number(base) + index;
  const portPlace = ownPort === undefined ? `base_port + ${index}` : `${at}.port`;
  claim(port, `${at} (gRPC, ${portPlace})`, around);
  const metricsBase = readInteger(raw["metrics_base_port"], "metrics_base_port", file);
  const metricsPort = metricsBase === undefined ? undefined : metricsBase + index;
  const overrides = Object.fromEntries(
    Object.entries(entry).filter(([key]) => !ENTRY_KEYS.includes(key)),
  );
  if (metricsPort !== undefined) {
    claim(metricsPort, `${at} (metrics, metrics_base_port + ${index})`, around);
  } else {
    // A port in a settings block stands when the node gives none, so it can collide just as well.
    const set = valueAt(deepMerge(around.global, overrides), ["endpoints", "metrics_port"]);
    if (typeof set === "bigint" && set > 0n) {
      claim(Number(set), `${at} (metrics, endpoints.metrics_port)`, around);
    }
  }
  return {
    name,
    at,
    port,
    portPlace,
    metricsPort,
    gpu,
    hasHost: entry["host"] !== undefined,
    overrides,
  };
}

function claim(port: number, who: string, { claims, file }: Surroundings): void {
  const other = claims.get(port);
  if (other !== undefined) {
    throw new ConfigError(`${file}: port ${port} is wanted by both ${other} and ${who}`);
  }
  claims.set(port, who);
}

function readInteger(value: unknown, at: string, file: string): number | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "bigint") return Number(value);
  throw new ConfigError(`${file}: ${at} must be an integer, got ${show(value)}`);
}
