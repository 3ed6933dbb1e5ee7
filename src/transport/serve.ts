/** Which transport a listener stands on is one option. */

import { startNativeServer } from "./grpc/mod.ts";
import { startGrpcJsServer } from "./grpcjs/mod.ts";
import type { GrpcServer, ServerOptions } from "./handler.ts";

/** The transports a listener can stand on. */
export type TransportName = "native" | "grpc-js";

const SERVERS = {
  native: startNativeServer,
  "grpc-js": startGrpcJsServer,
} satisfies Record<TransportName, (options: ServerOptions) => Promise<GrpcServer>>;

/** `ServerOptions` and the transport to use. */
export interface ServeOptions extends ServerOptions {
  readonly transport: TransportName;
}

/**
 * Starts a listener. A client certificate authority (`tls.clientCa`) is served by grpc-js whatever
 * `transport` says, because Deno's own TLS listener cannot ask for client certificates. Throws
 * `UnavailableError` when the address cannot be bound.
 */
export function serveGrpc(options: ServeOptions): Promise<GrpcServer> {
  return SERVERS[options.tls?.clientCa === undefined ? options.transport : "grpc-js"](options);
}
