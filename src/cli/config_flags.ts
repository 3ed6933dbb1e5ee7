/** The flags of every command that works on a node or a worker, and what they resolve to. */

import { loadConfig, type LoadedConfig } from "../config/mod.ts";
import {
  type FlagSpec,
  GATEWAY_FLAGS,
  lastValue,
  type ParsedFlags,
  SERVER_FLAGS,
} from "./flags.ts";

/** The node file, the worker's name and every configuration key of a worker. */
export const CONFIG_FLAGS: readonly FlagSpec[] = [
  {
    name: "node-file",
    kind: "value",
    placeholder: "FILE",
    help:
      "YAML file that describes this machine; none: /etc/reactantserver/node.yaml where there is " +
      "one, else the bundles of a folder on the devices found",
    variable: "REACTANT_NODE_FILE",
  },
  {
    name: "worker-name",
    kind: "value",
    placeholder: "NAME",
    help: "which worker of the node file this is; needed when it has several",
    variable: "REACTANT_WORKER_NAME",
  },
  ...SERVER_FLAGS,
];

/** What a node is, beyond its workers' own settings. */
export const NODE_FLAGS: readonly FlagSpec[] = [
  {
    name: "role",
    kind: "value",
    placeholder: "all|workers|gateway|worker",
    help:
      "all: workers, with a gateway in front of several; workers; gateway; worker: one worker " +
      "in this very process",
    variable: "REACTANT_ROLE",
    default: "all",
    group: "node",
  },
  {
    name: "gpus",
    kind: "value",
    placeholder: "N|LIST",
    help: "devices to use: a count (0: none) or a list of ordinals or UUIDs (`2,` is device 2)",
    variable: "REACTANT_GPUS",
    group: "node",
  },
  {
    name: "cpu-workers",
    kind: "value",
    placeholder: "N",
    help: "workers of a node without devices",
    variable: "REACTANT_CPU_WORKERS",
    default: "1",
    group: "node",
  },
  {
    name: "max-restarts",
    kind: "value",
    placeholder: "N",
    help: "restarts in a row of one process before the node ends; 0: no limit",
    variable: "REACTANT_SUPERVISOR_MAX_RESTARTS",
    default: "0",
    group: "node",
  },
  {
    name: "runtime-dir",
    kind: "value",
    placeholder: "DIR",
    help: "where the node file with the workers filled in is written",
    variable: "REACTANT_RUNTIME_DIR",
    default: "/run/reactantserver",
    group: "node",
  },
  {
    name: "gateway-file",
    kind: "value",
    placeholder: "FILE",
    help: "the gateway's YAML file; none: /etc/reactantserver/gateway.yml where there is one",
    variable: "REACTANT_GATEWAY_FILE",
    group: "gateway",
  },
  ...GATEWAY_FLAGS,
];

/** Those of `CONFIG_FLAGS` in some groups, with the node file and the worker's name. */
export function configFlags(...groups: string[]): FlagSpec[] {
  return CONFIG_FLAGS.filter(({ group }) => group === undefined || groups.includes(group));
}

/**
 * The configuration these flags and the process's variables give one worker.
 *
 * @throws {ConfigError}
 */
export function configFrom(flags: ParsedFlags): LoadedConfig {
  return loadConfig({
    flags: flags.values,
    environment: Deno.env.toObject(),
    nodeFile: lastValue(flags, "node-file"),
    workerName: lastValue(flags, "worker-name"),
  });
}
