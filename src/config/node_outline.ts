/**
 * A node file before its workers are known. It may leave the workers out; the supervisor puts them in,
 * one per device, and writes the file that its children read.
 */

import { stringify } from "yaml";
import { ConfigError } from "../errors.ts";
import { checkKey } from "./known_keys.ts";
import {
  type DeviceChoice,
  NODE_KEYS,
  type NodeFile,
  parseNodeFile,
  readDevices,
  readNodeText,
  readRole,
  type Role,
} from "./node_file.ts";
import { show } from "./rows.ts";
import { isMapping, type Mapping, parseMapping } from "./yaml.ts";

/** The parts of a node file that decide what its workers are. */
export interface NodeOutline {
  /** As it was given, for messages. */
  readonly file: string;
  /** What the file says; `undefined` when it says nothing. */
  readonly role: Role | undefined;
  readonly devices: DeviceChoice;
  readonly raw: Mapping;
}

/** What `materialise` is told. */
export interface MaterialiseOptions {
  /** Selectors of the devices the node uses; none: a CPU node. */
  readonly devices: readonly string[];
  /** Workers of a CPU node whose file names none. */
  readonly cpuWorkers: number;
  /** The role that won, for those who read the written file. */
  readonly role: Role;
}

/** A node with its workers. */
export interface MaterialisedNode {
  readonly node: NodeFile;
  /** The node file to write: every worker named, no `gpus`, no `gpu`. */
  readonly text: string;
  /** The device of each worker of `node`, in its order; `undefined` for a CPU worker. */
  readonly devices: readonly (string | undefined)[];
  /** Devices that no worker has. */
  readonly unused: readonly string[];
}

/** Reads a node file as far as `NodeOutline` goes. @throws {ConfigError} */
export function readNodeOutline(path: string): NodeOutline {
  return parseNodeOutline(readNodeText(path), path);
}

/** `readNodeOutline` for text that is at hand. */
export function parseNodeOutline(text: string, file: string): NodeOutline {
  const raw = parseMapping(text, file);
  for (const key of Object.keys(raw)) checkKey(key, key, NODE_KEYS, file, key);
  return {
    file,
    role: raw["role"] === undefined ? undefined : readRole(raw["role"], file),
    devices: readDevices(raw["gpus"], file),
    raw,
  };
}

/** What a node without a file is: the bundles of one folder on whatever devices there are. */
export function defaultNodeOutline(
  { modelRepo, backend }: { readonly modelRepo: string; readonly backend: "cpu" | "cuda" },
): NodeOutline {
  return {
    file: "(no node file)",
    role: undefined,
    devices: "auto",
    raw: {
      model_repo: modelRepo,
      base_port: 8080n,
      metrics_base_port: 9100n,
      global: { runtime: { backend } },
    },
  };
}

/**
 * Gives every worker its device: worker i takes device i, or the one its `gpu` names. Without a list
 * of workers there is one per device, or `cpuWorkers` of them when there are no devices.
 *
 * @throws {ConfigError} when two workers share a device, one asks for a device that is not there, or the
 *   resulting file breaks a rule
 */
export function materialise(
  outline: NodeOutline,
  { devices, cpuWorkers, role }: MaterialiseOptions,
): MaterialisedNode {
  const { file, raw } = outline;
  const isListed = raw["workers"] !== undefined;
  const entries: readonly unknown[] = isListed
    ? listOf(raw["workers"], file)
    : Array.from({ length: devices.length || cpuWorkers }, (_, index) => ({
      name: `worker${index}`,
    }));
  const assigned = entries.map((entry, index) =>
    devices.length === 0 ? undefined : chosenDevice(entry, index, devices, file)
  );
  const owners = new Map<number, number>();
  assigned.forEach((device, index) => {
    if (device === undefined) return;
    const owner = owners.get(device);
    if (owner !== undefined) {
      throw new ConfigError(
        `${file}: workers[${owner}] and workers[${index}] both want device ${device} ` +
          `(${devices[device]}); give each worker a gpu of its own`,
      );
    }
    owners.set(device, index);
  });
  const { gpus: _gpus, ...rest } = raw;
  const text = stringify({ ...rest, role, workers: entries.map(withoutGpu) }, {
    version: "1.2",
    schema: "core",
    aliasDuplicateObjects: false,
  });
  return {
    node: { ...parseNodeFile(text, file), devices: outline.devices },
    text,
    devices: assigned.map((device) => device === undefined ? undefined : devices[device]),
    unused: devices.filter((_, device) => !owners.has(device)),
  };
}

function listOf(value: unknown, file: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new ConfigError(
    `${file}: workers must be a list with an entry for each worker, got ${show(value)}`,
  );
}

function chosenDevice(
  entry: unknown,
  index: number,
  devices: readonly string[],
  file: string,
): number {
  const gpu = isMapping(entry) ? entry["gpu"] : undefined;
  // What is no whole number, or negative, is refused with the rest of the entry, by its own message.
  const device = typeof gpu === "bigint" && gpu >= 0n ? Number(gpu) : index;
  if (device < devices.length) return device;
  const wish = typeof gpu === "bigint" ? `gpu ${gpu}` : `device ${index}, one per worker`;
  throw new ConfigError(
    `${file}: workers[${index}] wants ${wish}, but the node has ${devices.length} ` +
      `(${devices.join(", ")}); give the node more devices or remove the worker`,
  );
}

function withoutGpu(entry: unknown): unknown {
  if (!isMapping(entry) || typeof entry["gpu"] !== "bigint" || entry["gpu"] < 0n) return entry;
  const { gpu: _gpu, ...rest } = entry;
  return rest;
}
