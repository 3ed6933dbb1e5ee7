/** Which ports clients and dashboards find the node on. */

import { type Environment, formatHostPort, type HostPort, parseHostPort } from "../config/mod.ts";

/** Where the gateway, or a node's only worker, serves gRPC and HTTP by default. */
export const PUBLIC_PORTS = { grpc: 8001, metrics: 8002 } as const;

/** The variables that move the public ports. */
export const LISTEN_VARIABLES = {
  grpc: "REACTANT_GATEWAY_LISTEN_GRPC",
  metrics: "REACTANT_GATEWAY_LISTEN_METRICS",
} as const;

/** What the operator said about one public port. */
export interface PublicAddress {
  /** `undefined`: nobody said. */
  readonly host: string | undefined;
  readonly port: number;
  /** A variable that could not be read, for a warning. */
  readonly unreadable: string | undefined;
}

/** A public address from its variable; what cannot be read counts as not given. */
export function publicAddress(
  which: keyof typeof PUBLIC_PORTS,
  environment: Environment,
): PublicAddress {
  const text = environment[LISTEN_VARIABLES[which]];
  const fallback = { host: undefined, port: PUBLIC_PORTS[which], unreadable: undefined };
  if (text === undefined || text.trim() === "") return fallback;
  const address = parseHostPort(text.trim());
  return address === undefined
    ? { ...fallback, unreadable: text }
    : { ...address, unreadable: undefined };
}

/** The address by which processes of this machine reach a listener that is bound to `host`. */
export function localAddress({ host, port }: HostPort): string {
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return formatHostPort({ host: reachable, port });
}

/** A port some process of the node wants. */
export interface PortClaim extends HostPort {
  readonly who: string;
}

/** Warnings about workers that want a port of the gateway's. */
export function overlapWarnings(
  workers: readonly PortClaim[],
  gateway: readonly PortClaim[],
): string[] {
  return workers.flatMap((worker) =>
    gateway.filter(({ port }) => port !== 0 && port === worker.port).map(({ who }) =>
      `port ${worker.port} is wanted by both ${worker.who} and ${who}; change base_port, ` +
      "metrics_base_port or the gateway's listen addresses"
    )
  );
}
