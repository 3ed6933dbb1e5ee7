/**
 * A bundle's own code: loaded into sandboxed Web Workers and called per request. Nothing a hook does can
 * reach the worker's event loop, files, network or other models.
 */
export * from "./hook_pool.ts";
export type { HookGrants, HookKind, HookName } from "./messages.ts";
export type { MetaServices, Scratch } from "./meta_session.ts";
