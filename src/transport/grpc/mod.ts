/**
 * gRPC over our own HTTP/2: the server and the client of the hot path. Messages are lists of chunks
 * that are passed through as they came; small unary calls are answered without a promise, a timer or
 * an AbortController. It knows no service and no message type.
 */

export type { BackoffOptions } from "./backoff.ts";
export type { CallOptions } from "./client_call.ts";
export { type ClientOptions, type ClientStream, GrpcClient, type UnaryResponse } from "./client.ts";
export { startNativeServer } from "./server.ts";
