/** Tables of settings, from the rows that the program itself reads and checks with. */

import {
  fileSpelling,
  GATEWAY_KEYS,
  type Key,
  MODEL_HOOKS_ROWS,
  MODEL_ROWS,
  MODEL_SCHEDULING_ROWS,
  NODE_KEYS,
  type Row,
  SERVER_KEYS,
} from "../../src/config/mod.ts";
import { CONFIG_FLAGS, NODE_FLAGS } from "../../src/cli/config_flags.ts";
import { code, table } from "./markdown.ts";

/** What the keys of a node file itself mean; the program knows their names and checks their values. */
const NODE_KEY_MEANINGS: Readonly<Record<string, readonly [values: string, meaning: string]>> = {
  model_repo: ["a path", "the folder of bundles; required"],
  base_port: [
    "an integer",
    "worker i serves gRPC on base_port + i, unless it has a port of its own",
  ],
  metrics_base_port: [
    "an integer",
    "worker i serves HTTP on metrics_base_port + i; unset: it does not",
  ],
  gpus: [
    "auto, a count, or a list of ordinals or UUIDs",
    "the node's devices; unset: auto, which looks for them",
  ],
  role: ["one of all, workers, gateway", "what the supervisor starts; unset: all"],
  shared_host_weights: [
    "true or false",
    "runtime.shared_host_weights of every worker that does not say it itself",
  ],
  global: ["a mapping of settings", "settings of every worker"],
  workers: [
    "a list of mappings",
    "name, optionally gpu and port, and settings that are merged over global; unset: one per device",
  ],
  models: [
    "model names to lists of worker names",
    "weights that stay on these workers' devices; every worker loads every bundle anyway",
  ],
  gateway: ["anything", "accepted, without effect: the gateway has a file of its own"],
};

/** The keys of a node file. */
export function nodeKeys(): string {
  return table([
    ["Key", "Values", "Meaning"],
    ...NODE_KEYS.map((key) => {
      const known = NODE_KEY_MEANINGS[key];
      if (known === undefined) throw new TypeError(`scripts/docs does not explain the key ${key}`);
      return [code(key), ...known];
    }),
  ]);
}

/** Every setting of a worker, a table per block. */
export function serverKeys(): string {
  return keyTables(SERVER_KEYS);
}

/** Every setting of the gateway, a table per block. */
export function gatewayKeys(): string {
  return keyTables(GATEWAY_KEYS);
}

/** What can be set per model in the node file. */
export function modelKeys(): string {
  return rowTable([
    ["scheduler.models.NAME.", MODEL_ROWS],
    ["hooks.models.NAME.", MODEL_HOOKS_ROWS],
  ]);
}

/** What can be set per model in the gateway's file. */
export function gatewayModelKeys(): string {
  return rowTable([["scheduling.models.NAME.", MODEL_SCHEDULING_ROWS]]);
}

/** Flags and variables of a node that are no setting of a worker or of the gateway. */
export function nodeFlags(): string {
  const settings = new Set([...SERVER_KEYS, ...GATEWAY_KEYS].map(({ flag }) => flag));
  const flags = [...CONFIG_FLAGS, ...NODE_FLAGS].filter(({ name }) => !settings.has(name));
  return table([
    ["Variable", "Flag", "Default", "Meaning"],
    ...flags.map(({ name, variable, help, default: fallback }) => [
      code(variable ?? ""),
      code(`--${name}`),
      code(fallback ?? ""),
      help.replaceAll("`", ""),
    ]),
  ]);
}

function keyTables(keys: readonly Key[]): string {
  const blocks = new Map<string, Key[]>();
  for (const key of keys) {
    const block = key.path.includes(".") ? key.path.split(".")[0]! : "";
    blocks.set(block, [...blocks.get(block) ?? [], key]);
  }
  return Array.from(blocks, ([block, members]) => {
    const heading = block === "" ? "Of the file's top level:" : `In the block ${code(block)}:`;
    return `${heading}\n\n${
      table([
        ["Key", "Values", "Default", "Variable", "Flag", "Meaning"],
        ...members.map(({ path, row, variable, flag }) => [
          code(path),
          row.expects,
          code(fallbackOf(row)),
          code(variable),
          code(`--${flag}`),
          row.help,
        ]),
      ])
    }`;
  }).join("\n\n");
}

function rowTable(
  groups: readonly (readonly [prefix: string, rows: Readonly<Record<string, Row>>])[],
): string {
  return table([
    ["Key", "Values", "Default", "Meaning"],
    ...groups.flatMap(([prefix, rows]) =>
      Object.entries(rows).map(([field, row]) => [
        code(prefix + fileSpelling(field)),
        row.expects,
        code(fallbackOf(row)),
        row.help,
      ])
    ),
  ]);
}

/** A default as a file would say it; empty where there is none. */
function fallbackOf({ default: value }: Row): string {
  if (value === undefined || value === "" || (Array.isArray(value) && value.length === 0)) {
    return "";
  }
  return String(value);
}
