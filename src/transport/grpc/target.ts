/** Where a client connects to, from one string. */

import { InvalidArgumentError } from "../../errors.ts";

/** A parsed target. `authority` is what goes into `:authority`. */
export type Target =
  | { readonly kind: "tcp"; hostname: string; port: number; authority: string }
  | { readonly kind: "unix"; path: string; authority: string };

/**
 * Reads `host:port`, `[v6]:port` or `unix:/path` (also `unix:///path`, and `dns:` before a host, as
 * other gRPC clients write them). Throws `InvalidArgumentError`.
 */
export function parseTarget(text: string): Target {
  if (text.startsWith("unix:")) {
    const path = text.slice(5).replace(/^\/\/(?=\/)/, "");
    if (path === "") throw malformed(text);
    return { kind: "unix", path, authority: "localhost" };
  }
  const address = text.replace(/^dns:(\/\/\/)?/, "");
  const match = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:/[\]\s]+)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65535) throw malformed(text);
  return { kind: "tcp", hostname: match[1] ?? match[2]!, port, authority: address };
}

function malformed(text: string): InvalidArgumentError {
  return new InvalidArgumentError(
    `Malformed target ${JSON.stringify(text)}: expected host:port or unix:/path`,
  );
}
