/**
 * Who runs next on the device, and in which batch. Decisions are pure functions (`batch_plan.ts`,
 * `disciplines/`); `selection.ts` asks them of the queues, `batch_run.ts` runs what was chosen, and
 * `scheduler.ts` admits requests and keeps the device busy. No device, no protocol: a model is given as a
 * run function.
 */
export * from "./batch_plan.ts";
export type { DispatchRecord } from "./batch_run.ts";
export * from "./disciplines/mod.ts";
export * from "./dispatch_watch.ts";
export * from "./queue.ts";
export * from "./scheduled_model.ts";
export * from "./scheduler.ts";
export { DEFAULT_COST_SECONDS } from "./selection.ts";
export type { StagingOutcome } from "./staging.ts";
