/** What variables the program knows, so that a mistyped or outdated one does not go unnoticed. */

import { ConfigError } from "../errors.ts";
import { REMOVED_KEYS } from "./known_keys.ts";
import { suggestion } from "../nearest.ts";
import { SERVER_KEYS } from "./server_config.ts";

/** Variables by name, as `Deno.env.toObject()` gives them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The variable that names the node file. */
export const NODE_FILE_VARIABLE = "REACTANT_NODE_FILE";
/** The variable that names the worker to be. */
export const WORKER_NAME_VARIABLE = "REACTANT_WORKER_NAME";
/** The variable that names the role. */
export const ROLE_VARIABLE = "REACTANT_ROLE";
/** The variable with the number of devices, or their selectors. */
export const GPUS_VARIABLE = "REACTANT_GPUS";
/** The variable with the number of workers of a node without devices. */
export const CPU_WORKERS_VARIABLE = "REACTANT_CPU_WORKERS";
/** The variable with the number of restarts in a row after which the node gives up; 0: none. */
export const MAX_RESTARTS_VARIABLE = "REACTANT_SUPERVISOR_MAX_RESTARTS";
/** The variable that names the folder the supervisor writes its node file into. */
export const RUNTIME_DIR_VARIABLE = "REACTANT_RUNTIME_DIR";

/** Read by other processes of a node; a worker inherits them and must not complain. */
const READ_ELSEWHERE = [
  ROLE_VARIABLE,
  GPUS_VARIABLE,
  CPU_WORKERS_VARIABLE,
  MAX_RESTARTS_VARIABLE,
  RUNTIME_DIR_VARIABLE,
  "REACTANT_CACHE_DIR",
  "REACTANT_CTL_TARGET",
  "REACTANT_GATEWAY_FILE",
  "REACTANT_GPU",
  "REACTANT_GPU_VERSION",
  "REACTANT_SUPERVISOR_CHILD",
  "REACTANT_SUPERVISOR_SOCKET",
  "REACTANT_WORKSPACE_ROOT",
];
const READ_ELSEWHERE_PREFIXES = ["REACTANT_CLIENT_", "REACTANT_GATEWAY_", "REACTANT_GPU_RECLAIM_"];

const REMOVED_VARIABLE_PREFIX = "INFERENCE_SERVER_BATCH_POLICY_";
const REMOVED_VARIABLE = "INFERENCE_SERVER_RUNTIME_RESIDENCY_MODE";

/**
 * Warnings about `INFERENCE_SERVER_*` and `REACTANT_*` variables that have no effect.
 *
 * @throws {ConfigError} for a variable of a removed setting, naming its successor
 */
export function checkVariables(environment: Environment): string[] {
  const known = [
    ...SERVER_KEYS.flatMap(({ variable, otherVariable }) => [variable, otherVariable ?? variable]),
    NODE_FILE_VARIABLE,
    WORKER_NAME_VARIABLE,
    ...READ_ELSEWHERE,
  ];
  const warnings: string[] = [];
  for (const name of Object.keys(environment).sort()) {
    if (name.startsWith(REMOVED_VARIABLE_PREFIX)) {
      throw new ConfigError(
        `Variable ${name} is no longer supported; ${REMOVED_KEYS["batch_policy"]}`,
      );
    }
    if (name === REMOVED_VARIABLE) {
      throw new ConfigError(
        `Variable ${name} is no longer supported; ${REMOVED_KEYS["runtime.residency_mode"]}`,
      );
    }
    if (!/^(INFERENCE_SERVER|REACTANT)_/.test(name) || known.includes(name)) continue;
    if (READ_ELSEWHERE_PREFIXES.some((prefix) => name.startsWith(prefix))) continue;
    warnings.push(`Variable ${name} has no effect${suggestion(name, known)}`);
  }
  return warnings;
}
