/**
 * Configuration: every key of a worker in one table, read from flags, variables and the node file, and
 * turned into a typed, checked value that knows where each part came from. Nothing here acts on it, and
 * nothing is read at import time.
 */
export { formatCpuList, parseCpuList } from "./cpu_list.ts";
export * from "./environment.ts";
export * from "./gateway_address.ts";
export * from "./gateway_config.ts";
export * from "./gateway_load.ts";
export * from "./load.ts";
export * from "./node_file.ts";
export * from "./node_outline.ts";
export type { WorkerEntry } from "./node_workers.ts";
export * from "./plugin_path.ts";
export * from "./resolve.ts";
export * from "./resolve_worker.ts";
export { type Leaf, parseBoolean, type Row, type RowKind } from "./rows.ts";
export * from "./server_config.ts";
export * from "./validate.ts";
