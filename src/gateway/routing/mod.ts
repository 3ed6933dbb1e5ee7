/**
 * Where a request goes. Each scheduling mode is a router in a file of its own; a new one is a file, a
 * name in `config` and a row here. Nothing in this folder does I/O or holds a timer, so that whole fleets
 * can be simulated with the code that serves.
 */
import type { SchedulingMode } from "../../config/mod.ts";
import { LeastOutstandingRouter } from "./least_outstanding.ts";
import { LptPackingRouter } from "./lpt_packing.ts";
import type { RouterFactory } from "./managed_router.ts";
import { RoundRobinRouter } from "./round_robin.ts";

export type {
  ManagedRouter,
  PackingReadings,
  RouterFactory,
  RouterOptions,
  RouterReadings,
} from "./managed_router.ts";
export type { BatchAxis, Reservation, Router } from "./router.ts";

/** Every mode by its configured name. */
export const ROUTERS = {
  round_robin: () => new RoundRobinRouter(),
  least_outstanding: (options) => new LeastOutstandingRouter(options),
  lpt_packing: (options) => new LptPackingRouter(options),
} satisfies Record<SchedulingMode, RouterFactory>;
