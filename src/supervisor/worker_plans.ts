/** One worker process each: what it is told, and the configuration that this comes to. */

import {
  type Environment,
  findPlugin,
  formatCpuList,
  type LoadedConfig,
  type MaterialisedNode,
  type ResolvedConfig,
  resolveServerConfig,
  resolveWorker,
  type Role,
  SERVER_KEYS,
  validateServerConfig,
  WORKER_NAME_VARIABLE,
} from "../config/mod.ts";
import { ConfigError } from "../errors.ts";
import type { Flags } from "./node_source.ts";
import { publicAddress } from "./ports.ts";
import { type ProcessorLimits, usableProcessors } from "./processors.ts";
import { info, type Note, warning } from "./start_notes.ts";
import { coreSlice, threadShare } from "./thread_share.ts";

const PORT_VARIABLE = "INFERENCE_SERVER_ENDPOINTS_PORT";
const METRICS_PORT_VARIABLE = "INFERENCE_SERVER_ENDPOINTS_METRICS_PORT";
const HOST_VARIABLE = "INFERENCE_SERVER_ENDPOINTS_HOST";
const ORDINAL_VARIABLE = "INFERENCE_SERVER_RUNTIME_DEVICE_ORDINAL";
/** Flags that say where the node is found: its only worker's, or the gateway's. */
export const PUBLIC_FLAGS: readonly string[] = ["host", "port", "metrics-port"];

/** One worker before it is started. */
export interface WorkerPlan {
  readonly name: string;
  /** Its device; `undefined` for a CPU worker. */
  readonly device: string | undefined;
  readonly args: readonly string[];
  /** On top of the supervisor's own. */
  readonly environment: Readonly<Record<string, string>>;
  /** What the worker itself will resolve. */
  readonly loaded: LoadedConfig;
  readonly threads: number;
}

/** What the plans are made from. */
export interface WorkerPlanInputs {
  readonly role: Role;
  readonly made: MaterialisedNode;
  /** Whether the operator wrote a node file; without one the defaults are those of a lone server. */
  readonly hasNodeFile: boolean;
  /** Where the materialised node file lies. */
  readonly nodePath: string;
  readonly flags: Flags;
  readonly environment: Environment;
  readonly limits: ProcessorLimits;
  /** Nothing will be started, so folders, plugins and devices may be missing. */
  readonly isDryRun: boolean;
}

/** The workers of a node in its file's order, with notes. @throws {ConfigError} */
export function planWorkers(inputs: WorkerPlanInputs): { workers: WorkerPlan[]; notes: Note[] } {
  const { made, role, environment } = inputs;
  const count = made.node.workers.length;
  const isSole = role === "all" && count === 1;
  const notes: Note[] = [];
  if (!isSole) refusePublicFlags(inputs, count);
  if (!isSole || inputs.hasNodeFile) {
    for (const name of [PORT_VARIABLE, METRICS_PORT_VARIABLE]) {
      if (environment[name] === undefined) continue;
      const remedy = isSole
        ? "the only worker of a node has the public ports; use REACTANT_GATEWAY_LISTEN_GRPC and " +
          "REACTANT_GATEWAY_LISTEN_METRICS"
        : "workers have ports of their own; use base_port and metrics_base_port";
      notes.push(warning(`variable ${name} has no effect: ${remedy}`));
    }
  }
  const workers = made.node.workers.map((_, index) => planWorker(inputs, index, isSole, notes));
  return { workers, notes };
}

/** The line about threads. */
export function threadNote(workers: readonly WorkerPlan[], limits: ProcessorLimits): Note {
  const counts = [...new Set(workers.map(({ threads }) => threads))].join("/");
  const quota = limits.quota === undefined ? "" : `, quota ${limits.quota}`;
  return info(
    `${counts} threads per worker (${limits.processors.length} CPUs${quota}, ` +
      `${workers.length} workers)`,
  );
}

function planWorker(
  inputs: WorkerPlanInputs,
  index: number,
  isSole: boolean,
  notes: Note[],
): WorkerPlan {
  const { made, nodePath, environment, limits } = inputs;
  const device = made.devices[index];
  const { name, layer, warnings } = resolveWorker(made.node, made.node.workers[index]!.name);
  const flags = new Map(
    [...inputs.flags].filter(([flag]) =>
      SERVER_KEYS.some((key) => key.flag === flag) && (isSole || !isConsumed(inputs, flag))
    ),
  );
  const own: Record<string, string> = {
    [WORKER_NAME_VARIABLE]: name,
    CUDA_VISIBLE_DEVICES: device ?? "",
  };
  // The only device a worker sees is its ordinal 0.
  if (environment[ORDINAL_VARIABLE] !== undefined) own[ORDINAL_VARIABLE] = "0";
  const {
    [PORT_VARIABLE]: _port,
    [METRICS_PORT_VARIABLE]: _metricsPort,
    ...inherited
  } = environment;
  const resolve = () =>
    resolveServerConfig({ flags, environment: { ...inherited, ...own }, file: layer });
  if (isSole) {
    const isHostGiven = flags.has("host") ||
      resolve().origins.get("endpoints.host")?.source !== "default";
    Object.assign(own, publicPorts(inputs, isHostGiven, notes));
  } else {
    const { port, metricsPort } = resolve().config.endpoints;
    own[PORT_VARIABLE] = String(port);
    own[METRICS_PORT_VARIABLE] = String(metricsPort);
  }
  const { workerThreads, workerCores } = resolve().config.runtime;
  const workers = made.node.workers.length;
  const threads = workerThreads || threadShare(usableProcessors(limits), workers);
  const cores = workerCores ||
    formatCpuList(coreSlice(limits.processors, { index, workers, threads }));
  flags.set("worker-threads", [String(threads)]);
  flags.set("worker-cores", [cores]);
  const resolved = resolve();
  if (!inputs.isDryRun) checkWorker(resolved, name, device);
  return {
    name,
    device,
    threads,
    environment: own,
    args: ["serve", "--role=worker", `--node-file=${nodePath}`, ...flagArguments(flags)],
    loaded: { ...resolved, workerName: name, warnings: [...warnings, ...resolved.warnings] },
  };
}

/** What must be there before a worker is started. @throws {ConfigError} */
function checkWorker(
  { config, origins }: ResolvedConfig,
  name: string,
  device: string | undefined,
): void {
  const { backend, pjrtPlugin } = config.runtime;
  if (backend !== "cpu" && device === undefined) throw noDevices(name);
  validateServerConfig(config, origins);
  // A worker that may fall back to the CPU finds out by itself; what was named must be there.
  if (pjrtPlugin !== "" || backend === "cpu") findPlugin(backend, pjrtPlugin);
}

/** `--name=value` for every value. */
export function flagArguments(flags: Flags): string[] {
  return [...flags].flatMap(([flag, values]) => values.map((value) => `--${flag}=${value}`));
}

/** Whether a flag is about the gateway when there is one. */
function isConsumed({ role }: WorkerPlanInputs, flag: string): boolean {
  return role === "all" && PUBLIC_FLAGS.includes(flag);
}

/** The variables that put the only worker where the gateway would be. */
function publicPorts(
  { environment, hasNodeFile }: WorkerPlanInputs,
  isHostGiven: boolean,
  notes: Note[],
): Record<string, string> {
  const grpc = publicAddress("grpc", environment);
  const metrics = publicAddress("metrics", environment);
  for (const { unreadable, port } of [grpc, metrics]) {
    if (unreadable === undefined) continue;
    notes.push(warning(`cannot read the listen address ${unreadable}; port ${port} is used`));
  }
  const isMoved = (name: string) => (environment[name] ?? "").trim() !== "";
  const port = (name: string, listen: string, fallback: number) =>
    !hasNodeFile && !isMoved(listen) && environment[name] !== undefined
      ? environment[name]!
      : String(fallback);
  const host = grpc.host ?? (isHostGiven || !hasNodeFile ? undefined : "0.0.0.0");
  return {
    [PORT_VARIABLE]: port(PORT_VARIABLE, "REACTANT_GATEWAY_LISTEN_GRPC", grpc.port),
    [METRICS_PORT_VARIABLE]: port(
      METRICS_PORT_VARIABLE,
      "REACTANT_GATEWAY_LISTEN_METRICS",
      metrics.port,
    ),
    ...(host === undefined ? {} : { [HOST_VARIABLE]: host }),
  };
}

function refusePublicFlags({ flags, role }: WorkerPlanInputs, count: number): void {
  if (role === "all" || count < 2) return;
  for (const flag of ["port", "metrics-port"]) {
    if (!flags.has(flag)) continue;
    throw new ConfigError(
      `--${flag} cannot be the port of ${count} workers; set base_port or metrics_base_port in the ` +
        "node file, or give a worker a port of its own",
    );
  }
}

function noDevices(worker: string): ConfigError {
  return new ConfigError(
    `There is no device for ${worker}, whose backend is cuda; give the container GPUs (--gpus all), ` +
      "name them with REACTANT_GPUS, or set runtime.backend to cpu",
  );
}
