/** Where a node that runs on this machine can be asked whether it is ready. */

import {
  type Environment,
  loadConfig,
  loadGatewayConfig,
  NODE_FILE_VARIABLE,
  type NodeFile,
  readNodeFile,
  readNodeOutline,
  resolveServerConfig,
  resolveWorker,
  ROLE_VARIABLE,
  RUNTIME_DIR_VARIABLE,
  WORKER_NAME_VARIABLE,
} from "../config/mod.ts";
import { ConfigError } from "../errors.ts";
import {
  chooseRole,
  exists,
  findWrittenFile,
  LISTEN_VARIABLES,
  localAddress,
  publicAddress,
  STANDARD_GATEWAY_FILE,
  STANDARD_NODE_FILE,
} from "../supervisor/mod.ts";

/** The variable with the port of `/readyz`, for health checks alone. */
const READYZ_PORT_VARIABLE = "REACTANT_GATEWAY_METRICS_PORT";

/** One listener to ask: `/readyz` over HTTP, or ServerReady over gRPC. */
export interface ProbeTarget {
  readonly kind: "http" | "grpc";
  readonly url: string;
}

/** What the operator gave. */
export interface ProbeSources {
  /** Values by flag name without dashes. */
  readonly flags: ReadonlyMap<string, readonly string[]>;
  readonly environment: Environment;
  /** Where to look for files, for tests. */
  readonly standardNodeFile?: string;
  readonly standardFolder?: string;
  readonly standardGatewayFile?: string;
}

/** The listeners of which one has to be ready. @throws {ConfigError} when there is none to ask */
export function findProbeTargets(sources: ProbeSources): ProbeTarget[] {
  const { flags, environment } = sources;
  const last = (flag: string) => flags.get(flag)?.at(-1);
  const workerName = last("worker-name") ?? (environment[WORKER_NAME_VARIABLE] || undefined);
  const nodeFile = findNode(sources, workerName);
  if (flags.has("metrics-port")) return [publicListener(sources, nodeFile)];
  const role = last("role")?.trim().toLowerCase();
  const variable = environment[ROLE_VARIABLE];
  // Read only when it decides: to a gateway it does not matter what is in it.
  const isFileAsked = nodeFile !== undefined && role === undefined && !variable?.trim();
  const isWorker = role === "worker" || workerName !== undefined || chooseRole({
        flag: role,
        variable,
        file: isFileAsked ? readNodeOutline(nodeFile).role : undefined,
      }) === "workers";
  if (!isWorker || nodeFile === undefined) return [publicListener(sources, nodeFile)];
  return workerListeners(readNodeFile(nodeFile), workerName, environment);
}

/** The file a running supervisor wrote, else the operator's. */
function findNode(
  { flags, environment, standardNodeFile = STANDARD_NODE_FILE, standardFolder }: ProbeSources,
  workerName: string | undefined,
): string | undefined {
  const flag = flags.get("node-file")?.at(-1);
  if (flag !== undefined) return flag;
  if (workerName === undefined) {
    const written = findWrittenFile({
      folder: flags.get("runtime-dir")?.at(-1) ??
        (environment[RUNTIME_DIR_VARIABLE] || standardFolder),
    });
    if (written !== undefined) return written;
  }
  return environment[NODE_FILE_VARIABLE] ||
    (exists(standardNodeFile) ? standardNodeFile : undefined);
}

function workerListeners(
  node: NodeFile,
  workerName: string | undefined,
  environment: Environment,
): ProbeTarget[] {
  const names = workerName === undefined ? node.workers.map(({ name }) => name) : [workerName];
  // The supervisor gives every worker its own ports, whatever these say.
  const {
    INFERENCE_SERVER_ENDPOINTS_PORT: _port,
    INFERENCE_SERVER_ENDPOINTS_METRICS_PORT: _metricsPort,
    ...rest
  } = environment;
  return names.map((name) => {
    const { layer } = resolveWorker(node, name);
    const { endpoints } = resolveServerConfig({ environment: rest, file: layer }).config;
    if (endpoints.tlsCert === "") return { kind: "grpc", url: localAddress(endpoints) };
    if (endpoints.metricsPort > 0) {
      return readyz(localAddress({ host: endpoints.host, port: endpoints.metricsPort }));
    }
    throw new ConfigError(
      `Worker ${JSON.stringify(name)} serves gRPC over TLS and no HTTP; give it a metrics port ` +
        "(metrics_base_port), or probe with --url",
    );
  });
}

/** `/readyz` of the gateway, or of the worker in its place. */
function publicListener(sources: ProbeSources, nodeFile: string | undefined): ProbeTarget {
  const { flags, environment } = sources;
  const isSet = (name: string) => (environment[name] ?? "").trim() !== "";
  if (!flags.has("metrics-port")) {
    if (isSet(READYZ_PORT_VARIABLE)) {
      const text = environment[READYZ_PORT_VARIABLE]!.trim();
      if (!/^\d{1,5}$/.test(text)) {
        throw new ConfigError(
          `${READYZ_PORT_VARIABLE} must be a port, got ${JSON.stringify(text)}`,
        );
      }
      return readyz(`127.0.0.1:${text}`);
    }
    if (isSet(LISTEN_VARIABLES.metrics)) return publicReadyz(environment);
    const file = gatewayListen(sources);
    if (file !== undefined) return readyz(file);
    if (nodeFile !== undefined) return publicReadyz(environment);
  }
  const { host, metricsPort } = loadConfig({ flags, environment: withoutNode(environment) }).config
    .endpoints;
  if (metricsPort === 0) {
    throw new ConfigError(
      "There is no HTTP listener to probe: endpoints.metrics_port is 0; give --url or --metrics-port",
    );
  }
  return readyz(localAddress({ host, port: metricsPort }));
}

function publicReadyz(environment: Environment): ProbeTarget {
  const { host, port } = publicAddress("metrics", environment);
  return readyz(localAddress({ host: host ?? "127.0.0.1", port }));
}

/** The metrics address that the gateway's file gives, when there is one that can be read. */
function gatewayListen(
  { flags, environment, standardGatewayFile = STANDARD_GATEWAY_FILE }: ProbeSources,
): string | undefined {
  const path = flags.get("gateway-file")?.at(-1) ??
    (environment["REACTANT_GATEWAY_FILE"] ||
      (exists(standardGatewayFile) ? standardGatewayFile : undefined));
  if (path === undefined) return undefined;
  // Only the addresses matter here, so the workers are made up where the file leaves them out.
  const { config, origins } = loadGatewayConfig({
    gatewayFile: path,
    environment: {
      ...environment,
      REACTANT_GATEWAY_WORKERS: environment["REACTANT_GATEWAY_WORKERS"] || "127.0.0.1:1",
    },
  });
  if (origins.get("listen.metrics")?.source === "default") return undefined;
  const separator = config.listen.metrics.lastIndexOf(":");
  const host = config.listen.metrics.slice(0, separator).replace(/^\[|\]$/g, "");
  return localAddress({ host, port: Number(config.listen.metrics.slice(separator + 1)) });
}

function withoutNode(environment: Environment): Environment {
  const { [NODE_FILE_VARIABLE]: _file, ...rest } = environment;
  return rest;
}

function readyz(address: string): ProbeTarget {
  return { kind: "http", url: `http://${address}/readyz` };
}
