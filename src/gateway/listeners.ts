/** The two ports of the gateway. */

import { readFileSync } from "node:fs";
import { type GatewayConfig, type HostPort, parseHostPort } from "../config/mod.ts";
import { formatHostPort } from "../config/mod.ts";
import { ConfigError, messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";
import { type HttpEndpoint, type Readiness, serveHttp } from "../metrics/mod.ts";
import { type GrpcServer, type MethodTable, serveGrpc } from "../transport/mod.ts";

/**
 * The port of clients.
 * @throws {ConfigError} when it cannot be had, or a PEM file cannot be read
 */
export async function listenGrpc(options: {
  readonly config: GatewayConfig;
  readonly logger: Logger;
  readonly methods: MethodTable;
}): Promise<GrpcServer> {
  const { config: { listen, grpc, tls }, logger, methods } = options;
  const { host, port } = parseHostPort(listen.grpc)!;
  const secured = tls.certFile === "" ? undefined : {
    cert: readPem(tls.certFile, "tls.cert_file"),
    key: readPem(tls.keyFile, "tls.key_file"),
    clientCa: tls.clientCaFile === "" ? undefined : readPem(tls.clientCaFile, "tls.client_ca_file"),
  };
  try {
    return await serveGrpc({
      transport: "native",
      hostname: host,
      port,
      methods,
      maxReceiveBytes: grpc.maxRecvMsgBytes,
      maxSendBytes: grpc.maxSendMsgBytes,
      tls: secured,
      onHandlerError: (error, path) => logger.error("call failed", { path, error }),
      onAcceptError: (error) =>
        logger.warn("gRPC connections cannot be accepted", { reason: messageOf(error) }),
    });
  } catch (error) {
    throw new ConfigError(
      `Cannot serve gRPC on ${listen.grpc}: ${messageOf(error)}; free the port or choose another ` +
        "with --gateway-listen-grpc",
      { cause: error },
    );
  }
}

/**
 * The port of metrics and health.
 * @throws {ConfigError} when it cannot be had
 */
export function listenHttp(options: {
  readonly config: GatewayConfig;
  readonly logger: Logger;
  readonly readiness: () => Readiness;
  readonly metrics: () => Promise<string>;
}): HttpEndpoint {
  const { config: { listen }, ...rest } = options;
  const { host, port } = parseHostPort(listen.metrics)!;
  return serveHttp({ hostname: host, port, portSetting: "--gateway-listen-metrics", ...rest });
}

/**
 * The text of a PEM file.
 * @throws {ConfigError} naming the key
 */
export function readPem(path: string, key: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new ConfigError(
      `${key}: ${JSON.stringify(path)} cannot be read: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/** Where something listens, as `host:port`. */
export function formatAddress(listener: { readonly hostname: string; readonly port: number }) {
  const address: HostPort = { host: listener.hostname, port: listener.port };
  return formatHostPort(address);
}
