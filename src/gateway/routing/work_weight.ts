/** What one request counts for, by work basis. */

import type { WorkBasis } from "../../config/mod.ts";
import { chargeUnits } from "./worker_load.ts";
import type { WorkCosts } from "./work_costs.ts";

/** The load units of a request of `items` rows. */
export type WorkWeight = (model: string, items: number, costs: WorkCosts) => number;

/** Every basis by its configured name. */
export const WORK_WEIGHTS = {
  /** Device time: items times what an item of the model takes. */
  compute: (model, items, costs) => chargeUnits(items * costs.itemCostOf(model)),
  items: (_model, items) => chargeUnits(items),
  requests: () => chargeUnits(1),
} satisfies Record<WorkBasis, WorkWeight>;
