/** `round_robin`: the replicas of a model take turns, whatever they are doing. */

import type { FleetReport, RoutingTable, WorkerId } from "../fleet.ts";
import type { ManagedRouter, RouterReadings } from "./managed_router.ts";
import { RotationPool, type Rotations } from "./rotations.ts";
import type { Reservation } from "./router.ts";

interface Turns {
  rotations: Rotations;
  /** Index of the worker whose turn is next. */
  next: number;
}

const NO_READINGS: RouterReadings = {
  workBasis: undefined,
  inflightWork: [],
  packing: undefined,
};

/**
 * The k-th request of a model starts at the k-th of its workers; the others follow in rotation. A new
 * table does not restart the turns: they go on at the worker whose turn it was, or at the next one in
 * order when that has left.
 */
export class RoundRobinRouter implements ManagedRouter {
  readonly wantsReports = false;
  readonly control = undefined;
  #turns = new Map<string, Turns>();

  batchAxisOf(_model: string): undefined {
    return undefined;
  }

  arrived(_model: string): void {}

  reserve(model: string, _items: number): Reservation | undefined {
    const turns = this.#turns.get(model);
    if (turns === undefined) return undefined;
    const { rotations, next } = turns;
    turns.next = next + 1 === rotations.workers.length ? 0 : next + 1;
    return new Turn(rotations.from(next));
  }

  discovered(table: RoutingTable): void {
    const pool = new RotationPool();
    const turns = new Map<string, Turns>();
    for (const [model, workers] of table.routes) {
      if (workers.length === 0) continue;
      const rotations = pool.of(workers);
      const before = this.#turns.get(model);
      turns.set(model, {
        rotations,
        next: before === undefined
          ? 0
          : rotations.indexAtOrAfter(before.rotations.workers[before.next]!),
      });
    }
    this.#turns = turns;
  }

  report(_report: FleetReport): void {}

  readings(): RouterReadings {
    return NO_READINGS;
  }
}

/** A choice that stands for no load. */
class Turn implements Reservation {
  readonly workers: readonly WorkerId[];

  constructor(workers: readonly WorkerId[]) {
    this.workers = workers;
  }

  get first(): WorkerId {
    return this.workers[0]!;
  }

  moveTo(_worker: WorkerId): void {}

  release(): void {}
}
