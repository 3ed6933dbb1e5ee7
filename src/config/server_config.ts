/**
 * The typed configuration of one worker, and the table with one row per key that drives everything
 * that reads, checks, prints or documents it. Adding a key means adding a field and a row here.
 */

import { parseCpuList } from "./cpu_list.ts";
import {
  boolean,
  choice,
  integer,
  type Leaf,
  list,
  number,
  optionalChoice,
  type Row,
  text,
} from "./rows.ts";

/** How the set of loaded models changes over the worker's life. */
export type ModelControlMode = "static" | "dynamic" | "explicit";
/** Order in which models get the device. */
export type DisciplineName = "fair" | "fifo" | "edf";
/** A model's residency floor. */
export type ResidencyFloor = "unpinned" | "system" | "device";
/** Which implementation serves the gRPC port. */
export type TransportName = "native" | "grpc-js";
/** The platform asked for; what is really in use may be `cpu` after a fallback. */
export type BackendName = "cpu" | "cuda";

/** Everything one worker process is told. Frozen for the life of the process. */
export interface ServerConfig {
  /** Folders whose immediate subfolders are bundles. */
  readonly modelDirs: readonly string[];
  /** Empty: nothing is cached on disk. */
  readonly cacheDir: string;
  /** Bound on the compiled programs in it, in bytes; 0: none. */
  readonly cacheMaxBytes: number;
  readonly modelControlMode: ModelControlMode;
  readonly modelPollSeconds: number;
  /** Names of the models to load; empty means all. */
  readonly modelsInclude: readonly string[];
  readonly runtime: RuntimeConfig;
  readonly scheduler: SchedulerConfig;
  readonly meta: MetaConfig;
  readonly hooks: HooksConfig;
  readonly endpoints: EndpointsConfig;
  readonly grpc: GrpcConfig;
  readonly log: LogConfig;
}

/** The device and how programs are built for it. */
export interface RuntimeConfig {
  readonly backend: BackendName;
  /** Path of the PJRT plugin; empty: the one that setup fetched. */
  readonly pjrtPlugin: string;
  readonly deviceOrdinal: number;
  readonly memFraction: number;
  /** How much memory a CPU device is to be taken to have; 0: not known, and so no budget for weights. */
  readonly deviceMemoryBytes: number;
  readonly preallocate: boolean;
  readonly allowCpuFallback: boolean;
  readonly weightCacheFraction: number;
  readonly weightCacheWiggleFraction: number;
  readonly autotune: boolean;
  /** Unset: as the runtime's own default has it. */
  readonly autotuneCache: boolean | undefined;
  readonly autotuneCacheDir: string;
  readonly numerics: "f32" | "auto" | "tf32";
  readonly sharedHostWeights: boolean;
  /** Permission bits in octal digits, for example `"660"`. */
  readonly sharedHostWeightsMode: string;
  /** Programs compiled at the same time; 0 leaves the choice to the worker. */
  readonly compileParallelism: number;
  /** Compute threads and hook threads of this worker; 0 means its share of the host's CPUs. */
  readonly workerThreads: number;
  /** Processors its threads may run on, for example `0-3,8`; empty: any. */
  readonly workerCores: string;
}

/** How requests wait, coalesce and take turns. */
export interface SchedulerConfig {
  readonly discipline: DisciplineName;
  readonly emaHalflifeSeconds: number;
  readonly recencyPenaltyCap: number;
  readonly coalescingDiscount: number;
  readonly costEmaAlpha: number;
  /** Per model. */
  readonly maxQueueDepth: number;
  /** How long a request may wait for others that could share its dispatch; 0: not at all. */
  readonly batchWaitSeconds: number;
  /** How long a dispatch may take on the device before its requests are answered; 0: as long as it likes. */
  readonly dispatchTimeoutSeconds: number;
  /** In on-demand weight loads; 0 means never. */
  readonly compactionInterval: number;
  /** Per-model blocks by model name; a model that is not here has the defaults of its rows. */
  readonly models: ReadonlyMap<string, ModelSchedulerConfig>;
}

/** One `scheduler.models.<name>` block. */
export interface ModelSchedulerConfig {
  /** Relative share under `fair`. */
  readonly weight: number;
  /** Unset: decided when the model is loaded. */
  readonly residency: ResidencyFloor | undefined;
  /** Most rows in one dispatch; unset: no cap. */
  readonly maxBatchSize: number | undefined;
  /** Unset: as for all models. */
  readonly batchWaitSeconds: number | undefined;
}

/** How models that call other models run. */
export interface MetaConfig {
  /** Runs in progress at most; those that call nothing do not count. */
  readonly concurrency: number;
  /** Working memory of all runs together; 0 or less: no bound. */
  readonly scratchBytes: number;
  /** The parts it is given out in, each of a byte at least; 0 or less: no bound. */
  readonly scratchSlots: number;
}

/** How the code that bundles bring is run. */
export interface HooksConfig {
  /** Of one hook thread: bound on its heap, and again on its array buffers. */
  readonly memoryBytes: number;
  /** Bound on one call of a request without an earlier deadline. */
  readonly callTimeoutSeconds: number;
  /** Bound on evaluating a hook file. */
  readonly loadTimeoutSeconds: number;
  /** What hooks may reach beyond their bundle, by model name; a model that is not here has nothing. */
  readonly models: ReadonlyMap<string, ModelHooksConfig>;
}

/** One `hooks.models.<name>` block. */
export interface ModelHooksConfig {
  /** Files and folders, absolute. */
  readonly allowRead: readonly string[];
  /** Hosts, with or without a port. */
  readonly allowNet: readonly string[];
  /** Names of environment variables. */
  readonly allowEnv: readonly string[];
}

/** Where the worker listens. */
export interface EndpointsConfig {
  readonly host: string;
  readonly port: number;
  /** 0: no HTTP listener. */
  readonly metricsPort: number;
  /** ModelInfer calls in progress; 0: no cap. */
  readonly maxConcurrentRequests: number;
  readonly transport: TransportName;
  /** PEM file; with `tlsKey` it turns TLS on. Empty: cleartext. */
  readonly tlsCert: string;
  readonly tlsKey: string;
  /** PEM file of the authorities clients must be signed by; empty: clients need no certificate. */
  readonly tlsClientCa: string;
  /** How long calls in progress may take to finish when the worker is told to stop. */
  readonly shutdownGraceSeconds: number;
}

/** Message size limits, in bytes. */
export interface GrpcConfig {
  readonly maxRecvMsgBytes: number;
  readonly maxSendMsgBytes: number;
}

/** What is logged and how. */
export interface LogConfig {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly format: "text" | "json";
}

/** A row for every field of `T`, nested as `T` is. Maps have rows of their own. */
export type RowTree<T> = {
  readonly [K in keyof T as T[K] extends ReadonlyMap<string, unknown> ? never : K]: T[K] extends
    Leaf ? Row<T[K]>
    : RowTree<T[K]>;
};

const PORT_MAX = 65535;
/** Longer than anybody waits for a batch on purpose: a value in milliseconds by mistake is refused. */
const MAX_BATCH_WAIT_SECONDS = 10;
/** 512 MiB, the limit the original ships with. */
const MESSAGE_BYTES = 536_870_912;

/** One row per key of `ServerConfig`, in the order `--help` and `config print` use. */
export const SERVER_ROWS: RowTree<ServerConfig> = {
  modelDirs: list([], {
    flag: "model-dir",
    holds: "folder",
    help: "folder of bundles",
  }),
  cacheDir: text("", {
    holds: "folder",
    help: "folder for what can be rebuilt (compiled programs); empty: none",
  }),
  cacheMaxBytes: integer(8 * 2 ** 30, {
    min: 0,
    help: "compiled programs kept in that folder, in bytes; 0: no bound",
  }),
  modelControlMode: choice("dynamic", ["static", "dynamic", "explicit"], {
    help:
      "static: load once; dynamic: follow the folders; explicit: residency is controlled by RPC",
  }),
  modelPollSeconds: number(15, {
    min: 0,
    help: "seconds between looks at the model folders (dynamic only)",
  }),
  modelsInclude: list([], {
    flag: "include-model",
    help: "load only the models named; none named: all",
  }),
  runtime: {
    backend: choice("cpu", ["cpu", "cuda"], {
      aliases: { gpu: "cuda" },
      help: "device platform (gpu is another word for cuda)",
    }),
    pjrtPlugin: text("", {
      variable: "REACTANT_PJRT_PLUGIN",
      holds: "file",
      help: "path of the PJRT plugin; empty: the one that setup fetched",
    }),
    deviceOrdinal: integer(0, { min: 0, help: "index among the visible devices" }),
    memFraction: number(0.9, {
      above: 0,
      max: 1,
      help: "share of device memory for the allocator",
    }),
    deviceMemoryBytes: integer(0, {
      min: 0,
      help: "memory a CPU device is taken to have, for the budget of weights; 0: no budget (cpu)",
    }),
    preallocate: boolean(true, { help: "claim that memory at start (cuda)" }),
    allowCpuFallback: boolean(true, { help: "use the CPU when the cuda device cannot be had" }),
    weightCacheFraction: number(1, {
      min: 0,
      max: 1,
      help: "share of the device allocator for weights; 0: all weights stay on the device",
    }),
    weightCacheWiggleFraction: number(0.1, {
      min: 0,
      below: 1,
      help: "share of the device allocator kept free",
    }),
    autotune: boolean(true, { help: "let the GPU compiler try kernels" }),
    autotuneCache: boolean(undefined, {
      help: "keep autotuning results on disk; unset: the runtime's default",
    }),
    autotuneCacheDir: text("", {
      holds: "folder",
      help: "folder for them; empty: the runtime's default",
    }),
    numerics: choice("auto", ["f32", "auto", "tf32"], {
      help: "precision of float32 matrix products on a GPU",
    }),
    sharedHostWeights: boolean(false, { help: "keep one host copy of weights for all workers" }),
    sharedHostWeightsMode: text("666", {
      expects: 'a quoted string of octal digits up to "777"',
      pattern: (value) => /^[0-7]+$/.test(value) && Number.parseInt(value, 8) <= 0o777,
      help: "permission bits of that shared memory",
    }),
    compileParallelism: integer(0, {
      min: 0,
      help: "programs compiled at once; 0: chosen by the worker",
    }),
    workerThreads: integer(0, {
      min: 0,
      variable: "REACTANT_WORKER_THREADS",
      help: "compute threads and hook threads; 0: the worker's share of the CPUs",
    }),
    workerCores: text("", {
      variable: "REACTANT_WORKER_CORES",
      expects: "a list of processors such as 0-3,8",
      pattern: (value) => value === "" || parseCpuList(value) !== undefined,
      help: "processors its threads may run on, such as 0-3,8; empty: any",
    }),
  },
  scheduler: {
    discipline: choice("fair", ["fair", "fifo", "edf"], {
      help: "order in which models get the device",
    }),
    emaHalflifeSeconds: number(30, { above: 0, help: "half-life of recent compute (fair)" }),
    recencyPenaltyCap: number(0.25, {
      above: 0,
      max: 1,
      help: "largest correction for recent compute (fair)",
    }),
    coalescingDiscount: number(0.1, {
      min: 0,
      below: 1,
      help: "cost discount of dispatches that requests share (fair)",
    }),
    costEmaAlpha: number(0.2, { above: 0, max: 1, help: "smoothing of learned costs" }),
    maxQueueDepth: integer(1024, { min: 1, help: "requests that may wait, per model" }),
    batchWaitSeconds: number(0, {
      min: 0,
      max: MAX_BATCH_WAIT_SECONDS,
      help: "how long a request may wait for others to share its dispatch; 0: not at all",
    }),
    dispatchTimeoutSeconds: number(30, {
      min: 0,
      help: "how long a dispatch may take on the device; longer ones are answered " +
        "DEADLINE_EXCEEDED and the worker is not ready meanwhile; 0: no bound",
    }),
    compactionInterval: integer(0, {
      min: 0,
      help: "compact device memory every so many weight loads; 0: never",
    }),
  },
  meta: {
    concurrency: integer(2, {
      min: 1,
      variable: "REACTANT_META_CONCURRENCY",
      flag: "meta-concurrency",
      help: "runs of meta models in progress at most",
    }),
    scratchBytes: integer(2 ** 30, {
      variable: "REACTANT_FANOUT_BYTES",
      help: "working memory of all meta runs together, in bytes; 0 or less: no bound",
    }),
    scratchSlots: integer(16, {
      variable: "REACTANT_FANOUT_SLOTS",
      help: "equal parts that memory is given out in; 0 or less: no bound",
    }),
  },
  hooks: {
    memoryBytes: integer(2 ** 29, {
      min: 2 ** 24,
      max: 2 ** 36,
      flag: "hook-memory-bytes",
      help: "bound on the heap, and again on the array buffers, of one hook thread",
    }),
    callTimeoutSeconds: number(60, {
      above: 0,
      max: 86_400,
      flag: "hook-call-timeout-seconds",
      help: "bound on one hook call of a request without an earlier deadline",
    }),
    loadTimeoutSeconds: number(30, {
      above: 0,
      max: 86_400,
      flag: "hook-load-timeout-seconds",
      help: "bound on evaluating a hook file",
    }),
  },
  endpoints: {
    host: text("127.0.0.1", { help: "address both listeners bind" }),
    port: integer(8080, { min: 1, max: PORT_MAX, help: "gRPC port (8001 without a node file)" }),
    metricsPort: integer(0, {
      min: 0,
      max: PORT_MAX,
      help: "HTTP port of metrics and health (8002 without a node file); 0: none",
    }),
    maxConcurrentRequests: integer(1024, {
      min: 0,
      help: "ModelInfer calls in progress before more are refused; 0: no cap",
    }),
    transport: choice("native", ["native", "grpc-js"], {
      flag: "grpc-transport",
      help: "implementation that serves the gRPC port",
    }),
    tlsCert: text("", { holds: "file", help: "PEM certificate chain; with a key it turns TLS on" }),
    tlsKey: text("", { holds: "file", help: "PEM private key of that certificate" }),
    tlsClientCa: text("", {
      holds: "file",
      help: "PEM authorities clients must be signed by (mutual TLS)",
    }),
    shutdownGraceSeconds: number(10, {
      min: 0,
      max: 86_400,
      help: "how long calls in progress may take to finish on shutdown",
    }),
  },
  grpc: {
    maxRecvMsgBytes: integer(MESSAGE_BYTES, { min: 1, help: "largest message accepted" }),
    maxSendMsgBytes: integer(MESSAGE_BYTES, { min: 1, help: "largest message sent" }),
  },
  log: {
    level: choice("info", ["debug", "info", "warn", "error"], {
      flag: "log-level",
      help: "least important lines to log",
    }),
    format: choice("text", ["text", "json"], {
      flag: "log-format",
      help: "log lines for people or for machines",
    }),
  },
};

/** One row per key of a `scheduler.models.<name>` block. These have no variables and no flags. */
export const MODEL_ROWS = {
  weight: number(1, { above: 0, help: "relative share (fair)" }),
  residency: optionalChoice(["unpinned", "system", "device"], {
    aliases: { pinned_system: "system", pinned_device: "device" },
    help: "where the weights must always be",
  }),
  pinToGpu: boolean(false, { help: "true: residency device, unless residency is given" }),
  maxBatchSize: integer(undefined, { min: 1, help: "most rows in one dispatch; unset: no cap" }),
  batchWaitSeconds: number(undefined, {
    min: 0,
    max: MAX_BATCH_WAIT_SECONDS,
    help: "as scheduler.batch_wait_seconds, for this model; unset: that",
  }),
};

/** One row per key of a `hooks.models.<name>` block. These have no variables and no flags. */
export const MODEL_HOOKS_ROWS: RowTree<ModelHooksConfig> = {
  allowRead: list([], {
    expects: "a list of absolute paths without ..",
    pattern: (path) => path.startsWith("/") && !path.split("/").includes(".."),
    help: "files and folders the hooks may read",
  }),
  allowNet: list([], {
    expects: "a list of hosts, each with or without a port (db.example.com:5432)",
    pattern: (host) => /^([\w-]+(\.[\w-]+)*|\[[0-9a-fA-F:.]+\])(:\d{1,5})?$/.test(host),
    help: "hosts the hooks may connect to",
  }),
  allowEnv: list([], {
    expects: "a list of names of environment variables",
    pattern: (name) => /^[A-Za-z_]\w*$/.test(name),
    help: "environment variables the hooks may see",
  }),
};

/** A row with the names derived from its place in the tree. */
export interface Key {
  /** For example `runtime.mem_fraction`. */
  readonly path: string;
  /** The same, as the field names of `ServerConfig`. */
  readonly fields: readonly string[];
  readonly variable: string;
  /** `INFERENCE_SERVER_` and the path, where `variable` is another; it is read when that one is not set. */
  readonly otherVariable?: string | undefined;
  /** Without the dashes. */
  readonly flag: string;
  readonly row: Row;
}

/** Every key of `SERVER_ROWS`, in its order. */
export const SERVER_KEYS: readonly Key[] = [...collectKeys(SERVER_ROWS, [])];

/** `memFraction` as a file spells it: `mem_fraction`. */
export function fileSpelling(field: string): string {
  return field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function* collectKeys(tree: object, parents: readonly string[]): Generator<Key> {
  for (const [field, node] of Object.entries(tree)) {
    const fields = [...parents, field];
    if (!isRow(node)) {
      yield* collectKeys(node, fields);
      continue;
    }
    const parts = fields.map(fileSpelling);
    const regular = `INFERENCE_SERVER_${parts.join("_").toUpperCase()}`;
    yield {
      path: parts.join("."),
      fields,
      variable: node.variable ?? regular,
      otherVariable: node.variable === undefined ? undefined : regular,
      flag: node.flag ?? parts.at(-1)!.replaceAll("_", "-"),
      row: node,
    };
  }
}

function isRow(node: object): node is Row {
  return "fromText" in node;
}
