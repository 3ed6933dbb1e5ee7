/** Where a server is, as users write it. */

import { InvalidArgumentError } from "../errors.ts";

/** A server's address. */
export interface ServerAddress {
  /** What a `GrpcClient` connects to: `host:port`, `[v6]:port` or `unix:/path`. */
  readonly target: string;
  /** Whether to speak TLS. */
  readonly isSecure: boolean;
  /** Without brackets; empty for a Unix socket. */
  readonly host: string;
}

const SCHEMES: Readonly<Record<string, boolean>> = {
  http: false,
  grpc: false,
  https: true,
  grpcs: true,
};

/**
 * Reads `[http|https|grpc|grpcs]://host:port`, `host:port`, either with an IPv6 address in brackets, or
 * `unix:/path`. `https` and `grpcs` mean TLS. The host keeps its letters as they are.
 * @throws {InvalidArgumentError} for anything else
 */
export function parseServerUrl(text: string): ServerAddress {
  const url = text.trim();
  if (/^unix:\/./.test(url)) return { target: url, isSecure: false, host: "" };
  const match =
    /^(?:([A-Za-z][A-Za-z0-9+.-]*):\/\/)?(?:\[([^\]]*)\]|([^:/?#@\s[\]]+)):(\d{1,5})\/?$/
      .exec(url);
  const isSecure = match?.[1] === undefined ? false : SCHEMES[match[1].toLowerCase()];
  const port = Number(match?.[4]);
  const v6 = match?.[2];
  const isAddress = v6 === undefined || /^[0-9A-Fa-f:.]+(%[^\s%]+)?$/.test(v6) && v6.includes(":");
  if (!match || isSecure === undefined || port < 1 || port > 65535 || !isAddress) {
    throw new InvalidArgumentError(
      `Malformed server address ${JSON.stringify(text.slice(0, 200))}: expected host:port or ` +
        "[v6]:port, with grpc://, grpcs://, http:// or https:// in front or nothing, or unix:/path",
    );
  }
  const host = v6 ?? match[3]!;
  return { target: `${v6 === undefined ? host : `[${v6}]`}:${port}`, isSecure, host };
}
