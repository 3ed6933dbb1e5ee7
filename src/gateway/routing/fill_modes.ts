/**
 * Which of a model's replicas takes the next request. Batches form where requests meet, so a replica is
 * given a quantum of items (about a batch) before the next one has its turn.
 */

import type { FillMode } from "../../config/mod.ts";
import type { ModelRoute } from "./replicas.ts";

/**
 * Chooses an index in `route.live` (two replicas at least) and moves the route's cursor and run along.
 * `byLoad`: the load of the whole worker breaks ties before the rotation does.
 */
export type FillChoice = (route: ModelRoute, items: number, byLoad: boolean) => number;

/**
 * One replica at a time is filled with a quantum. Ending a run when nothing is in flight keeps a lone
 * client from staying on one replica; leaving a replica that has a quantum more than another keeps the
 * shares within one quantum of even.
 */
const run: FillChoice = (route, items, byLoad) => {
  const { live, plan: { quantum }, target } = route;
  let fewest = Infinity;
  let isIdle = true;
  for (let index = 0; index < live.length; index++) {
    const replica = live[index]!;
    if (replica.quanta < fewest) fewest = replica.quanta;
    if (replica.requests > 0) isIdle = false;
  }
  const isOpen = target >= 0 && !isIdle && route.runItems < quantum &&
    live[target]!.quanta === fewest;
  if (isOpen) {
    route.runItems += items;
    return target;
  }
  let chosen = -1;
  let least = Infinity;
  for (let step = 0, index = route.cursor; step < live.length; step++) {
    const replica = live[index]!;
    if (replica.quanta === fewest) {
      if (!byLoad) {
        chosen = index;
        break;
      }
      if (replica.load.units < least) {
        least = replica.load.units;
        chosen = index;
      }
    }
    index = index + 1 === live.length ? 0 : index + 1;
  }
  open(route, chosen, items);
  return chosen;
};

/** Every request goes where the fewest items of the model are in flight. */
const spread: FillChoice = (route, items, byLoad) => {
  const { live } = route;
  let chosen = route.cursor;
  for (let step = 1, index = chosen; step < live.length; step++) {
    index = index + 1 === live.length ? 0 : index + 1;
    const [replica, best] = [live[index]!, live[chosen]!];
    if (
      replica.items < best.items ||
      (byLoad && replica.items === best.items && replica.load.units < best.load.units)
    ) chosen = index;
  }
  open(route, chosen, items);
  return chosen;
};

/**
 * The original's first mode: the fullest replica that has not got its quantum in flight. It leaves the
 * others without traffic as long as concurrency stays below the quantum.
 */
const inflight: FillChoice = (route, _items, byLoad) => {
  const { live } = route;
  let chosen = route.cursor;
  let ties = 1;
  for (let step = 1, index = chosen; step < live.length; step++) {
    index = index + 1 === live.length ? 0 : index + 1;
    const [replica, best] = [live[index]!, live[chosen]!];
    if (replica.quanta === best.quanta && replica.items === best.items) {
      ties++;
      if (byLoad && replica.load.units < best.load.units) chosen = index;
    } else if (
      replica.quanta < best.quanta ||
      (replica.quanta === best.quanta && replica.items > best.items)
    ) {
      chosen = index;
      ties = 1;
    }
  }
  if (ties > 1) route.cursor = next(chosen, live.length);
  return chosen;
};

/** Every mode by its configured name. */
export const FILL_CHOICES = { run, spread, inflight } satisfies Record<FillMode, FillChoice>;

function open(route: ModelRoute, chosen: number, items: number): void {
  route.cursor = next(chosen, route.live.length);
  route.target = chosen;
  route.runItems = items;
}

function next(index: number, count: number): number {
  return index + 1 === count ? 0 : index + 1;
}
