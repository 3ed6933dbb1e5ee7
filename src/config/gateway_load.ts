/** From flags, variables and `gateway.yml` to one typed, checked configuration of the gateway. */

import { ConfigError, messageOf } from "../errors.ts";
import { suggestion } from "../nearest.ts";
import { readConfigText } from "./config_text.ts";
import type { Environment } from "./environment.ts";
import {
  GATEWAY_KEYS,
  type GatewayConfig,
  MODEL_SCHEDULING_ROWS,
  type ModelSchedulingConfig,
} from "./gateway_config.ts";
import { asBlock, checkKey } from "./known_keys.ts";
import type { Origin, Origins } from "./resolve.ts";
import { type Leaf, type Row, show, showRefused } from "./rows.ts";
import { fileSpelling, type Key } from "./server_config.ts";
import { type Mapping, parseMapping, valueAt } from "./yaml.ts";

/** The variable that names the gateway's file. */
export const GATEWAY_FILE_VARIABLE = "REACTANT_GATEWAY_FILE";

/** What the operator gave. */
export interface GatewayLoadOptions {
  /** Values by flag name without dashes (`gateway-listen-grpc`); for a repeated flag several. */
  readonly flags?: ReadonlyMap<string, readonly string[]>;
  readonly environment: Environment;
  /** `--gateway-file`; else the variable `REACTANT_GATEWAY_FILE`, else there is none. */
  readonly gatewayFile?: string | undefined;
}

/** A configuration, where each of its values came from, and what the operator should be told. */
export interface LoadedGatewayConfig {
  readonly config: GatewayConfig;
  readonly origins: Origins;
  readonly warnings: readonly string[];
}

/** A file's text as values. */
interface FileValues {
  readonly name: string;
  readonly values: Mapping;
}

/** Keys whose variables the original never refuses: what it cannot use means the default. */
const LENIENT_VARIABLES: readonly string[] = [
  "REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS",
  "REACTANT_GATEWAY_STARTUP_WAIT_SECONDS",
];

/**
 * Resolves every key: flag over variable over file over default, and checks what concerns several of
 * them. Reads the file that is named; the PEM files are read by whoever listens.
 *
 * @throws {ConfigError} with one line that names the flag, variable or key at fault
 */
export function loadGatewayConfig(options: GatewayLoadOptions): LoadedGatewayConfig {
  const path = options.gatewayFile ?? (options.environment[GATEWAY_FILE_VARIABLE] || undefined);
  return resolveGatewayConfig({
    flags: options.flags,
    environment: options.environment,
    file: path === undefined ? undefined : { name: path, text: readFile(path) },
  });
}

/** As `loadGatewayConfig`, with the file's text given. */
export function resolveGatewayConfig(sources: {
  readonly flags?: ReadonlyMap<string, readonly string[]> | undefined;
  readonly environment?: Environment;
  readonly file?: { readonly name: string; readonly text: string } | undefined;
}): LoadedGatewayConfig {
  const environment = sources.environment ?? {};
  const warnings = unknownVariables(environment);
  const file = sources.file && {
    name: sources.file.name,
    values: parseMapping(sources.file.text, sources.file.name),
  };
  if (file !== undefined) checkKeys(file);
  const origins = new Map<string, Origin>();
  const root: Record<string, unknown> = {};
  for (const key of GATEWAY_KEYS) {
    const { value, origin } = resolveKey(key, sources.flags, environment, file, warnings);
    origins.set(key.path, origin);
    assign(root, key.fields, value);
  }
  assign(root, ["scheduling", "models"], file === undefined ? new Map() : modelBlocks(file));
  // Every field has a row (`RowTree`) and each row gives its field's type, so the tree is complete.
  const config = withoutDuplicates(root as unknown as GatewayConfig, warnings);
  check(config, origins, warnings);
  return { config, origins, warnings };
}

function readFile(path: string): string {
  try {
    return readConfigText(path);
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "does not exist"
      : `cannot be read: ${messageOf(error)}`;
    throw new ConfigError(`Gateway file ${JSON.stringify(path)} ${reason}`, { cause: error });
  }
}

function resolveKey(
  key: Key,
  flags: ReadonlyMap<string, readonly string[]> | undefined,
  environment: Environment,
  file: FileValues | undefined,
  warnings: string[],
): { value: Leaf; origin: Origin } {
  const given = flags?.get(key.flag);
  if (given !== undefined && given.length > 0) {
    const origin: Origin = { source: "flag", name: `--${key.flag}` };
    const text = key.row.kind === "list" ? given.join(",") : given.at(-1)!;
    return { value: accept(key, key.row.fromText(text), origin.name, text), origin };
  }
  // An empty variable means "not given": that is how container files pass on one that is not set.
  const text = environment[key.variable];
  if (text !== undefined && text.trim() !== "") {
    const origin: Origin = { source: "variable", name: key.variable };
    const value = key.row.fromText(text);
    if (value !== undefined || !LENIENT_VARIABLES.includes(key.variable)) {
      return { value: accept(key, value, origin.name, text), origin };
    }
    warnings.push(
      `${key.variable} should be ${key.row.expects}, got ${show(text)}; ` +
        `${key.row.default} is used instead`,
    );
  }
  const raw = file && valueAt(file.values, key.path.split("."));
  if (file !== undefined && raw !== undefined) {
    const name = `${file.name}: ${key.path}`;
    const origin: Origin = { source: "file", name };
    return { value: accept(key, key.row.fromFile(raw), name, raw), origin };
  }
  return { value: key.row.default, origin: { source: "default", name: "" } };
}

function accept(key: Key, value: Leaf, name: string, raw: unknown): Leaf {
  if (value !== undefined) return value;
  if (
    key.path === "scheduling.routing_policy" && typeof raw === "string" &&
    raw.trim().toLowerCase() === "least_outstanding"
  ) {
    throw new ConfigError(
      `${name} least_outstanding is now a mode of its own; set scheduling.mode to ` +
        "least_outstanding and leave routing_policy out",
    );
  }
  throw new ConfigError(`${name} must be ${key.row.expects}, got ${showRefused(key.row, raw)}`);
}

/** Refuses keys nobody reads, at every depth. */
function checkKeys(file: FileValues): void {
  const paths = GATEWAY_KEYS.map(({ path }) => path);
  const visit = (block: Mapping, parent: string) => {
    const known = new Set(
      paths.filter((path) => path.startsWith(parent)).map((path) =>
        path.slice(parent.length).split(".")[0]!
      ),
    );
    if (parent === "scheduling.") known.add("models");
    for (const [key, value] of Object.entries(block)) {
      const at = parent + key;
      checkKey(key, at, known, file.name, at);
      if (at === "scheduling.models") continue;
      if (paths.some((path) => path.startsWith(`${at}.`))) {
        visit(asBlock(value, file.name, at), `${at}.`);
      }
    }
  };
  visit(file.values, "");
}

function modelBlocks(file: FileValues): Map<string, ModelSchedulingConfig> {
  const at = "scheduling.models";
  const models = new Map<string, ModelSchedulingConfig>();
  const blocks = asBlock(valueAt(file.values, ["scheduling", "models"]), file.name, at);
  const known = Object.keys(MODEL_SCHEDULING_ROWS).map(fileSpelling);
  for (const [model, value] of Object.entries(blocks)) {
    const block = asBlock(value, file.name, `${at}.${model}`);
    for (const key of Object.keys(block)) {
      checkKey(key, `${at}.*.${key}`, known, file.name, `${at}.${model}.${key}`);
    }
    const read = <T extends Leaf>(field: string, row: Row<T>): T => {
      const key = fileSpelling(field);
      const raw = block[key];
      if (raw === undefined || (field !== "replicas" && isInherit(raw))) return row.default;
      const given = row.fromFile(raw);
      if (given !== undefined) return given;
      throw new ConfigError(
        `${file.name}: ${at}.${model}.${key} must be ${row.expects}, got ${show(raw)}`,
      );
    };
    models.set(model, {
      replicas: read("replicas", MODEL_SCHEDULING_ROWS.replicas),
      fillMode: read("fillMode", MODEL_SCHEDULING_ROWS.fillMode),
      fillFactor: read("fillFactor", MODEL_SCHEDULING_ROWS.fillFactor),
    });
  }
  return models;
}

function isInherit(value: unknown): boolean {
  return typeof value === "string" && value.trim().toLowerCase() === "inherit";
}

/** Endpoints named twice are one worker; its metrics and name stay with the first. */
function withoutDuplicates(config: GatewayConfig, warnings: string[]): GatewayConfig {
  const { endpoints } = config;
  const isFirst = (_: unknown, index: number) =>
    index >= endpoints.length || endpoints.indexOf(endpoints[index]!) === index;
  const unique = endpoints.filter(isFirst);
  if (unique.length === endpoints.length) return config;
  const twice = endpoints.filter((item, index) => !isFirst(item, index));
  warnings.push(`endpoints name ${[...new Set(twice)].join(", ")} more than once`);
  return {
    ...config,
    endpoints: unique,
    metricsEndpoints: config.metricsEndpoints.filter(isFirst),
    workerNames: config.workerNames.filter(isFirst),
  };
}

function check(config: GatewayConfig, origins: Origins, warnings: string[]): void {
  const name = (path: string) => origins.get(path)?.name || path;
  const { endpoints, metricsEndpoints, workerNames, grpc, workerClient, tls, scheduling } = config;
  if (endpoints.length === 0) {
    throw new ConfigError(
      `${name("endpoints")} must name at least one worker; give --gateway-workers, ` +
        "REACTANT_GATEWAY_WORKERS or endpoints in the gateway file",
    );
  }
  if (config.listen.grpc === config.listen.metrics && !config.listen.grpc.endsWith(":0")) {
    throw new ConfigError(
      `${name("listen.metrics")} must differ from ${name("listen.grpc")}, both are ` +
        config.listen.grpc,
    );
  }
  if ((tls.certFile === "") !== (tls.keyFile === "")) {
    const [given, missing] = tls.certFile === "" ? ["key", "cert"] : ["cert", "key"];
    throw new ConfigError(
      `${name(`tls.${given}_file`)} is given without tls.${missing}_file; TLS needs both`,
    );
  }
  if (tls.clientCaFile !== "" && tls.certFile === "") {
    throw new ConfigError(`${name("tls.client_ca_file")} needs tls.cert_file and tls.key_file`);
  }
  const workerTls = workerClient.tls;
  if (!workerTls.enabled && (workerTls.caFile !== "" || workerTls.serverName !== "")) {
    const key = workerTls.caFile !== "" ? "ca_file" : "server_name";
    throw new ConfigError(
      `${name(`worker_client.tls.${key}`)} has no effect without worker_client.tls.enabled; ` +
        "set it to true or leave the other out",
    );
  }
  for (
    const [key, list] of [["metrics_endpoints", metricsEndpoints], [
      "worker_names",
      workerNames,
    ]] as const
  ) {
    if (list.length > endpoints.length) {
      warnings.push(
        `${name(key)} has ${list.length} entries for ${endpoints.length} endpoints`,
      );
    }
  }
  const cap = grpc.maxConcurrentRequestsPerWorker;
  if (cap !== 0 && cap <= workerClient.maxConcurrentStreams) {
    warnings.push(
      `${name("grpc.max_concurrent_requests_per_worker")} is ${cap}, not above ` +
        `worker_client.max_concurrent_streams (${workerClient.maxConcurrentStreams}); ` +
        "requests are refused before any has to wait",
    );
  }
  if (origins.get("scheduling.max_worker_share")?.source !== "default") {
    warnings.push(`${name("scheduling.max_worker_share")} is accepted but has no effect`);
  }
  const parked = [...scheduling.models].filter(([, { fillMode }]) => fillMode === "inflight")
    .map(([model]) => `scheduling.models.${model}.fill_mode`);
  if (scheduling.routingFillMode === "inflight") parked.unshift("scheduling.routing_fill_mode");
  if (scheduling.mode === "lpt_packing" && parked.length > 0) {
    warnings.push(
      `${parked.join(", ")} is inflight, which keeps a model with few requests in flight on one ` +
        "replica; prefer run",
    );
  }
}

/** Warnings about `REACTANT_GATEWAY_*` variables that have no effect. */
function unknownVariables(environment: Environment): string[] {
  const known = [GATEWAY_FILE_VARIABLE, "REACTANT_GATEWAY_METRICS_PORT"];
  for (const { variable } of GATEWAY_KEYS) known.push(variable);
  return Object.keys(environment).sort()
    .filter((name) => name.startsWith("REACTANT_GATEWAY_") && !known.includes(name))
    .map((name) => `Variable ${name} has no effect${suggestion(name, known)}`);
}

function assign(root: Record<string, unknown>, fields: readonly string[], value: unknown): void {
  let node = root;
  for (const field of fields.slice(0, -1)) {
    node[field] ??= {};
    node = node[field] as Record<string, unknown>;
  }
  node[fields.at(-1)!] = value;
}
