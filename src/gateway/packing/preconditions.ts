/** What must hold before `lpt_packing` can start, as a pure check of one poll. */

import { ConfigError } from "../../errors.ts";
import type { FleetReport, WorkerId } from "../fleet.ts";

/** How far a fleet is. */
export interface FleetReadiness {
  /** Sorted. */
  readonly ready: readonly WorkerId[];
  /** Workers that have not answered, sorted. */
  readonly pending: readonly WorkerId[];
}

/** Which of the configured workers have answered. */
export function fleetReadiness(
  workers: readonly WorkerId[],
  report: FleetReport,
): FleetReadiness {
  const answered = new Set(report.workers.map(({ worker }) => worker));
  return {
    ready: workers.filter((worker) => answered.has(worker)).sort(),
    pending: workers.filter((worker) => !answered.has(worker)).sort(),
  };
}

/** Why `lpt_packing` cannot use a worker with this discipline; `undefined` when it can. */
export function disciplineProblem(worker: string, discipline: string): string | undefined {
  if (discipline === "fifo" || discipline === "edf") return undefined;
  return `worker ${worker} runs scheduler.discipline ${
    discipline || "(unknown)"
  }, and lpt_packing ` +
    "needs fifo or edf: placement decides the shares there. Set scheduler.discipline on the worker, " +
    "or choose another scheduling.mode on the gateway";
}

/**
 * Checks that the workers that answered fit the mode. `describe` says which worker is meant.
 *
 * @throws {ConfigError} naming the worker whose discipline is wrong, or two workers with different models
 */
export function checkPackable(
  report: FleetReport,
  describe: (worker: WorkerId) => string = (worker) => worker,
): void {
  for (const { worker, discipline } of report.workers) {
    const problem = disciplineProblem(describe(worker), discipline);
    if (problem !== undefined) throw new ConfigError(`Cannot pack: ${problem}`);
  }
  const [first, ...others] = report.workers.toSorted((a, b) => a.worker < b.worker ? -1 : 1);
  const reference = new Set(first?.models.map(({ name }) => name));
  for (const other of others) {
    const names = new Set(other.models.map(({ name }) => name));
    const missing = reference.difference(names);
    const extra = names.difference(reference);
    if (missing.size === 0 && extra.size === 0) continue;
    const example = [...missing, ...extra].sort()[0];
    throw new ConfigError(
      `Cannot pack: workers must serve the same models, but ${describe(first!.worker)} has ` +
        `${reference.size} and ${describe(other.worker)} has ${names.size}, which differ in ` +
        `${missing.size + extra.size} (${
          JSON.stringify(example)
        } for one); give every worker the ` +
        "same model folder",
    );
  }
}
