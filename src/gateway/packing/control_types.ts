/** What operators may see and change of a packing fleet. */

import type { WorkerId } from "../fleet.ts";

/** One worker that should free its device memory and load these models again. */
export interface CompactionOrder {
  readonly worker: WorkerId;
  /** Empty under `eager`. */
  readonly reloadModels: readonly string[];
}

/** The control of a mode with placement. */
export interface SchedulingControl {
  /** Whether an operator waits for a repack: the next poll should come early. */
  readonly isRepackPending: boolean;
}
