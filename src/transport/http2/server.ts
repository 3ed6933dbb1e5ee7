/** The accept loop: TCP, TLS (ALPN h2) and Unix listeners whose connections speak HTTP/2. */

import type { Http2Connection } from "./types.ts";
import { messageOf } from "../../errors.ts";
import { acceptHttp2 } from "./accept.ts";
import type { OnStream } from "./frame_handler.ts";
import type { Http2Options } from "./options.ts";
import { SocketStream } from "./socket.ts";

/** Where to listen. */
export type ListenTarget =
  | { readonly hostname: string; readonly port: number; readonly tls?: TlsIdentity }
  | { readonly path: string };

/** A server certificate, PEM text. */
export interface TlsIdentity {
  readonly cert: string;
  readonly key: string;
}

export interface Http2ListenOptions extends Http2Options {
  /**
   * Connections beyond this are closed at once; closed ones count until their descriptor is free.
   * Default 10 000.
   */
  readonly maxConnections?: number;
  /** Time for a TLS handshake. Default 10 s. */
  readonly handshakeTimeoutMs?: number;
  /** Told of connections that failed before they spoke HTTP/2. */
  readonly onConnectionError?: (message: string, peer: string) => void;
  /** Told that nobody can connect, for want of descriptors for instance: at most once a minute. */
  readonly onAcceptError?: (error: unknown) => void;
}

/** A listener and its connections. */
export interface Http2Listener {
  /** "" for a Unix socket. */
  readonly hostname: string;
  /** 0 for a Unix socket. */
  readonly port: number;
  readonly connections: ReadonlySet<Http2Connection>;
  /**
   * Stops accepting, drains every connection, and cuts what is left after `graceMs`. Idempotent;
   * resolves when every connection is closed. Never rejects.
   */
  shutdown(graceMs: number): Promise<void>;
}

/** How long to wait after accept failed, for want of descriptors for instance. */
const ACCEPT_RETRY_MS = 50;
/** How often at most somebody is told of that. */
const ACCEPT_REPORT_MS = 60_000;

/** Starts listening. Throws what `Deno.listen` throws when the address cannot be had. */
export function listenHttp2(
  target: ListenTarget,
  options: Http2ListenOptions,
  onStream: OnStream,
): Http2Listener {
  return new Listener(listen(target), options, onStream);
}

function listen(target: ListenTarget): Deno.Listener<Deno.Conn> {
  if ("path" in target) return Deno.listen({ transport: "unix", path: target.path });
  const { hostname, port, tls } = target;
  if (tls === undefined) return Deno.listen({ hostname, port });
  return Deno.listenTls({ hostname, port, cert: tls.cert, key: tls.key, alpnProtocols: ["h2"] });
}

class Listener implements Http2Listener {
  readonly hostname: string;
  readonly port: number;
  readonly connections = new Set<Http2Connection>();
  readonly #listener: Deno.Listener<Deno.Conn>;
  readonly #options: Http2ListenOptions;
  readonly #onStream: OnStream;
  /** TLS connections that have not finished their handshake. */
  readonly #handshaking = new Set<Deno.Conn>();
  /** Connections whose descriptors are in use. */
  #unreleased = 0;
  readonly #accepting: Promise<void>;
  #shutdown: Promise<void> | undefined;

  constructor(
    listener: Deno.Listener<Deno.Conn>,
    options: Http2ListenOptions,
    onStream: OnStream,
  ) {
    this.#listener = listener;
    this.#options = options;
    this.#onStream = onStream;
    const { addr } = listener;
    this.hostname = "hostname" in addr ? addr.hostname : "";
    this.port = "port" in addr ? addr.port : 0;
    this.#accepting = this.#accept();
  }

  shutdown(graceMs: number): Promise<void> {
    return this.#shutdown ??= this.#stop(graceMs);
  }

  async #stop(graceMs: number): Promise<void> {
    this.#listener.close();
    for (const conn of this.#handshaking) conn.close();
    const drained = Promise.all([...this.connections].map((connection) => connection.drain()));
    const cut = setTimeout(() => {
      for (const connection of this.connections) connection.destroy("the server is shutting down");
    }, graceMs);
    await Promise.all([drained, this.#accepting]);
    clearTimeout(cut);
  }

  async #accept(): Promise<void> {
    let reportedMs = -Infinity;
    while (this.#shutdown === undefined) {
      let conn: Deno.Conn;
      try {
        conn = await this.#listener.accept();
      } catch (error) {
        if (this.#shutdown !== undefined || error instanceof Deno.errors.BadResource) return;
        if (performance.now() - reportedMs >= ACCEPT_REPORT_MS) {
          reportedMs = performance.now();
          this.#options.onAcceptError?.(error);
        }
        await new Promise((resolve) => setTimeout(resolve, ACCEPT_RETRY_MS));
        continue;
      }
      if (this.#unreleased + this.#handshaking.size >= (this.#options.maxConnections ?? 10_000)) {
        conn.close();
      } else if (isTls(conn)) void this.#handshake(conn);
      else this.#serve(conn);
    }
  }

  async #handshake(conn: Deno.TlsConn): Promise<void> {
    this.#handshaking.add(conn);
    // Ends the handshake for us; Deno keeps the descriptor until the peer closes or sends something.
    const timeout = setTimeout(() => conn.close(), this.#options.handshakeTimeoutMs ?? 10_000);
    try {
      await conn.handshake();
    } catch (error) {
      closeQuietly(conn);
      this.#options.onConnectionError?.(messageOf(error), peerName(conn));
      return;
    } finally {
      clearTimeout(timeout);
      this.#handshaking.delete(conn);
    }
    this.#serve(conn);
  }

  #serve(conn: Deno.Conn): void {
    const options = { ...this.#options, peer: peerName(conn) };
    const connection = acceptHttp2(new SocketStream(conn), options, this.#onStream);
    this.connections.add(connection);
    this.#unreleased++;
    void connection.released.then(() => this.#unreleased--);
    void connection.closed.then(() => this.connections.delete(connection));
    if (this.#shutdown !== undefined) void connection.drain();
  }
}

function isTls(conn: Deno.Conn): conn is Deno.TlsConn {
  return "handshake" in conn;
}

function closeQuietly(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // Closed by the timeout already.
  }
}

function peerName(conn: Deno.Conn): string {
  const addr = conn.remoteAddr;
  return "hostname" in addr ? `${addr.hostname}:${addr.port}` : "unix";
}
