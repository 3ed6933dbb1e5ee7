/** A gRPC listener on our own HTTP/2. */

import { messageOf, UnavailableError } from "../../errors.ts";
import { DeadlineQueue } from "../deadline.ts";
import type { GrpcServer, ServerOptions } from "../handler.ts";
import { acceptHttp2, type Http2Connection, type OnStream } from "../http2/mod.ts";
import type { CallStatus } from "../status.ts";
import { readRequestHead, type RequestHead } from "./request_head.ts";
import { SocketStream } from "./socket.ts";
import { type CallHost, ServerCall } from "./server_call.ts";

/** Time a TLS handshake may take. */
const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Pause after a failed accept: mostly the descriptor limit, which only time cures. */
const ACCEPT_PAUSE_MS = 50;

/** Connections beyond this are closed at once. */
const MAX_CONNECTIONS = 10_000;

/** Starts listening. Throws `UnavailableError` when the address cannot be bound. */
export async function startNativeServer(options: ServerOptions): Promise<GrpcServer> {
  const listener = await listen(options);
  return new NativeServer(options, listener);
}

/** States: accepting; draining (`shutdown` called); closed, when its promise resolves. */
class NativeServer implements GrpcServer, CallHost {
  readonly hostname: string;
  readonly port: number;
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  readonly deadlines = new DeadlineQueue();

  readonly #options: ServerOptions;
  readonly #listener: Deno.Listener;
  readonly #connections = new Set<Http2Connection>();
  /** Accepted, still in their TLS handshake. */
  readonly #handshakes = new Set<Deno.TlsConn>();
  readonly #calls = new Set<ServerCall>();
  readonly #accepting: Promise<void>;
  #isClosing = false;
  #shutdown: Promise<void> | undefined;

  constructor(options: ServerOptions, listener: Deno.Listener) {
    this.#options = options;
    this.#listener = listener;
    this.hostname = options.hostname;
    this.port = "port" in listener.addr ? listener.addr.port : 0;
    this.maxReceiveBytes = options.maxReceiveBytes;
    this.maxSendBytes = options.maxSendBytes;
    this.#accepting = this.#accept();
  }

  get activeCalls(): number {
    return this.#calls.size;
  }

  handlerFailed(error: unknown, path: string): void {
    guarded(() => this.#options.onHandlerError?.(error, path));
  }

  callEnded(call: ServerCall, status: CallStatus): void {
    this.#calls.delete(call);
    guarded(() => this.#options.onCallEnd?.(call.path, status));
  }

  shutdown(graceMs: number): Promise<void> {
    this.#shutdown ??= this.#close(graceMs);
    return this.#shutdown;
  }

  async #close(graceMs: number): Promise<void> {
    this.#isClosing = true;
    this.#listener.close();
    for (const conn of this.#handshakes) closeQuietly(conn);
    if (this.hostname.startsWith("unix:")) await removeSocket(socketPath(this.hostname));
    const connections = [...this.#connections];
    const timer = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy("The server is shutting down");
    }, graceMs);
    await Promise.all(connections.map((connection) => connection.drain()));
    await Promise.all(connections.map((connection) => connection.closed));
    clearTimeout(timer);
    await this.#accepting;
    this.deadlines.close();
  }

  async #accept(): Promise<void> {
    while (!this.#isClosing) {
      try {
        const conn = await this.#listener.accept();
        if (this.#connections.size >= MAX_CONNECTIONS) closeQuietly(conn);
        else if (this.#options.tls === undefined) this.#serve(conn);
        else void this.#handshake(conn as Deno.TlsConn);
      } catch {
        // Closed, out of descriptors, or the peer was gone before we looked: none is worth dying for.
        if (!this.#isClosing) await new Promise((resolve) => setTimeout(resolve, ACCEPT_PAUSE_MS));
      }
    }
  }

  async #handshake(conn: Deno.TlsConn): Promise<void> {
    this.#handshakes.add(conn);
    const timer = setTimeout(() => closeQuietly(conn), HANDSHAKE_TIMEOUT_MS);
    try {
      await conn.handshake();
      if (!this.#isClosing) this.#serve(conn);
    } catch {
      // Not TLS, no common protocol, or gone: the peer's affair.
      closeQuietly(conn);
    } finally {
      clearTimeout(timer);
      this.#handshakes.delete(conn);
    }
  }

  #serve(conn: Deno.Conn): void {
    const peer = peerName(conn.remoteAddr);
    const methods = this.#options.methods;
    // Callers repeat their headers, and the connection then passes the very same list again.
    let head: RequestHead | undefined;
    const onStream: OnStream = (stream, headers, endStream) => {
      if (head === undefined || head.headers !== headers) head = readRequestHead(headers, methods);
      const call = new ServerCall(this, head, peer);
      this.#calls.add(call);
      call.begin(stream, endStream);
      return call;
    };
    const onError = (error: unknown) => this.handlerFailed(error, "");
    const connection = acceptHttp2(new SocketStream(conn), { peer, onError }, onStream);
    this.#connections.add(connection);
    if (this.#isClosing) void connection.drain();
    void connection.closed.then(() => this.#connections.delete(connection));
  }
}

async function listen(options: ServerOptions): Promise<Deno.Listener> {
  const { hostname, port, tls } = options;
  try {
    if (hostname.startsWith("unix:")) return await listenUnix(socketPath(hostname));
    if (tls === undefined) return Deno.listen({ hostname, port });
    return Deno.listenTls({ hostname, port, cert: tls.cert, key: tls.key, alpnProtocols: ["h2"] });
  } catch (error) {
    const where = hostname.startsWith("unix:") ? hostname : `${hostname}:${port}`;
    throw new UnavailableError(`Cannot listen on ${where}: ${messageOf(error)}`, { cause: error });
  }
}

/** A socket file that nobody listens on is left over from a process that died, and is replaced. */
async function listenUnix(path: string): Promise<Deno.Listener> {
  try {
    return Deno.listen({ transport: "unix", path });
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    try {
      (await Deno.connect({ transport: "unix", path })).close();
    } catch (refused) {
      if (!(refused instanceof Deno.errors.ConnectionRefused)) throw error;
      await Deno.remove(path);
      return Deno.listen({ transport: "unix", path });
    }
    throw error;
  }
}

function socketPath(hostname: string): string {
  return hostname.slice(5).replace(/^\/\/(?=\/)/, "");
}

async function removeSocket(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function peerName(addr: Deno.Addr): string {
  return "hostname" in addr ? `${addr.hostname}:${addr.port}` : "unix";
}

function closeQuietly(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // Closed already.
  }
}

/** The observers belong to someone else; a defect there must not end a connection. */
function guarded(run: () => void): void {
  try {
    run();
  } catch (error) {
    console.error("transport: an observer threw", error);
  }
}
