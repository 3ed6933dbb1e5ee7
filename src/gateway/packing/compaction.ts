/** Which workers should compact their memory after a repack, as a pure decision. */

import type { CompactionMode } from "../../config/mod.ts";
import type { WorkerId } from "../fleet.ts";
import type { CompactionOrder } from "./control_types.ts";
import type { Placement } from "./pack.ts";

/** What the decision looks at. */
export interface CompactionInput {
  readonly mode: CompactionMode;
  /** Repacks between compactions; 0: never. */
  readonly interval: number;
  /** Repacks since the last compaction, this one included. */
  readonly repacks: number;
  readonly before: Placement;
  readonly after: Placement;
  /** The workers that can be told. */
  readonly workers: readonly WorkerId[];
}

/**
 * The orders to give, none when it is not time. A worker is told when its set of models has changed:
 * it gained one, lost one, or held one that is gone. `scheduled` names what it gained, so that it is
 * loaded at once; `eager` leaves loading to the requests.
 */
export function compactionOrders(input: CompactionInput): CompactionOrder[] {
  const { mode, interval, repacks } = input;
  if (mode === "off" || interval <= 0 || repacks < interval) return [];
  const [before, after] = [modelsByWorker(input.before), modelsByWorker(input.after)];
  const orders: CompactionOrder[] = [];
  for (const worker of input.workers) {
    const had = before.get(worker) ?? new Set();
    const has = after.get(worker) ?? new Set();
    const gained = [...has].filter((model) => !had.has(model));
    const isChanged = gained.length > 0 || [...had].some((model) => !has.has(model));
    if (isChanged) orders.push({ worker, reloadModels: mode === "scheduled" ? gained.sort() : [] });
  }
  return orders;
}

function modelsByWorker(placement: Placement): Map<WorkerId, Set<string>> {
  const models = new Map<WorkerId, Set<string>>();
  for (const [model, workers] of placement) {
    for (const worker of workers) {
      let set = models.get(worker);
      if (set === undefined) models.set(worker, set = new Set());
      set.add(model);
    }
  }
  return models;
}
