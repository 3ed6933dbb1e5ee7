/** From what is believed of each worker to one routing table. */

import type { RoutingTable, WorkerId } from "./fleet.ts";
import type { WorkerHealth } from "./worker_health.ts";

/** A worker as the table sees it. */
export interface TableWorker {
  readonly id: WorkerId;
  readonly health: Pick<WorkerHealth, "state" | "isRoutable" | "models">;
}

/** The table before anything was discovered. */
export const EMPTY_TABLE: RoutingTable = { routes: new Map(), ready: [] };

/** The table for these workers. */
export function buildRoutingTable(workers: Iterable<TableWorker>): RoutingTable {
  const sorted = [...workers].sort((a, b) => compare(a.id, b.id));
  const routes = new Map<string, WorkerId[]>();
  for (const { id, health } of sorted) {
    if (!health.isRoutable) continue;
    for (const { name, isReady } of health.models.values()) {
      if (!isReady) continue;
      const there = routes.get(name);
      if (there === undefined) routes.set(name, [id]);
      else there.push(id);
    }
  }
  const ready = sorted.filter(({ health }) => health.state === "ready").map(({ id }) => id);
  return { routes, ready };
}

/** Whether two tables say the same. */
export function sameTable(a: RoutingTable, b: RoutingTable): boolean {
  if (a.routes.size !== b.routes.size || !sameList(a.ready, b.ready)) return false;
  for (const [model, workers] of a.routes) {
    const others = b.routes.get(model);
    if (others === undefined || !sameList(workers, others)) return false;
  }
  return true;
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}

/** By code unit, as everything that is sorted here: no locale. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
