/** A connection to one server or gateway, from its URL. */

import { InvalidArgumentError } from "../errors.ts";
import { type ClientOptions, GrpcClient } from "../transport/mod.ts";
import { InferenceClient } from "./model.ts";
import { parseServerUrl } from "./url.ts";

export interface ServerConnectionOptions {
  /** See `parseServerUrl`. */
  readonly url: string;
  /** Used with `grpcs` and `https`. */
  readonly tls?: ClientOptions["tls"];
  /** Largest message either way, in bytes. Default: `messageLimits()`. */
  readonly maxReceiveBytes?: number;
  readonly maxSendBytes?: number;
  /** Connections opened as the server's stream limit demands. */
  readonly maxConnections?: number;
  /** Calls that may wait for a connection. */
  readonly maxWaitingCalls?: number;
}

const DEFAULT_LIMIT_BYTES = 2 ** 29;

/**
 * Message limits from `REACTANT_CLIENT_GRPC_MAX_RECV_MSG_BYTES` and `…_SEND_MSG_BYTES`; 512 MiB where
 * they are not set.
 * @param read gives a variable's value
 * @throws {InvalidArgumentError} for a value that is no positive whole number
 */
export function messageLimits(
  read: (variable: string) => string | undefined,
): { maxReceiveBytes: number; maxSendBytes: number } {
  const limit = (suffix: string) => {
    const variable = `REACTANT_CLIENT_GRPC_MAX_${suffix}_MSG_BYTES`;
    const text = read(variable)?.trim();
    if (text === undefined || text === "") return DEFAULT_LIMIT_BYTES;
    const value = Number(text);
    if (Number.isSafeInteger(value) && value > 0) return value;
    throw new InvalidArgumentError(
      `${variable} must be a positive whole number, got ${JSON.stringify(text)}`,
    );
  };
  return { maxReceiveBytes: limit("RECV"), maxSendBytes: limit("SEND") };
}

/** Connects on first use; close it by disposing. Every failure of a call is a `ServerError`. */
export class ServerConnection implements AsyncDisposable {
  /** As it was given. */
  readonly url: string;
  /** Without brackets; empty for a Unix socket. */
  readonly host: string;
  readonly grpc: GrpcClient;
  readonly inference: InferenceClient;

  /** @throws {InvalidArgumentError} for a malformed URL */
  constructor({ url, tls, ...options }: ServerConnectionOptions) {
    const { target, isSecure, host } = parseServerUrl(url);
    this.url = url;
    this.host = host;
    const { maxReceiveBytes, maxSendBytes } = messageLimits((name) => Deno.env.get(name));
    this.grpc = new GrpcClient({
      target,
      tls: isSecure ? tls ?? {} : undefined,
      ...options,
      maxReceiveBytes: options.maxReceiveBytes ?? maxReceiveBytes,
      maxSendBytes: options.maxSendBytes ?? maxSendBytes,
    });
    this.inference = new InferenceClient(async (path, message, limits) =>
      (await this.grpc.unary(path, message, limits)).message
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.grpc.close();
  }
}
