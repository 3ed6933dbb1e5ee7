/**
 * Keeps what is believed of the workers true. Rounds at an interval ask every worker whether it is ready
 * and what it serves, and poll what the router wants to know; in between a quick look notices workers
 * that come, go or hang. Requests can ask for a look, too.
 */

import { messageOf, ServerError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { ControlService, GRPCInferenceService } from "../protocol/mod.ts";
import type { FleetReport, RoutingTable, WorkerReport } from "./fleet.ts";
import type { FleetWorker } from "./fleet_worker.ts";
import type { ManagedRouter } from "./routing/mod.ts";
import { buildRoutingTable, EMPTY_TABLE, sameTable } from "./routing_table.ts";
import type { IndexEntry } from "./worker_health.ts";
import type { WorkerPool } from "./worker_pool.ts";
import { askWorker, failureOf } from "./worker_rpc.ts";

/** A probe without an answer for this long means that the worker hangs. */
export const WATCHDOG_MS = 8000;
/** Between quick looks, which ask a worker only whether it is ready. */
const LOOK_MS = 1000;
/** Between scans that requests ask for, from the end of the last one. */
const REFRESH_MS = 1000;
/** Longest that a request waits for such a scan: a worker that hangs must not hold everybody up. */
const REFRESH_WAIT_MS = 2000;
/** How often an operator's wish for an early round is looked for. */
const WISH_MS = 50;

export interface ProberOptions {
  readonly pool: WorkerPool;
  readonly router: ManagedRouter;
  readonly logger: Logger;
  readonly intervalMs: number;
  /** Rounds in which every worker hangs before `onWedged`; 0: never. */
  readonly wedgeExitRounds: number;
  /** A worker answers that did not; requests go there once this has resolved. Must not reject. */
  readonly onWorkerUp: (worker: FleetWorker) => Promise<void>;
  /** Something changed: the table, or a worker's state. */
  readonly onChange: () => void;
  /** Nothing here gets through to any worker any more. */
  readonly onWedged: () => void;
  /** Whether polls go to the router; `false` while it waits for its first one. */
  readonly reports: () => boolean;
  /** Default `WATCHDOG_MS`. */
  readonly watchdogMs?: number;
}

export class Prober implements Disposable {
  readonly #options: ProberOptions;
  readonly #watchdogMs: number;
  /** Workers being asked, and whether for everything. */
  readonly #busy = new Map<
    FleetWorker,
    { readonly isFull: boolean; readonly done: Promise<void> }
  >();
  #table: RoutingTable = EMPTY_TABLE;
  #timers: ReturnType<typeof setInterval>[] = [];
  #roundTimer: ReturnType<typeof setTimeout> | undefined;
  #isInRound = false;
  #isStopped = false;
  #wedgedRounds = 0;
  /** An operator's wish that the last round did not fulfil: it buys no further early one. */
  #isWishSpent = false;
  #scan: Promise<void> | undefined;
  #scannedAtMs = -Infinity;

  constructor(options: ProberOptions) {
    this.#options = options;
    this.#watchdogMs = options.watchdogMs ?? WATCHDOG_MS;
  }

  /** What requests are routed by. */
  get table(): RoutingTable {
    return this.#table;
  }

  /** Whether some worker is ready. */
  get isAnyReady(): boolean {
    return this.#table.ready.length > 0;
  }

  /** Begins with a round at once. */
  start(): void {
    const { intervalMs, router } = this.#options;
    this.#timers.push(setInterval(() => this.#lookAround(), Math.min(LOOK_MS, intervalMs)));
    if (router.control !== undefined) {
      this.#timers.push(setInterval(() => this.#grantWish(), WISH_MS));
    }
    void this.#rounds();
  }

  [Symbol.dispose](): void {
    this.#isStopped = true;
    for (const timer of this.#timers) clearInterval(timer);
    clearTimeout(this.#roundTimer);
  }

  /** Asks every worker, publishes what comes out, and polls if the router wants that. */
  async round(): Promise<void> {
    const { pool } = this.#options;
    const workers = pool.workers;
    await Promise.all(workers.map((worker) => this.observe(worker)));
    this.#scannedAtMs = performance.now();
    this.#countWedges(workers);
    if (this.#options.reports()) await this.poll(workers);
  }

  /**
   * Looks at the fleet because a request found nothing; shared by all that ask, and not within a second
   * of the last look, except at workers that have joined since. Resolves after at most two seconds,
   * whatever the workers do.
   */
  async refresh(): Promise<void> {
    if (this.#scan === undefined) {
      const { workers } = this.#options.pool;
      const isRecent = performance.now() - this.#scannedAtMs < REFRESH_MS;
      const asked = isRecent ? workers.filter(({ health }) => health.isNew) : workers;
      if (asked.length === 0) return;
      this.#scan = Promise.all(asked.map((worker) => this.observe(worker))).then(() => {
        if (!isRecent) this.#scannedAtMs = performance.now();
        this.#scan = undefined;
      });
    }
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, REFRESH_WAIT_MS));
    await Promise.race([this.#scan, late]);
    clearTimeout(timer);
  }

  /** Looks at one worker whose calls fail. */
  suspect(worker: FleetWorker): void {
    if (!worker.isLeaving && !this.#isStopped) void this.observe(worker);
  }

  /** Asks a worker whether it is ready and what it serves. Shared by all that ask. Never rejects. */
  async observe(worker: FleetWorker): Promise<void> {
    const current = this.#busy.get(worker);
    if (current?.isFull === false) await current.done;
    await this.#ask(worker, true);
  }

  /** Swaps the table if the workers' states make another one. */
  publish(): void {
    const table = buildRoutingTable(this.#options.pool.workers);
    if (!sameTable(table, this.#table)) {
      this.#table = table;
      this.#options.router.discovered(table);
    }
    this.#options.onChange();
  }

  /** What the ready ones of these workers report, to the router; and to the caller. */
  async poll(workers: readonly FleetWorker[]): Promise<FleetReport | undefined> {
    const { router } = this.#options;
    const ready = workers.filter(({ health }) => health.state === "ready");
    if (!router.wantsReports || ready.length === 0) return undefined;
    const report = await pollFleet(ready, this.#options.logger);
    if (report.workers.length > 0 && !this.#isStopped) router.report(report);
    return report;
  }

  async #rounds(): Promise<void> {
    if (this.#isInRound || this.#isStopped) return;
    this.#isInRound = true;
    clearTimeout(this.#roundTimer);
    try {
      await this.round();
    } catch (error) {
      this.#options.logger.error("discovery round failed", { error });
    }
    this.#isInRound = false;
    if (this.#isStopped) return;
    this.#roundTimer = setTimeout(() => void this.#rounds(), this.#options.intervalMs);
  }

  #grantWish(): void {
    if (this.#options.router.control?.isRepackPending !== true) {
      this.#isWishSpent = false;
    } else if (!this.#isWishSpent && !this.#isInRound) {
      this.#isWishSpent = true;
      void this.#rounds();
    }
  }

  /** Whether each worker is still as it was; where one is not, everything about it is asked. */
  #lookAround(): void {
    for (const worker of this.#options.pool.workers) {
      if (!this.#busy.has(worker)) void this.#ask(worker, false);
    }
  }

  /** Once at a time per worker; whoever comes meanwhile shares it. Never rejects. */
  #ask(worker: FleetWorker, isFull: boolean): Promise<void> {
    const current = this.#busy.get(worker);
    if (current !== undefined) return current.done;
    const done = this.#observe(worker, isFull)
      .catch((error) => this.#options.logger.error("probe failed", { worker: worker.name, error }))
      .finally(() => this.#busy.delete(worker));
    this.#busy.set(worker, { isFull, done });
    return done;
  }

  async #observe(worker: FleetWorker, isFull: boolean): Promise<void> {
    const { health } = worker;
    const before = health.state;
    const answer = await this.#askReady(worker);
    if ("isReady" in answer) {
      const { isReady } = answer;
      if (!isFull && health.isAsBefore(isReady)) {
        health.answered(isReady);
        return;
      }
      const wasUp = health.isRoutable || before === "stopping";
      const index = await this.#askIndex(worker);
      if (index === undefined) health.indexMissed();
      else health.indexed(index);
      if (!wasUp) await this.#options.onWorkerUp(worker);
      health.answered(isReady);
    }
    if (worker.isLeaving || this.#isStopped) return;
    if (health.state !== before) {
      this.#options.logger.info("worker", {
        worker: worker.name,
        state: health.state,
        was: before,
        ...("reason" in answer ? { reason: answer.reason } : {}),
      });
    }
    this.publish();
  }

  /** Its answer; why there is none, and the health changed, where there is none. */
  async #askReady(worker: FleetWorker): Promise<{ isReady: boolean } | { reason: string }> {
    const { health } = worker;
    try {
      const { serverReady } = GRPCInferenceService.method;
      const { ready } = await askWorker(worker, serverReady, {}, this.#watchdogMs);
      return { isReady: ready };
    } catch (error) {
      const status = error instanceof ServerError ? error.status : "INTERNAL";
      if (status === "DEADLINE_EXCEEDED") {
        if (health.state !== "hung") {
          this.#options.logger.warn("worker hangs", { worker: worker.name });
        }
        health.hung();
        worker.reset();
      } else if (
        status === "UNAVAILABLE" || failureOf(error as ServerError, false, false) === "transport"
      ) {
        health.unreachable();
      } else {
        health.refused();
      }
      const reason = messageOf(error);
      this.#options.logger.debug("probe", { worker: worker.name, error: reason });
      return { reason };
    }
  }

  async #askIndex(worker: FleetWorker): Promise<Map<string, IndexEntry> | undefined> {
    try {
      const { repositoryIndex } = GRPCInferenceService.method;
      const { models } = await askWorker(worker, repositoryIndex, {}, this.#watchdogMs);
      return new Map(models.map(({ name, version, state, reason }) => [
        name,
        { name, version, isReady: state === "READY", reason },
      ]));
    } catch (error) {
      if (!worker.isLeaving) {
        this.#options.logger.warn("no index", { worker: worker.name, error: messageOf(error) });
      }
      return undefined;
    }
  }

  #countWedges(workers: readonly FleetWorker[]): void {
    const { wedgeExitRounds, logger, onWedged } = this.#options;
    const isWedged = workers.length > 0 &&
      workers.every(({ health }) => health.state === "hung") &&
      workers.some(({ health }) => health.hasAnswered);
    this.#wedgedRounds = isWedged ? this.#wedgedRounds + 1 : 0;
    if (wedgeExitRounds === 0 || this.#wedgedRounds < wedgeExitRounds) return;
    logger.error("every worker hangs", { rounds: this.#wedgedRounds });
    onWedged();
  }
}

/** Polls workers at the same time; those that do not answer are left out. */
export async function pollFleet(
  workers: readonly FleetWorker[],
  logger: Logger,
): Promise<FleetReport> {
  const reports = await Promise.all(workers.map(async (worker) => {
    try {
      return await pollWorker(worker);
    } catch (error) {
      logger.warn("no report", { worker: worker.name, error: messageOf(error) });
      return undefined;
    }
  }));
  return {
    workers: reports.filter((report) => report !== undefined),
    atSeconds: performance.now() / 1000,
  };
}

async function pollWorker(worker: FleetWorker): Promise<WorkerReport> {
  const { modelControlStatus } = ControlService.method;
  const status = await askWorker(worker, modelControlStatus, {}, WATCHDOG_MS);
  return {
    worker: worker.id,
    discipline: status.discipline,
    weightBudgetBytes: Number(status.weightCacheMaxBytes),
    models: status.models.map((model) => ({
      name: model.name,
      weightBytes: Number(model.weightNbytes),
      computeSeconds: model.totalComputeSeconds,
      requests: Number(model.requestsServed),
      rows: Number(model.rowsServed),
      maxBatchSize: Number(model.maxBatchSize),
      batchInput: model.batchInputName,
      batchAxis: Number(model.batchAxis),
    })),
  };
}
