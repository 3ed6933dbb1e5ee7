/**
 * The typed configuration of the gateway, as `gateway.yml`, `REACTANT_GATEWAY_*` and flags give it, and
 * the table with one row per key that drives everything that reads or documents it.
 */

import { isListenAddress, isWorkerSource } from "./gateway_address.ts";
import { boolean, choice, integer, number, optionalChoice, type Row, text } from "./rows.ts";
import { fileSpelling, type Key, type LogConfig, type RowTree } from "./server_config.ts";

/** How the gateway chooses a worker. */
export type SchedulingMode = "round_robin" | "least_outstanding" | "lpt_packing";
/** What counts as load. */
export type WorkBasis = "compute" | "items" | "requests";
/** How ties between replicas are broken when a new run opens. */
export type RoutingPolicy = "fill_least" | "fill_rr";
/** How a model's requests are spread over its replicas. */
export type FillMode = "run" | "spread" | "inflight";
/** When workers are told to compact after a repack. */
export type CompactionMode = "off" | "eager" | "scheduled";
/** A number of replicas, or every ready worker. */
export type Replicas = number | "all";

/** What one model overrides; `undefined` inherits. */
export interface ModelSchedulingConfig {
  readonly replicas: Replicas | undefined;
  readonly fillMode: FillMode | undefined;
  readonly fillFactor: number | undefined;
}

/** The `scheduling` block. */
export interface SchedulingConfig {
  readonly mode: SchedulingMode;
  readonly workBasis: WorkBasis;
  readonly rebalanceComputeSeconds: number;
  readonly firstRebalanceComputeSeconds: number;
  /** 0: as `rebalanceComputeSeconds`. */
  readonly emaHalflifeComputeSeconds: number;
  readonly hysteresis: number;
  readonly maxWorkerShare: number;
  readonly defaultReplicas: Replicas;
  readonly routingFillFactor: number;
  readonly routingPolicy: RoutingPolicy;
  readonly routingFillMode: FillMode;
  readonly forbidMemoryOversubscription: boolean;
  readonly compactionMode: CompactionMode;
  /** Repacks between compactions; 0: never. */
  readonly compactionInterval: number;
  readonly models: ReadonlyMap<string, ModelSchedulingConfig>;
}

/** Everything the gateway is told. Frozen for the life of the process. */
export interface GatewayConfig {
  readonly listen: GatewayListenConfig;
  /** `host:port`, `dns:name:port` or `file:/path`; at least one, no duplicates. */
  readonly endpoints: readonly string[];
  /** HTTP addresses of the workers' metrics, aligned with `endpoints`. */
  readonly metricsEndpoints: readonly string[];
  /** Labels of the workers, aligned with `endpoints`. */
  readonly workerNames: readonly string[];
  readonly grpc: GatewayGrpcConfig;
  readonly workerClient: WorkerClientConfig;
  readonly discovery: DiscoveryConfig;
  readonly logging: LogConfig;
  readonly tls: GatewayTlsConfig;
  readonly scheduling: SchedulingConfig;
}

/** Where the gateway listens, each as `host:port`; port 0 takes a free one. */
export interface GatewayListenConfig {
  readonly grpc: string;
  /** HTTP: metrics and health. */
  readonly metrics: string;
  /** How long calls in progress may take to finish on shutdown. */
  readonly shutdownGraceSeconds: number;
}

/** Bounds of the gateway's own listener. */
export interface GatewayGrpcConfig {
  readonly maxRecvMsgBytes: number;
  readonly maxSendMsgBytes: number;
  /** Times the number of workers: calls in progress before more are refused; 0: no cap. */
  readonly maxConcurrentRequestsPerWorker: number;
}

/** How workers are called. */
export interface WorkerClientConfig {
  /** Bound on a call whose client gave no deadline. */
  readonly requestTimeoutSeconds: number;
  /** Calls in progress per worker; more wait. */
  readonly maxConcurrentStreams: number;
  readonly tls: WorkerTlsConfig;
}

/** TLS on the way to the workers. */
export interface WorkerTlsConfig {
  readonly enabled: boolean;
  /** PEM file of authorities trusted besides the system's; empty: those alone. */
  readonly caFile: string;
  /** What the workers' certificates must name; empty: the host of each endpoint. */
  readonly serverName: string;
}

/** How the gateway keeps track of its workers. */
export interface DiscoveryConfig {
  readonly healthIntervalSeconds: number;
  /** How long `lpt_packing` waits for every worker at the start; `Infinity`: as long as it takes. */
  readonly startupWaitSeconds: number;
  /** Rounds in which every probe hangs before the process exits; 0: never. */
  readonly wedgeExitRounds: number;
  /** Between looks at `dns:` and `file:` sources. */
  readonly membershipIntervalSeconds: number;
}

/** TLS on the gateway's gRPC listener: PEM files; empty: cleartext. */
export interface GatewayTlsConfig {
  readonly certFile: string;
  readonly keyFile: string;
  /** Authorities clients must be signed by. */
  readonly clientCaFile: string;
}

/** 512 MiB, the limit the original ships with. */
const MESSAGE_BYTES = 536_870_912;
/** What the length prefix of a gRPC message can say. */
const MAX_MESSAGE_BYTES = 0xffffffff;
const DAY_SECONDS = 86_400;

const ROUTING_POLICIES: readonly RoutingPolicy[] = ["fill_least", "fill_rr"];
const FILL_MODES: readonly FillMode[] = ["run", "spread", "inflight"];

/** One row per key of the `scheduling` block; changes at run time are held to the same bounds. */
export const SCHEDULING_ROWS: RowTree<SchedulingConfig> = {
  mode: choice("round_robin", ["round_robin", "least_outstanding", "lpt_packing"], {
    help: "how a worker is chosen for a request",
  }),
  workBasis: choice("compute", ["compute", "items", "requests"], {
    help: "what counts as a worker's load",
  }),
  rebalanceComputeSeconds: number(300, {
    above: 0,
    help: "device seconds the fleet computes between repacks (lpt_packing)",
  }),
  firstRebalanceComputeSeconds: number(60, {
    min: 0,
    help: "the same for the first repack; 0: no difference",
  }),
  emaHalflifeComputeSeconds: number(0, {
    min: 0,
    help:
      "half-life of measured demand and cost, in device seconds; 0: as rebalance_compute_seconds",
  }),
  hysteresis: number(0, {
    min: 0,
    below: 1,
    help: "improvement below which a model stays where it is",
  }),
  maxWorkerShare: number(0.8, { above: 0, max: 1, help: "accepted, advisory" }),
  defaultReplicas: replicas(1, "replicas of a model, or all for every ready worker"),
  routingFillFactor: number(1, {
    above: 0,
    help: "batches a replica gets before the next one has its turn",
  }),
  routingPolicy: choice("fill_least", ROUTING_POLICIES, {
    help: "how ties between replicas are broken",
  }),
  routingFillMode: choice("run", FILL_MODES, {
    help: "how a model's requests are spread over its replicas",
  }),
  forbidMemoryOversubscription: boolean(true, {
    help: "prefer workers whose memory takes the model",
  }),
  compactionMode: choice("eager", ["off", "eager", "scheduled"], {
    help: "what workers are told after a repack that changed their models",
  }),
  compactionInterval: integer(1, { min: 0, help: "repacks between compactions; 0: never" }),
};

/** One row per key of a `scheduling.models.<name>` block. */
export const MODEL_SCHEDULING_ROWS: RowTree<ModelSchedulingConfig> = {
  replicas: replicas(undefined, "replicas of this model; unset: default_replicas"),
  fillMode: inheritable(
    optionalChoice(FILL_MODES, { help: "unset or inherit: routing_fill_mode" }),
  ),
  fillFactor: inheritable({
    ...number(1, { above: 0, help: "unset or inherit: routing_fill_factor" }),
    default: undefined,
  }),
};

/** One row per key of `GatewayConfig`, in the order help uses. */
export const GATEWAY_ROWS: RowTree<GatewayConfig> = {
  listen: {
    grpc: address("0.0.0.0:8001", "address of the gRPC listener"),
    metrics: address("0.0.0.0:8002", "address of the HTTP listener (metrics and health)"),
    shutdownGraceSeconds: number(10, {
      min: 0,
      max: DAY_SECONDS,
      help: "how long calls in progress may take to finish on shutdown",
    }),
  },
  endpoints: commaList({
    variable: "REACTANT_GATEWAY_WORKERS",
    expects: "a list of host:port, dns:name:port or file:/path",
    fits: isWorkerSource,
    help: "workers: host:port, dns:name:port (asked again and again) or file:/path (watched)",
  }),
  metricsEndpoints: commaList({
    variable: "REACTANT_GATEWAY_WORKER_METRICS",
    expects: "a list of host:port or dns:name:port",
    fits: (item) => isWorkerSource(item) && !item.startsWith("file:"),
    help: "the workers' HTTP addresses, in the order of the workers; their metrics are merged in",
  }),
  workerNames: commaList({
    variable: "REACTANT_GATEWAY_WORKER_NAMES",
    expects: "a list of names",
    fits: (item) => item.trim() !== "",
    help: "the workers' names in metrics and `ctl`, in the order of the workers",
  }),
  grpc: {
    maxRecvMsgBytes: integer(MESSAGE_BYTES, {
      min: 1,
      max: MAX_MESSAGE_BYTES,
      help: "largest message accepted, in bytes",
    }),
    maxSendMsgBytes: integer(MESSAGE_BYTES, {
      min: 1,
      max: MAX_MESSAGE_BYTES,
      help: "largest message sent, in bytes",
    }),
    maxConcurrentRequestsPerWorker: integer(64, {
      min: 0,
      max: 1_000_000,
      help: "times the workers: ModelInfer calls in progress before more are refused; 0: no cap",
    }),
  },
  workerClient: {
    requestTimeoutSeconds: integer(60, {
      min: 1,
      max: DAY_SECONDS,
      help: "bound on a call whose client gave no deadline",
    }),
    maxConcurrentStreams: integer(32, {
      min: 1,
      max: 1_000_000,
      help: "calls in progress per worker; more wait",
    }),
    tls: {
      enabled: boolean(false, { help: "speak TLS with the workers" }),
      caFile: text("", {
        holds: "file",
        help: "PEM authorities trusted for them besides the system's",
      }),
      serverName: text("", { help: "what their certificates must name; empty: the host" }),
    },
  },
  discovery: {
    healthIntervalSeconds: number(10, {
      above: 0,
      max: DAY_SECONDS,
      variable: "REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS",
      help: "seconds between rounds of probes",
    }),
    startupWaitSeconds: duration(0, {
      variable: "REACTANT_GATEWAY_STARTUP_WAIT_SECONDS",
      help: "seconds lpt_packing waits for every worker at the start; inf: as long as it takes",
    }),
    wedgeExitRounds: integer(3, {
      min: 0,
      variable: "REACTANT_GATEWAY_WEDGE_EXIT_ROUNDS",
      help: "rounds in which every probe hangs before the process exits to be restarted; 0: never",
    }),
    membershipIntervalSeconds: number(5, {
      above: 0,
      max: DAY_SECONDS,
      help: "seconds between looks at dns: and file: workers",
    }),
  },
  logging: {
    level: choice("info", ["debug", "info", "warn", "error"], {
      aliases: { warning: "warn" },
      help: "least important lines to log",
    }),
    format: choice("json", ["text", "json"], { help: "log lines for people or for machines" }),
  },
  tls: {
    certFile: text("", {
      holds: "file",
      help: "PEM certificate chain; with a key it turns TLS on",
    }),
    keyFile: text("", { holds: "file", help: "PEM private key of that certificate" }),
    clientCaFile: text("", {
      holds: "file",
      help: "PEM authorities clients must be signed by (mutual TLS)",
    }),
  },
  scheduling: SCHEDULING_ROWS,
};

/** Every key of `GATEWAY_ROWS`, in its order, with its variable and flag. */
export const GATEWAY_KEYS: readonly Key[] = [...collectKeys(GATEWAY_ROWS, [])];

function* collectKeys(tree: object, parents: readonly string[]): Generator<Key> {
  for (const [field, node] of Object.entries(tree)) {
    const fields = [...parents, field];
    if (!("fromText" in node)) {
      yield* collectKeys(node, fields);
      continue;
    }
    const row = node as Row;
    const path = fields.map(fileSpelling).join(".");
    const variable = row.variable ??
      `REACTANT_GATEWAY_${path.replaceAll(".", "_").toUpperCase()}`;
    const flag = variable.slice("REACTANT_".length).toLowerCase().replaceAll("_", "-");
    yield { path, fields, variable, flag, row };
  }
}

function address(fallback: string, help: string): Row<string> {
  return text(fallback, {
    help,
    expects: "host:port with a port from 0 to 65535",
    pattern: isListenAddress,
  });
}

function replicas<D extends Replicas | undefined>(fallback: D, help: string): Row<D | Replicas> {
  const count = integer(undefined, { min: 1, max: 1_000_000, help });
  const all = (value: unknown) =>
    typeof value === "string" && value.trim().toLowerCase() === "all" ? "all" as const : undefined;
  return {
    ...count,
    kind: "text",
    default: fallback,
    expects: "an integer of at least 1, or all",
    fromFile: (value) => all(value) ?? count.fromFile(value),
    fromText: (value) => all(value) ?? count.fromText(value),
  };
}

/** `inherit` is another way of leaving the key out, which whoever reads the block has to know. */
function inheritable<T extends string | number>(row: Row<T | undefined>): Row<T | undefined> {
  return { ...row, expects: `${row.expects}, or inherit` };
}

/** Strings; a variable or flag separates them with commas. */
function commaList(options: {
  readonly variable: string;
  readonly expects: string;
  readonly fits: (item: string) => boolean;
  readonly help: string;
}): Row<readonly string[]> {
  const read = (items: readonly unknown[]) => {
    const texts = items.map((item) => typeof item === "string" ? item.trim() : "");
    return texts.every(options.fits) ? texts : undefined;
  };
  return {
    kind: "list",
    default: [],
    help: options.help,
    expects: options.expects,
    separator: ",",
    variable: options.variable,
    fromFile: (value) => Array.isArray(value) ? read(value) : undefined,
    fromText: (value) => read(value.split(",").filter((item) => item.trim() !== "")),
  };
}

/** Seconds; `inf`, `forever` and -1 mean without bound. */
function duration(
  fallback: number,
  options: { readonly variable: string; readonly help: string },
): Row<number> {
  const seconds = number(fallback, { min: 0, max: 365 * DAY_SECONDS, help: options.help });
  const endless = (text: string) => ["inf", "forever", "-1"].includes(text.trim().toLowerCase());
  return {
    ...seconds,
    variable: options.variable,
    expects: "a number of at least 0, inf or forever",
    fromFile: (value) =>
      value === -1n || value === Infinity || (typeof value === "string" && endless(value))
        ? Infinity
        : seconds.fromFile(value),
    fromText: (value) => endless(value) ? Infinity : seconds.fromText(value),
  };
}
