/** The orders in which workers are tried, made once per table instead of once per request. */

import type { WorkerId } from "../fleet.ts";

/** A list of workers and its rotations, made on first use. */
export class Rotations {
  readonly workers: readonly WorkerId[];
  readonly #from: (readonly WorkerId[])[] = [];

  constructor(workers: readonly WorkerId[]) {
    this.workers = workers;
  }

  /** The list starting at `index` (below its length), the rest following in order. */
  from(index: number): readonly WorkerId[] {
    return this.#from[index] ??= index === 0
      ? this.workers
      : [...this.workers.slice(index), ...this.workers.slice(0, index)];
  }

  /** Where a worker now stands, or the first one after it in sorted order, or the start. */
  indexAtOrAfter(worker: WorkerId): number {
    const index = this.workers.findIndex((other) => other >= worker);
    return index === -1 ? 0 : index;
  }
}

/** Rotations by list: models on the same workers share them. */
export class RotationPool {
  readonly #byList = new Map<string, Rotations>();

  of(workers: readonly WorkerId[]): Rotations {
    // No address holds a newline.
    const key = workers.join("\n");
    let rotations = this.#byList.get(key);
    if (rotations === undefined) this.#byList.set(key, rotations = new Rotations(workers));
    return rotations;
  }
}
