/** Which workers are packed: those that answer, and those that did a moment ago. */

import type { Logger } from "../../log.ts";
import type { FleetReport, WorkerId, WorkerReport } from "../fleet.ts";
import { disciplineProblem } from "./preconditions.ts";

/** A member stays this long after its last answer, and for at least so many rounds. */
const GRACE_SECONDS = 25;
const GRACE_ROUNDS = 2;

interface Member {
  report: WorkerReport;
  seenAtSeconds: number;
  missedRounds: number;
}

/**
 * The members of a fleet that workers join and leave. A missed answer does not end a membership: moving
 * its models away and back would cost more than waiting. Workers that the mode cannot use are left out,
 * with one warning each.
 */
export class Members {
  readonly #members = new Map<WorkerId, Member>();
  readonly #refused = new Map<WorkerId, string>();
  readonly #log: Logger;
  #hasChanged = false;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** The last report of every member, sorted by name. */
  get reports(): WorkerReport[] {
    return [...this.#members.values()]
      .map(({ report }) => report)
      .sort((a, b) => a.worker < b.worker ? -1 : 1);
  }

  /** Sorted. */
  get workers(): WorkerId[] {
    return [...this.#members.keys()].sort();
  }

  /** Whether the last poll brought or removed a member. */
  get hasChanged(): boolean {
    return this.#hasChanged;
  }

  observe(report: FleetReport): void {
    this.#hasChanged = false;
    const answered = new Set<WorkerId>();
    for (const worker of report.workers) {
      if (!this.#isUsable(worker)) continue;
      answered.add(worker.worker);
      this.#hasChanged ||= !this.#members.has(worker.worker);
      this.#members.set(worker.worker, {
        report: worker,
        seenAtSeconds: report.atSeconds,
        missedRounds: 0,
      });
    }
    for (const [worker, member] of this.#members) {
      if (answered.has(worker)) continue;
      member.missedRounds++;
      const isLate = report.atSeconds - member.seenAtSeconds > GRACE_SECONDS;
      if (isLate && member.missedRounds >= GRACE_ROUNDS) {
        this.#members.delete(worker);
        this.#hasChanged = true;
      }
    }
  }

  #isUsable({ worker, discipline }: WorkerReport): boolean {
    const problem = disciplineProblem(worker, discipline);
    if (problem === undefined) {
      this.#refused.delete(worker);
      return true;
    }
    if (this.#refused.get(worker) !== discipline) {
      this.#refused.set(worker, discipline);
      this.#log.warn(`Leaving a worker out of the packing: ${problem}`);
    }
    this.#members.delete(worker);
    return false;
  }
}
