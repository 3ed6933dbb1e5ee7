/** The gateway process: what it is told. */

import {
  type Environment,
  formatHostPort,
  GATEWAY_FILE_VARIABLE,
  GATEWAY_KEYS,
  type GatewayConfig,
  loadGatewayConfig,
  parseHostPort,
} from "../config/mod.ts";
import { exists, type Flags, lastFlag } from "./node_source.ts";
import {
  LISTEN_VARIABLES,
  localAddress,
  type PortClaim,
  PUBLIC_PORTS,
  publicAddress,
} from "./ports.ts";
import { flagArguments, type WorkerPlan } from "./worker_plans.ts";

/** Read when neither flag nor variable names a gateway file. */
export const STANDARD_GATEWAY_FILE = "/etc/reactantserver/gateway.yml";
/** The gateway's name among the children. */
export const GATEWAY_NAME = "gateway";

/** The gateway before it is started. */
export interface GatewayPlan {
  readonly name: string;
  readonly args: readonly string[];
  /** On top of the supervisor's own. */
  readonly environment: Readonly<Record<string, string>>;
  /** What the gateway itself will resolve. */
  readonly config: GatewayConfig;
}

/** What the plan is made from. */
export interface GatewayPlanInputs {
  /** None: the endpoints come from the file or the environment. */
  readonly workers: readonly WorkerPlan[];
  readonly hasNodeFile: boolean;
  readonly flags: Flags;
  readonly environment: Environment;
  readonly standardFile?: string;
}

/** The gateway of this node. @throws {ConfigError} when it could not start like that */
export function planGateway(inputs: GatewayPlanInputs): GatewayPlan {
  const { flags, environment, standardFile = STANDARD_GATEWAY_FILE } = inputs;
  const file = lastFlag(flags, "gateway-file") ??
    (environment[GATEWAY_FILE_VARIABLE] ||
      (exists(standardFile) ? standardFile : undefined));
  const own: Record<string, string> = {};
  const isSet = (name: string) => (environment[name] ?? "").trim() !== "";
  const setDefault = (name: string, value: string) => {
    if (!isSet(name)) own[name] = value;
  };
  setDefault("REACTANT_GATEWAY_STARTUP_WAIT_SECONDS", "inf");
  if (file === undefined && inputs.workers.length > 0) {
    Object.assign(own, endpoints(inputs.workers));
    for (const [name, value] of inherited(inputs.workers[0]!)) setDefault(name, value);
  }
  Object.assign(own, listenAddresses(inputs, file !== undefined));
  const gatewayFlags = new Map(
    [...flags].filter(([flag]) => GATEWAY_KEYS.some((key) => key.flag === flag)),
  );
  const { config } = loadGatewayConfig({
    flags: gatewayFlags,
    environment: { ...environment, ...own },
    gatewayFile: file,
  });
  return {
    name: GATEWAY_NAME,
    environment: own,
    args: [
      "serve",
      "--role=gateway-process",
      ...(file === undefined ? [] : [`--gateway-file=${file}`]),
      ...flagArguments(gatewayFlags),
    ],
    config,
  };
}

/** The ports a gateway will listen on, for `overlapWarnings`. */
export function gatewayPorts({ listen }: GatewayConfig): PortClaim[] {
  return ([["grpc", "gRPC"], ["metrics", "metrics"]] as const).map(([key, word]) => ({
    ...parseHostPort(listen[key])!,
    who: `the gateway (${word})`,
  }));
}

function endpoints(workers: readonly WorkerPlan[]): Record<string, string> {
  const settings = workers.map(({ loaded }) => loaded.config.endpoints);
  const grpc = settings.map(({ host, port }) => localAddress({ host, port }));
  const metrics = settings.map(({ host, metricsPort }) =>
    localAddress({ host, port: metricsPort })
  );
  return {
    REACTANT_GATEWAY_WORKERS: grpc.join(","),
    // The lists are aligned, so they say it for every worker or for none.
    ...(settings.every(({ metricsPort }) => metricsPort > 0)
      ? { REACTANT_GATEWAY_WORKER_METRICS: metrics.join(",") }
      : {}),
    REACTANT_GATEWAY_WORKER_NAMES: workers.map(({ name }) => name).join(","),
  };
}

/** What the gateway has like the workers, unless it is told otherwise. */
function inherited({ loaded: { config, origins } }: WorkerPlan): [string, string][] {
  const isGiven = (path: string) => origins.get(path)?.source !== "default";
  const settings: [string, string][] = [
    ["REACTANT_GATEWAY_LOGGING_LEVEL", config.log.level],
    ["REACTANT_GATEWAY_LOGGING_FORMAT", config.log.format],
  ];
  if (isGiven("grpc.max_recv_msg_bytes")) {
    settings.push(["REACTANT_GATEWAY_GRPC_MAX_RECV_MSG_BYTES", `${config.grpc.maxRecvMsgBytes}`]);
  }
  if (isGiven("grpc.max_send_msg_bytes")) {
    settings.push(["REACTANT_GATEWAY_GRPC_MAX_SEND_MSG_BYTES", `${config.grpc.maxSendMsgBytes}`]);
  }
  return settings;
}

/**
 * `--host`, `--port` and `--metrics-port` are where the node is found. A node without any file is found
 * on the loopback interface, as a lone server is, until it is given another host.
 */
function listenAddresses(
  { flags, environment, hasNodeFile, workers }: GatewayPlanInputs,
  hasGatewayFile: boolean,
): Record<string, string> {
  const own: Record<string, string> = {};
  for (const which of ["grpc", "metrics"] as const) {
    const variable = LISTEN_VARIABLES[which];
    const isSet = (environment[variable] ?? "").trim() !== "";
    const flag = lastFlag(flags, which === "grpc" ? "port" : "metrics-port");
    const host = lastFlag(flags, "host");
    const isBare = !isSet && !hasNodeFile && !hasGatewayFile && workers.length > 0;
    if (flag === undefined && host === undefined && !isBare) continue;
    const given = publicAddress(which, environment);
    own[variable] = formatHostPort({
      host: host ?? given.host ?? (isBare ? workers[0]!.loaded.config.endpoints.host : "0.0.0.0"),
      port: flag === undefined ? given.port : portOf(flag, PUBLIC_PORTS[which]),
    });
  }
  return own;
}

/** A port as a flag gives it; what is none is refused by the gateway's own check. */
function portOf(text: string, fallback: number): number {
  return /^\d+$/.test(text.trim()) ? Number(text) : fallback;
}
