/**
 * The gateway process: one port for clients, one for people and Prometheus, and a fleet of workers
 * behind them. This file wires the parts and owns their lifetimes.
 *
 * States: starting (ports open, no worker known to be ready) → ready ⇄ not ready, as workers come and
 * go → draining (a stop signal, or the supervisor is gone) → stopped.
 */

import { lookup } from "node:dns/promises";
import manifest from "../../deno.json" with { type: "json" };
import { BUSY_ADDRESS_SECONDS, whileBusy } from "../busy_address.ts";
import type { GatewayConfig } from "../config/mod.ts";
import { ConfigError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { GatewayMetrics, type GatewayWorkerReading } from "../metrics/mod.ts";
import type { ParentLink } from "../parent_link.ts";
import { quoted } from "../protocol/mod.ts";
import { ignoreStraySignals } from "../stop_signals.ts";
import { HealthStatus } from "../transport/mod.ts";
import { Admission } from "./admission.ts";
import { Broadcast } from "./broadcast.ts";
import type { FleetWorker, WorkerClientOptions } from "./fleet_worker.ts";
import { InferProxy, type ModelDirectory } from "./infer_proxy.ts";
import { formatAddress, listenGrpc, listenHttp, readPem } from "./listeners.ts";
import { readMemberFile } from "./member_file.ts";
import { Membership } from "./membership.ts";
import { announce, gatewayMethods } from "./methods.ts";
import { startPacking } from "./packing_start.ts";
import { Prober } from "./prober.ts";
import { type ManagedRouter, type RouterFactory, ROUTERS } from "./routing/mod.ts";
import { nextStop, SUPERVISOR_GONE } from "./signals.ts";
import { MetricsScrape } from "./worker_metrics_scrape.ts";
import { WorkerPool } from "./worker_pool.ts";

export interface GatewayOptions {
  readonly config: GatewayConfig;
  /** At the level and in the format that `config.logging` asks for. */
  readonly logger: Logger;
  /** Absent when nobody supervises this process. */
  readonly link?: ParentLink | undefined;
}

/** How long calls in progress may take once nobody supervises this process any more. */
const ORPHAN_GRACE_SECONDS = 3;
/** Calls that may wait for a stream of one worker where admission has no cap. */
const MAX_WAITING_CALLS = 16_384;

/**
 * Serves until a stop signal, or until the supervisor is gone; then drains and resolves with the exit
 * code: 1 when every worker hangs or, under `lpt_packing`, one did not come in time, so that whoever
 * supervises this process starts it again.
 *
 * @throws {ConfigError} when an address or a certificate cannot be had, or the workers do not fit the
 * scheduling mode
 */
export async function runGateway(options: GatewayOptions): Promise<number> {
  const { config, logger, link } = options;
  using stop = nextStop(link);
  using _stray = ignoreStraySignals((message) => logger.warn(message));
  await using stack = new AsyncDisposableStack();
  const failed = Promise.withResolvers<never>();
  const wedged = Promise.withResolvers<string>();
  const stopping = new AbortController();
  const state = {
    isListening: false,
    wasReady: false,
    /** Why requests are not taken yet. */
    closedBecause: config.scheduling.mode === "lpt_packing" ? "waiting for workers" : undefined,
  } as { isListening: boolean; wasReady: boolean; closedBecause: string | undefined };

  const health = new HealthStatus();
  const requestTimeoutMs = config.workerClient.requestTimeoutSeconds * 1000;
  const pool = new WorkerPool({
    client: workerClientOptions(config),
    drainMs: requestTimeoutMs,
    onJoined: (worker) => prober.suspect(worker),
    onLeft: () => prober.publish(),
    onGone: ({ name }) => forgetName(name),
    onRenamed: (name) => forgetName(name),
  });
  const forgetName = (name: string) => {
    if (pool.workers.every((worker) => worker.name !== name)) metrics.workerRemoved(name);
  };
  stack.defer(() => pool.close());
  const router = createRouter(config, logger, pool, () => broadcast);
  const readiness = () => {
    const isReady = prober.isAnyReady && state.closedBecause === undefined &&
      !stopping.signal.aborted;
    const ready = `${prober.table.ready.length} of ${pool.size} workers ready`;
    const why = stopping.signal.aborted ? "stopping" : state.closedBecause;
    return { isReady, progress: why === undefined ? ready : `${ready}, ${why}` };
  };
  const changed = () => {
    const { isReady, progress } = readiness();
    announce(health, isReady);
    if (!state.isListening || isReady === state.wasReady) return;
    state.wasReady = isReady;
    logger.info(isReady ? "ready" : "not ready", { progress });
    link?.report(isReady ? "ready" : "unready");
  };
  const prober = stack.use(
    new Prober({
      pool,
      router,
      logger,
      intervalMs: config.discovery.healthIntervalSeconds * 1000,
      wedgeExitRounds: config.discovery.wedgeExitRounds,
      onWorkerUp: (worker) => broadcast.restore(worker),
      onChange: changed,
      onWedged: () => wedged.resolve("every worker hangs"),
      reports: () => state.closedBecause === undefined,
    }),
  );
  const admission = new Admission(() =>
    config.grpc.maxConcurrentRequestsPerWorker * Math.max(1, pool.size)
  );
  const scrape: MetricsScrape = new MetricsScrape({
    members: () => pool.workers.map(({ member }) => member),
    ownText: () => metrics.text(),
    logger,
  });
  const metrics = new GatewayMetrics({
    models: () => prober.table.routes.size,
    workers: () => pool.workers.map((worker) => workerReading(worker, scrape)),
    inflightRequests: () => admission.inFlight,
    requestsShed: () => admission.shed,
    maxConcurrentRequests: () => admission.max,
    scheduling: () => router.readings(),
  });
  const broadcast = new Broadcast({
    pool,
    logger,
    requestTimeoutMs,
    requestEnded: (rpc, status, seconds) => metrics.requestEnded(rpc, "", status, seconds),
    workerAnswered: (rpc, worker, seconds) =>
      metrics.workerLatency(rpc, worker.name).observe(seconds),
  });
  const directory: ModelDirectory = {
    knows: (model) => pool.workers.some(({ health }) => health.models.has(model)),
    unheard: () => pool.workers.filter(({ health }) => health.isNew).map(({ name }) => name),
    explain: (model) => explain(model, pool.workers),
    refresh: () => prober.refresh(),
    suspect: (worker) => prober.suspect(worker),
  };
  const proxy = new InferProxy({
    pool,
    router,
    directory,
    admission,
    logger,
    requestTimeoutMs,
    closedBecause: () => state.closedBecause,
    observer: {
      requestEnded: (model, status, seconds) => {
        const isKnown = model === "" || prober.table.routes.has(model) || directory.knows(model);
        metrics.requestEnded("ModelInfer", isKnown ? model : undefined, status, seconds);
      },
      workerAnswered: (worker, seconds) =>
        metrics.workerLatency("ModelInfer", worker.name).observe(seconds),
    },
  });
  const methods = gatewayMethods({
    proxy,
    broadcast,
    health,
    mode: config.scheduling.mode,
    router,
    fleet: {
      pool,
      directory,
      table: () => prober.table,
      isReady: () => readiness().isReady,
      version: manifest.version,
    },
  });

  const leaving = new AbortController();
  void stop.reason.then(() => leaving.abort());
  // Orphans of a killed node may hold the ports for a while; whoever is at a terminal is told at once.
  const waiting = {
    seconds: link === undefined ? 0 : BUSY_ADDRESS_SECONDS,
    signal: leaving.signal,
    onBusy: (error: unknown) => logger.warn("waiting for a port", { reason: messageOf(error) }),
  };
  const http = stack.use(
    await whileBusy(
      () => listenHttp({ config, logger, readiness, metrics: () => scrape.text() }),
      waiting,
    ),
  );
  const server = await whileBusy(() => listenGrpc({ config, logger, methods }), waiting);
  stack.defer(() => server.shutdown(0));
  const addresses = { grpc: formatAddress(server), http: formatAddress(http) };
  logger.info("listening", addresses);
  state.isListening = true;
  link?.report("listening", addresses);

  const membership = stack.use(createMembership(config, logger, pool));
  await membership.look();
  membership.start(config.discovery.membershipIntervalSeconds * 1000);
  prober.start();
  if (state.closedBecause !== undefined) {
    startPacking({
      pool,
      prober,
      router,
      logger,
      waitSeconds: config.discovery.startupWaitSeconds,
      signal: stopping.signal,
      onProgress: (pending) => {
        state.closedBecause = pending;
        changed();
      },
    }).catch(failed.reject);
  }
  changed();

  const reason = await outcomeOf(Promise.race([stop.reason, wedged.promise, failed.promise]));
  stopping.abort();
  const { shutdownGraceSeconds } = config.listen;
  const graceSeconds = reason.text === SUPERVISOR_GONE
    ? Math.min(shutdownGraceSeconds, ORPHAN_GRACE_SECONDS)
    : shutdownGraceSeconds;
  const log = { reason: reason.text, graceSeconds };
  if (reason.exitCode === 0) logger.info("stopping", log);
  else logger.error("stopping", log);
  link?.report("stopping");
  membership[Symbol.dispose]();
  health.close();
  await server.shutdown(graceSeconds * 1000);
  prober[Symbol.dispose]();
  if (reason.error !== undefined) throw reason.error;
  logger.info("stopped");
  return reason.exitCode;
}

/** Why the gateway stops, and what its process should say about it. */
interface StopOutcome {
  readonly text: string;
  readonly exitCode: number;
  /** What a new start will not change. */
  readonly error?: ConfigError;
}

async function outcomeOf(stopped: Promise<string>): Promise<StopOutcome> {
  try {
    const text = await stopped;
    const isOrderly = text === SUPERVISOR_GONE || text.startsWith("SIG");
    return { text, exitCode: isOrderly ? 0 : 1 };
  } catch (error) {
    const text = messageOf(error);
    return error instanceof ConfigError ? { text, exitCode: 1, error } : { text, exitCode: 1 };
  }
}

function createRouter(
  config: GatewayConfig,
  logger: Logger,
  pool: WorkerPool,
  broadcast: () => Broadcast,
): ManagedRouter {
  const create: RouterFactory = ROUTERS[config.scheduling.mode];
  const { mode, workBasis } = config.scheduling;
  logger.info("scheduling", mode === "round_robin" ? { mode } : { mode, workBasis });
  return create({
    scheduling: config.scheduling,
    log: logger,
    now: () => performance.now() / 1000,
    unixNow: () => Date.now() / 1000,
    compact: (orders) => {
      for (const { worker: id, reloadModels } of orders) {
        const worker = pool.get(id);
        if (worker === undefined) continue;
        broadcast().compactWorker(worker, reloadModels).then(
          () => logger.info("worker compacted", { worker: worker.name, reloadModels }),
          (error) =>
            logger.warn("worker did not compact", { worker: worker.name, error: messageOf(error) }),
        );
      }
    },
  });
}

function createMembership(config: GatewayConfig, logger: Logger, pool: WorkerPool): Membership {
  return new Membership({
    endpoints: config.endpoints,
    metricsEndpoints: config.metricsEndpoints,
    workerNames: config.workerNames,
    logger,
    sources: {
      resolve: async (host) => (await lookup(host, { all: true })).map(({ address }) => address),
      readFile: readMemberFile,
    },
    onMembers: (members) => pool.setMembers(members),
  });
}

function workerClientOptions(config: GatewayConfig): WorkerClientOptions {
  const { workerClient, grpc } = config;
  const { enabled, caFile, serverName } = workerClient.tls;
  return {
    maxConcurrentStreams: workerClient.maxConcurrentStreams,
    maxWaitingCalls: MAX_WAITING_CALLS,
    maxRequestBytes: grpc.maxRecvMsgBytes,
    maxResponseBytes: grpc.maxSendMsgBytes,
    tls: enabled
      ? {
        ca: caFile === "" ? undefined : readPem(caFile, "worker_client.tls.ca_file"),
        serverName: serverName === "" ? undefined : serverName,
      }
      : undefined,
  };
}

function workerReading(worker: FleetWorker, scrape: MetricsScrape): GatewayWorkerReading {
  const { id, name, health, member: { metricsEndpoint: endpoint } } = worker;
  const isUp = endpoint === undefined ? undefined : scrape.isUp(endpoint);
  return {
    id,
    name,
    isReady: health.state === "ready",
    metrics: endpoint === undefined || isUp === undefined ? undefined : { endpoint, isUp },
  };
}

/** Why no worker serves a model that some worker has. */
function explain(model: string, workers: readonly FleetWorker[]): string {
  const reasons = workers.flatMap(({ id, health }) => {
    const entry = health.models.get(model);
    if (entry === undefined) return [];
    if (!health.isRoutable) return [`worker ${id} is ${health.state}`];
    return [`worker ${id}: ${entry.reason || "not ready"}`];
  });
  return `Model ${quoted(model)} is not ready: ${reasons.slice(0, 3).join("; ")}`;
}
