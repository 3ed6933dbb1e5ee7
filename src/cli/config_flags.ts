/** The flags of every command that works on a worker's configuration, and what they resolve to. */

import { loadConfig, type LoadedConfig } from "../config/mod.ts";
import { type FlagSpec, lastValue, type ParsedFlags, SERVER_FLAGS } from "./flags.ts";

/** The node file, the worker's name and every configuration key. */
export const CONFIG_FLAGS: readonly FlagSpec[] = [
  {
    name: "node-file",
    kind: "value",
    placeholder: "PATH",
    help: "YAML file that describes this machine; none: one worker on the public ports",
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

/** Those of `CONFIG_FLAGS` in some groups, with the node file and the worker's name. */
export function configFlags(...groups: string[]): FlagSpec[] {
  return CONFIG_FLAGS.filter(({ group }) => group === undefined || groups.includes(group));
}

/**
 * The configuration these flags and the process's variables give.
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
