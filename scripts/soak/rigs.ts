/**
 * The soak rigs, as the compose files have them for GPUs: one worker by itself, and several behind a
 * gateway in lpt_packing, two or four. On CPU workers `runtime.device_memory_bytes` stands for the size of a device.
 */

import { HEAVY_BYTES } from "./models.ts";

export type RigName = "single" | "pair" | "quad";

export interface Rig {
  readonly title: string;
  readonly workers: number;
  /** The node file's `global` block. */
  readonly global: (modelCount: number) => Record<string, unknown>;
  readonly env: (seconds: number) => Record<string, string>;
  /** Whether the models are more than the device takes. */
  readonly isOversubscribed: boolean;
}

/** Models of `HEAVY_BYTES` that fit the single worker's device beside programs' scratch. */
const FITTING = 4;
/**
 * A repack comes after as many device seconds: a 60th of the soak, at most what the compose file has. A dozen
 * or more in ten minutes show what each of them may keep, and every worker has soon had every model.
 */
const REBALANCE_SHARE = 1 / 60;
const REBALANCE_AT_MOST_SECONDS = 60;
/** So that a short soak does something else too. */
const REBALANCE_AT_LEAST_SECONDS = 3;

export const RIGS: Readonly<Record<RigName, Rig>> = {
  single: {
    title: "one worker, more models than its device takes",
    workers: 1,
    isOversubscribed: true,
    global: () => ({
      runtime: {
        backend: "cpu",
        // The allocator may use 0.9 of it, a tenth of that is kept free, and dispatches need scratch.
        device_memory_bytes: Math.ceil((FITTING + 1) * HEAVY_BYTES / 0.9 / 0.9),
      },
    }),
    env: () => ({}),
  },
  pair: packed("two", 2),
  quad: packed("four", 4),
};

/** Workers among which a gateway spreads the models, with room for all of them. */
function packed(count: string, workers: number): Rig {
  return {
    title: `${count} workers, lpt_packing, all models fit`,
    workers,
    isOversubscribed: false,
    global: (modelCount) => ({
      runtime: {
        backend: "cpu",
        device_memory_bytes: 4 * modelCount * HEAVY_BYTES,
        shared_host_weights: true,
        shared_host_weights_mode: "660",
      },
      scheduler: { discipline: "fifo", compaction_interval: 0 },
    }),
    env: (seconds) => ({
      REACTANT_GATEWAY_SCHEDULING_MODE: "lpt_packing",
      REACTANT_GATEWAY_SCHEDULING_DEFAULT_REPLICAS: "1",
      REACTANT_GATEWAY_SCHEDULING_REBALANCE_COMPUTE_SECONDS: String(
        Math.min(
          REBALANCE_AT_MOST_SECONDS,
          Math.max(REBALANCE_AT_LEAST_SECONDS, Math.round(seconds * REBALANCE_SHARE)),
        ),
      ),
      REACTANT_GATEWAY_SCHEDULING_FIRST_REBALANCE_COMPUTE_SECONDS: "0",
    }),
  };
}
