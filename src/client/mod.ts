/**
 * A typed client of the inference protocol: connections, models, shared memory, retries. It knows the
 * messages and the transport, no device and no bundle, and works with a worker and with a gateway alike.
 */
export * from "./dataset.ts";
export * from "./infer.ts";
export * from "./io_check.ts";
export * from "./model.ts";
export * from "./model_handle.ts";
export * from "./retry.ts";
export * from "./server_connection.ts";
export * from "./shared_memory_pool.ts";
export * from "./shared_memory_route.ts";
export * from "./slots.ts";
export * from "./staging.ts";
export * from "./url.ts";
