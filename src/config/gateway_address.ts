/** How addresses are written in the gateway's configuration. */

/** A host and a port. An IPv6 host is kept without its brackets. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

const HOST_PORT = /^(?:\[([0-9a-fA-F:.%]+)\]|([^:/[\]\s]+)):(\d{1,5})$/;

/** Reads `host:port` or `[v6]:port`; `undefined` when it is neither. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = HOST_PORT.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) return undefined;
  return { host: match[1] ?? match[2]!, port };
}

/** Writes what `parseHostPort` reads. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** An address to listen on; port 0 takes a free one. */
export function isListenAddress(text: string): boolean {
  return parseHostPort(text) !== undefined;
}

/** An address of a peer. */
export function isPeerAddress(text: string): boolean {
  return (parseHostPort(text)?.port ?? 0) > 0;
}

/** One worker, a name that stands for several, or a file that lists them. */
export function isWorkerSource(text: string): boolean {
  if (text.startsWith("dns:")) return isPeerAddress(text.slice(4));
  if (text.startsWith("file:")) return text.startsWith("file:/") && text.length > 6;
  return isPeerAddress(text);
}
