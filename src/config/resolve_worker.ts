/** From a node file to the settings of one of its workers. */

import { ConfigError } from "../errors.ts";
import { asBlock } from "./known_keys.ts";
import type { NodeFile } from "./node_file.ts";
import type { WorkerEntry } from "./node_workers.ts";
import type { FileLayer } from "./resolve.ts";
import { deepMerge, type Mapping, valueAt } from "./yaml.ts";

/** One worker's settings, merged, with the node's own values put in. */
export interface ResolvedWorker {
  readonly name: string;
  readonly layer: FileLayer;
  /** Names settings of the file that the node's own keys replace. */
  readonly warnings: readonly string[];
}

/**
 * The settings of one worker: `global`, its entry over that, and over both what the node decides
 * (model folder, ports, device). The name may be left out when the file has exactly one worker.
 *
 * @throws {ConfigError} when the worker is unknown or not named, listing those there are
 */
export function resolveWorker(node: NodeFile, name?: string): ResolvedWorker {
  const worker = findWorker(node, name);
  const places = new Map<string, string>();
  const warnings: string[] = [];
  const placeOf = (path: readonly string[]): string => {
    const key = path.join(".");
    if (places.has(key)) return places.get(key)!;
    if (valueAt(worker.overrides, path) !== undefined) return `${worker.at}.${key}`;
    return valueAt(node.global, path) !== undefined ? `global.${key}` : key;
  };
  let values = deepMerge(node.global, worker.overrides);
  /** `place` decides, even where there is nothing, and `found` is what is there. */
  const impose = (key: string, value: unknown, place: string, found = place): void => {
    const path = key.split(".");
    if (valueAt(values, path) !== undefined) {
      warnings.push(`${node.file}: ${placeOf(path)} has no effect; ${place} decides`);
    }
    values = put(values, path, value, node.file);
    places.set(key, found);
  };

  impose("model_dirs", [node.modelRepo], "model_repo");
  impose("endpoints.port", BigInt(worker.port), worker.portPlace);
  if (worker.metricsPort !== undefined) {
    impose("endpoints.metrics_port", BigInt(worker.metricsPort), "metrics_base_port");
  }
  const gpu = `${worker.at}.gpu`;
  const foundGpu = worker.gpu === undefined ? `${worker.at} (no gpu)` : gpu;
  impose("runtime.device_ordinal", BigInt(worker.gpu ?? 0), gpu, foundGpu);
  const sharing = "runtime.shared_host_weights";
  if (node.sharedHostWeights !== undefined && valueAt(values, sharing.split(".")) === undefined) {
    impose(sharing, node.sharedHostWeights, "shared_host_weights");
  }
  for (const [model, workers] of node.models) {
    const floor = ["scheduler", "models", model, "residency"];
    if (workers.includes(worker.name) && valueAt(values, floor) === undefined) {
      values = put(values, floor, "device", node.file);
      places.set(floor.join("."), `models.${model}`);
    }
  }
  return { name: worker.name, layer: { file: node.file, values, placeOf }, warnings };
}

function findWorker(node: NodeFile, name: string | undefined): WorkerEntry {
  const names = node.workers.map((worker) => worker.name).join(", ");
  if (name === undefined) {
    if (node.workers.length === 1) return node.workers[0]!;
    throw new ConfigError(
      `${node.file}: name one of its ${node.workers.length} workers (${names}) with ` +
        "--worker-name or REACTANT_WORKER_NAME",
    );
  }
  const worker = node.workers.find((entry) => entry.name === name);
  if (worker !== undefined) return worker;
  throw new ConfigError(
    `${node.file}: there is no worker ${JSON.stringify(name)}; the workers are ${names}`,
  );
}

/** `root` with the value at `path` replaced; blocks on the way must be mappings, or empty. */
function put(
  root: Mapping,
  path: readonly string[],
  value: unknown,
  file: string,
  above: readonly string[] = [],
): Mapping {
  const [key, ...rest] = path as [string, ...string[]];
  const place = [...above, key];
  const inner = rest.length === 0
    ? value
    : put(asBlock(root[key], file, place.join(".")), rest, value, file, place);
  return Object.fromEntries([...Object.entries(root), [key, inner]]);
}
