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

/** Read by other processes of a node; a worker inherits them and must not complain. */
const READ_ELSEWHERE = [
  "REACTANT_CACHE_DIR",
  "REACTANT_CPU_WORKERS",
  "REACTANT_GATEWAY_FILE",
  "REACTANT_GPU",
  "REACTANT_GPUS",
  "REACTANT_GPU_VERSION",
  "REACTANT_ROLE",
  "REACTANT_SUPERVISOR_MAX_RESTARTS",
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
    ...SERVER_KEYS.map((key) => key.variable),
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
