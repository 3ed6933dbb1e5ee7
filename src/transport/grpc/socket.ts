/** Sockets as byte streams that really close, and dialling. */

import { messageOf, UnavailableError } from "../../errors.ts";
import type { ByteStream } from "../http2/mod.ts";
import type { Target } from "./target.ts";

/**
 * A `Deno.Conn` whose `close` also ends a read under way. On Deno 2.8 closing a connection while it is
 * being read wakes nobody and keeps the descriptor until the peer sends something or ends; so our
 * side is ended first, which makes any peer that is alive end its own, and the reader is told at once.
 */
export class SocketStream implements ByteStream {
  readonly #conn: Deno.Conn;
  #endRead: ((count: null) => void) | undefined;
  #isClosed = false;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
    if ("setNoDelay" in conn) (conn as Deno.TcpConn).setNoDelay(true);
  }

  read(into: Uint8Array): Promise<number | null> {
    return new Promise((resolve, reject) => {
      this.#endRead = resolve;
      this.#conn.read(into).then(resolve, reject);
    });
  }

  write(data: Uint8Array): Promise<number> {
    return this.#conn.write(data);
  }

  closeWrite(): Promise<void> {
    return this.#conn.closeWrite();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    // It may fail because the peer was faster, which is as good.
    this.#conn.closeWrite().catch(() => {});
    this.#endRead?.(null);
    this.#conn.close();
  }
}

/** TLS on the client's side. */
export interface ClientTls {
  /** PEM text trusted besides the system's authorities. */
  readonly ca?: string;
  /** What the certificate must name. Default: the host of the target. */
  readonly serverName?: string;
}

export interface DialSocketOptions {
  readonly tls?: ClientTls;
  readonly timeoutMs: number;
  /** Gives up when aborted. */
  readonly signal: AbortSignal;
}

/**
 * Connects, with TLS and ALPN h2 if asked for. Throws `UnavailableError` when the target cannot be
 * reached in time or does not speak HTTP/2.
 */
export async function dialSocket(
  target: Target,
  options: DialSocketOptions,
): Promise<SocketStream> {
  const controller = new AbortController();
  const timer = setTimeout(
    () => controller.abort(new Error(`no answer within ${options.timeoutMs} ms`)),
    options.timeoutMs,
  );
  const onAbort = () => controller.abort(options.signal.reason);
  options.signal.addEventListener("abort", onAbort);
  try {
    return new SocketStream(await open(target, options.tls, controller.signal));
  } catch (error) {
    const cause = controller.signal.aborted ? controller.signal.reason : error;
    const name = target.kind === "unix" ? `unix:${target.path}` : target.authority;
    throw new UnavailableError(`Cannot connect to ${name}: ${messageOf(cause)}`, { cause });
  } finally {
    clearTimeout(timer);
    options.signal.removeEventListener("abort", onAbort);
  }
}

async function open(
  target: Target,
  tls: ClientTls | undefined,
  signal: AbortSignal,
): Promise<Deno.Conn> {
  signal.throwIfAborted();
  if (target.kind === "unix") {
    return await Deno.connect({ transport: "unix", path: target.path });
  }
  const { hostname, port } = target;
  const conn = await Deno.connect({ hostname, port, signal });
  if (tls === undefined) return conn;
  const secure = await Deno.startTls(conn, {
    hostname: tls.serverName ?? hostname,
    alpnProtocols: ["h2"],
    ...(tls.ca === undefined ? {} : { caCerts: [tls.ca] }),
  });
  const cut = () => secure.close();
  signal.addEventListener("abort", cut);
  try {
    const { alpnProtocol } = await Promise.race([secure.handshake(), aborted(signal)]);
    if (alpnProtocol !== "h2") throw new Error("the TLS peer does not offer HTTP/2");
    return secure;
  } catch (error) {
    if (!signal.aborted) secure.close();
    throw error;
  } finally {
    signal.removeEventListener("abort", cut);
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener("abort", () => reject(signal.reason), { once: true })
  );
}
