/**
 * How bytes travel: gRPC servers and clients over HTTP/2, on our own stack or on `@grpc/grpc-js`, for
 * services that take and give raw messages. Health and reflection live here, since they say something
 * about a listener; no other message type is known.
 */

export * from "./handler.ts";
export { BufferPool, type BufferPoolOptions, LEAST_LOAN_BYTES, type Loan } from "./buffer_pool.ts";
export {
  type BackoffOptions,
  type CallOptions,
  type ClientOptions,
  type ClientStream,
  GrpcClient,
  type UnaryResponse,
} from "./grpc/mod.ts";
export { CallMetadata } from "./metadata.ts";
export { serveGrpc, type ServeOptions, type TransportName } from "./serve.ts";
export {
  healthMethods,
  HealthStatus,
  reflectionMethods,
  type ReflectionOptions,
  type ServingStatus,
} from "./services/mod.ts";
export { type CallStatus, errorOfStatus, STATUS_NUMBERS, statusName } from "./status.ts";
