/** How a model's requests fill its replicas: the mode, and how much one replica takes in a row. */

import type { FillMode } from "../../config/mod.ts";

/** Resolved for one model. */
export interface FillPlan {
  readonly mode: FillMode;
  /** Items one replica takes before the next has its turn; at least 1. */
  readonly quantum: number;
}

/** The plan of a model that no poll has shown. */
export const UNKNOWN_FILL_PLAN: FillPlan = { mode: "run", quantum: 1 };

/** `factor` batches, in items: 1 when the batch is unknown, halves rounded to even. */
export function fillQuantum(factor: number, maxBatchSize: number): number {
  if (maxBatchSize <= 0) return 1;
  return Math.max(1, roundHalfEven(factor * maxBatchSize));
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
