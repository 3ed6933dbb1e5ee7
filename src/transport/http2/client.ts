/** Dialling: TCP, TLS (ALPN h2) or a Unix socket, up to a connection that speaks HTTP/2. */

import type { Http2Connection } from "./types.ts";
import { messageOf, UnavailableError } from "../../errors.ts";
import { connectHttp2 } from "./accept.ts";
import type { Http2Options } from "./options.ts";
import { SocketStream } from "./socket.ts";

/** Where to connect. */
export type DialTarget =
  | {
    readonly hostname: string;
    readonly port: number;
    /** TLS; `caCerts`: PEM texts trusted besides the system's. */
    readonly tls?: { readonly caCerts?: readonly string[]; readonly serverName?: string };
  }
  | { readonly path: string };

export interface DialOptions extends Http2Options {
  /** Time for connecting, the TLS handshake included. Default 20 s. */
  readonly connectTimeoutMs?: number;
  /** Gives up when aborted. */
  readonly signal?: AbortSignal;
}

/** Connects. Throws `UnavailableError` when the peer cannot be reached or does not speak HTTP/2. */
export async function dialHttp2(
  target: DialTarget,
  options: DialOptions = {},
): Promise<Http2Connection> {
  const peer = "path" in target ? `unix:${target.path}` : `${target.hostname}:${target.port}`;
  const controller = new AbortController();
  const timeoutMs = options.connectTimeoutMs ?? 20_000;
  const timer = setTimeout(
    () => controller.abort(new Error(`no answer within ${timeoutMs} ms`)),
    timeoutMs,
  );
  const onAbort = () => controller.abort(options.signal!.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    options.signal?.throwIfAborted();
    const conn = await dial(target, controller.signal);
    return connectHttp2(new SocketStream(conn), { peer, ...options });
  } catch (error) {
    const cause = controller.signal.aborted ? controller.signal.reason : error;
    throw new UnavailableError(`Cannot connect to ${peer}: ${messageOf(cause)}`, { cause });
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

async function dial(target: DialTarget, signal: AbortSignal): Promise<Deno.Conn> {
  if ("path" in target) {
    return await abortable(Deno.connect({ transport: "unix", ...target }), signal);
  }
  const { hostname, port, tls } = target;
  const conn = await Deno.connect({ hostname, port, signal });
  if (tls === undefined) return conn;
  const secure = await Deno.startTls(conn, {
    hostname: tls.serverName ?? hostname,
    caCerts: tls.caCerts === undefined ? undefined : [...tls.caCerts],
    alpnProtocols: ["h2"],
  });
  const { alpnProtocol } = await abortable(secure.handshake(), signal, secure);
  if (alpnProtocol === "h2") return secure;
  secure.close();
  throw new Error("the server does not offer HTTP/2");
}

/** Waits for `promise` or the abort; in the second case `owned`, or what arrives late, is closed. */
async function abortable<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  owned?: Deno.Conn,
): Promise<T> {
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted.promise]);
  } catch (error) {
    owned?.close();
    if (owned === undefined) promise.then((late) => (late as Deno.Conn).close(), () => {});
    throw error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
