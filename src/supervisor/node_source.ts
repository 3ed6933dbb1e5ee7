/** Where the description of this node comes from: a node file, or what a node without one is. */

import { basename } from "node:path";
import {
  type BackendName,
  defaultNodeOutline,
  type Environment,
  findPlugin,
  NODE_FILE_VARIABLE,
  type NodeOutline,
  readNodeOutline,
} from "../config/mod.ts";
import { ConfigError } from "../errors.ts";
import type { DetectedDevices } from "./device_detection.ts";
import { info, type Note } from "./start_notes.ts";

/** Read when neither flag nor variable names a node file. */
export const STANDARD_NODE_FILE = "/etc/reactantserver/node.yaml";
const DEFAULT_MODEL_FOLDER = "models";

/** Values by flag name without dashes. */
export type Flags = ReadonlyMap<string, readonly string[]>;

/** The last value of a flag. */
export function lastFlag(flags: Flags, name: string): string | undefined {
  return flags.get(name)?.at(-1);
}

/** The node file that applies, or `undefined` when there is none. @throws {ConfigError} */
export function findNodeFile(
  flags: Flags,
  environment: Environment,
  standardFile: string = STANDARD_NODE_FILE,
): NodeOutline | undefined {
  // An empty variable means "not given": that is how container files pass on one that is not set.
  const path = lastFlag(flags, "node-file") ?? (environment[NODE_FILE_VARIABLE] || undefined);
  if (path !== undefined) return readNodeOutline(path);
  return exists(standardFile) ? readNodeOutline(standardFile) : undefined;
}

/** A node, its devices, and what there is to say about the choice. */
export interface ChosenNode {
  readonly outline: NodeOutline;
  readonly devices: readonly string[];
  readonly notes: readonly Note[];
}

/**
 * What a node without a file is: the bundles of the folders given, else those of `./models`, on the
 * devices there are. Devices nobody asked for are used when a CUDA plugin is there to use them.
 *
 * @throws {ConfigError} when there is no folder of models, except in a dry run
 */
export function nodeWithoutFile(
  flags: Flags,
  environment: Environment,
  { detected, isDryRun }: { readonly detected: DetectedDevices; readonly isDryRun: boolean },
): ChosenNode {
  const modelRepo = modelFolder(flags, environment, isDryRun);
  const asked = lastFlag(flags, "backend") ?? environment["INFERENCE_SERVER_RUNTIME_BACKEND"];
  const backend = asked === undefined
    ? defaultBackend(flags, environment, detected)
    : /^\s*(cuda|gpu)\s*$/i.test(asked)
    ? "cuda"
    : "cpu";
  const notes = [info(`no node file: serving ${modelRepo} (${backend})`)];
  let devices = detected.selectors;
  if (detected.isFound && backend === "cpu" && devices.length > 0) {
    notes.push(info(
      `devices found by ${detected.source} are not used (${devices.join(", ")}): the backend is ` +
        "cpu; use --backend cuda with a CUDA plugin (--pjrt-plugin)",
    ));
    devices = [];
  }
  return { outline: defaultNodeOutline({ modelRepo, backend }), devices, notes };
}

function modelFolder(flags: Flags, environment: Environment, isDryRun: boolean): string {
  const variable = environment["INFERENCE_SERVER_MODEL_DIRS"];
  const given = flags.get("model-dir")?.[0] ?? variable?.split(":").find((dir) => dir !== "");
  if (given !== undefined) return given;
  if (isDryRun || exists(DEFAULT_MODEL_FOLDER)) return DEFAULT_MODEL_FOLDER;
  throw new ConfigError(
    `There is nothing to serve: no node file (${STANDARD_NODE_FILE}) and no folder ` +
      `${JSON.stringify(DEFAULT_MODEL_FOLDER)}; give a folder of bundles with --model-dir, or a ` +
      "node file with --node-file",
  );
}

function defaultBackend(
  flags: Flags,
  environment: Environment,
  detected: DetectedDevices,
): BackendName {
  if (detected.selectors.length === 0) return "cpu";
  const plugin = lastFlag(flags, "pjrt-plugin") ?? (environment["REACTANT_PJRT_PLUGIN"] ||
    environment["INFERENCE_SERVER_RUNTIME_PJRT_PLUGIN"] || "");
  if (plugin !== "") return /cuda/i.test(basename(plugin)) ? "cuda" : "cpu";
  try {
    findPlugin("cuda", "");
    return "cuda";
  } catch {
    return "cpu";
  }
}

/** Whether something is at a path; what cannot be seen is not there. */
export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
