/**
 * Who runs next on the device, and in which batch. Decisions are pure functions (`batch_plan.ts`,
 * `disciplines/`); `scheduler.ts` keeps the queues and calls them. No device, no protocol: a model is
 * given as a run function.
 */
export * from "./batch_plan.ts";
export * from "./disciplines/mod.ts";
export * from "./queue.ts";
export * from "./scheduled_model.ts";
export * from "./scheduler.ts";
