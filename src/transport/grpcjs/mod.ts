/**
 * The same listeners over `@grpc/grpc-js`: the independent implementation that keeps the native one
 * honest, and the one that can ask clients for certificates. It carries raw messages and knows no service;
 * it does not try to be fast. It cannot compress, and calls of unknown methods end inside grpc-js, so
 * `onCallEnd` does not hear of them.
 */

export { startGrpcJsServer } from "./server.ts";
