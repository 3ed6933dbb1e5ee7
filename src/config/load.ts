/** The one call a worker's command makes: everything the operator gave, to a checked configuration. */

import { type Environment, NODE_FILE_VARIABLE, WORKER_NAME_VARIABLE } from "./environment.ts";
import { readNodeFile } from "./node_file.ts";
import { type ResolvedConfig, resolveServerConfig } from "./resolve.ts";
import { resolveWorker } from "./resolve_worker.ts";

/** A worker without a node file has this name. */
const LONE_WORKER_NAME = "worker0";

/** What the operator gave. */
export interface LoadOptions {
  /** Values by flag name without dashes. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  readonly environment: Environment;
  /** `--node-file`; else the variable `REACTANT_NODE_FILE`, else there is none. */
  readonly nodeFile?: string | undefined;
  /** `--worker-name`; else the variable `REACTANT_WORKER_NAME`. */
  readonly workerName?: string | undefined;
}

/** A configuration and the worker it is for. */
export interface LoadedConfig extends ResolvedConfig {
  readonly workerName: string;
}

/**
 * Reads the node file if there is one, picks the worker and resolves its configuration. Run
 * `validateServerConfig` on the result before using it.
 *
 * @throws {ConfigError} with one line that names what is wrong and where
 */
export function loadConfig(options: LoadOptions): LoadedConfig {
  const { flags, environment } = options;
  // An empty variable means "not given" here: that is how container files pass an unset one on.
  const nodeFile = options.nodeFile ?? (environment[NODE_FILE_VARIABLE] || undefined);
  const workerName = options.workerName ?? (environment[WORKER_NAME_VARIABLE] || undefined);
  if (nodeFile === undefined) {
    return {
      ...resolveServerConfig({ flags, environment }),
      workerName: workerName ?? LONE_WORKER_NAME,
    };
  }
  const node = readNodeFile(nodeFile);
  const worker = resolveWorker(node, workerName);
  const resolved = resolveServerConfig({ flags, environment, file: worker.layer });
  return {
    ...resolved,
    workerName: worker.name,
    warnings: [...node.warnings, ...worker.warnings, ...resolved.warnings],
  };
}
