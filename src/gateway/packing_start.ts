/**
 * `lpt_packing` places models by what all workers say, so it begins when every one of them has. Until
 * then the ports are open and requests are told to come back.
 */

import { UnavailableError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { pause } from "../pause.ts";
import { checkPackable, fleetReadiness } from "./packing/preconditions.ts";
import { pollFleet, type Prober, WATCHDOG_MS } from "./prober.ts";
import type { ManagedRouter } from "./routing/mod.ts";
import type { WorkerPool } from "./worker_pool.ts";

export interface PackingStartOptions {
  readonly pool: WorkerPool;
  readonly prober: Prober;
  readonly router: ManagedRouter;
  readonly logger: Logger;
  /** `Infinity`: as long as it takes. */
  readonly waitSeconds: number;
  /** Stops the waiting, without an error. */
  readonly signal: AbortSignal;
  /** What is waited for, for `/readyz`. */
  readonly onProgress: (pending: string | undefined) => void;
}

/** Between looks. */
const PAUSE_MS = 500;
/** Between lines in the log. */
const SAY_MS = 10_000;
/** Workers that all hang for this long are not going to come. */
const WEDGED_MS = 3 * WATCHDOG_MS;

/**
 * Resolves when the fleet is complete and the models are placed, or the waiting was stopped.
 *
 * @throws {UnavailableError} when a worker is still missing after the wait: a new start may help
 * @throws {ConfigError} when the workers cannot be packed: it will not
 */
export async function startPacking(options: PackingStartOptions): Promise<void> {
  const { pool, prober, router, logger, signal, onProgress } = options;
  const startMs = performance.now();
  let saidMs = -Infinity;
  let hungSinceMs: number | undefined;
  await Promise.all(pool.workers.map((worker) => prober.observe(worker)));
  while (!signal.aborted) {
    const { workers } = pool;
    const ready = workers.filter(({ health }) => health.state === "ready");
    const isComplete = workers.length > 0 && ready.length === workers.length;
    const report = isComplete ? await pollFleet(ready, logger) : { workers: [], atSeconds: 0 };
    const ids = workers.map(({ id }) => id);
    const pending = isComplete
      ? fleetReadiness(ids, report).pending
      : ids.filter((id) => pool.get(id)?.health.state !== "ready");
    if (isComplete && pending.length === 0) {
      checkPackable(report, (id) => {
        const name = pool.get(id)?.name ?? id;
        return name === id ? id : `${name} (${id})`;
      });
      router.report(report);
      onProgress(undefined);
      return;
    }
    const names = pending.map((id) => pool.get(id)?.name ?? id).sort();
    onProgress(`waiting for ${names.join(", ") || "workers"}`);
    const nowMs = performance.now();
    const isHung = workers.length > 0 && workers.every(({ health }) => health.state === "hung");
    hungSinceMs = isHung ? hungSinceMs ?? nowMs : undefined;
    const isWedged = hungSinceMs !== undefined && nowMs - hungSinceMs >= WEDGED_MS;
    if (isWedged || nowMs - startMs >= options.waitSeconds * 1000) {
      throw new UnavailableError(
        `lpt_packing needs every worker, and ${names.join(", ") || "none is a member"} ` +
          `${isWedged ? "hang" : "did not become ready"}; give them longer with ` +
          "REACTANT_GATEWAY_STARTUP_WAIT_SECONDS",
      );
    }
    if (nowMs - saidMs >= SAY_MS) {
      logger.info("waiting for workers", { ready: ready.map(({ name }) => name), pending: names });
      saidMs = nowMs;
    }
    await pause(PAUSE_MS, signal);
  }
}
