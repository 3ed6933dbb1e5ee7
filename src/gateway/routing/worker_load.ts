/** How much work every worker has in flight, in exact integers. */

import type { WorkerId } from "../fleet.ts";

/**
 * Loads are compared at this grain (specification of the load comparison: `load × 1e9`, rounded). Each
 * charge is rounded to it once, when it is made, so that sums are sums of integers: adding and
 * subtracting in any order leaves no residue that would turn a tie into a preference.
 */
const UNITS_PER_WORK = 1e9;
/** Above this a sum of a few charges would no longer be an exact integer. */
const MAX_UNITS = 2 ** 50;

/** A charge in units; never 0, so that every request in flight counts. */
export function chargeUnits(work: number): number {
  return Math.min(MAX_UNITS, Math.max(1, Math.round(work * UNITS_PER_WORK)));
}

/** The work in flight on one worker, over all models. */
export class WorkerLoad {
  readonly worker: WorkerId;
  /** Work in flight, in units; compare this. */
  units = 0;
  /** Requests in flight. */
  requests = 0;

  constructor(worker: WorkerId) {
    this.worker = worker;
  }

  /** In the units of the work basis (device-seconds, items or requests). */
  get work(): number {
    return this.units / UNITS_PER_WORK;
  }

  add(units: number): void {
    this.units += units;
    this.requests++;
  }

  remove(units: number): void {
    this.requests--;
    // A drained worker has no load, whatever charges too large for exact sums have left behind.
    this.units = this.requests === 0 ? 0 : this.units - units;
  }
}

/** The loads of a fleet whose members come and go. */
export class WorkerLoads {
  readonly #loads = new Map<WorkerId, WorkerLoad>();

  /** The load of a worker, which is known from now on. */
  of(worker: WorkerId): WorkerLoad {
    let load = this.#loads.get(worker);
    if (load === undefined) this.#loads.set(worker, load = new WorkerLoad(worker));
    return load;
  }

  /**
   * Forgets idle workers that are not among these. One with requests in flight is kept until it has
   * none, so that it still counts them if it comes back.
   */
  retain(workers: ReadonlySet<WorkerId>): void {
    for (const [worker, load] of this.#loads) {
      if (load.requests === 0 && !workers.has(worker)) this.#loads.delete(worker);
    }
  }

  /** 0 for a worker that is not known. */
  workOf(worker: WorkerId): number {
    return this.#loads.get(worker)?.work ?? 0;
  }

  /** Every known worker, sorted by name. */
  readings(): { worker: WorkerId; work: number }[] {
    return [...this.#loads.values()]
      .map(({ worker, work }) => ({ worker, work }))
      .sort((a, b) => a.worker < b.worker ? -1 : 1);
  }
}
