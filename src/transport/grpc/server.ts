/** A gRPC listener on our own HTTP/2. */

import { messageOf, UnavailableError } from "../../errors.ts";
import { DeadlineQueue } from "../deadline.ts";
import type { GrpcServer, ServerOptions } from "../handler.ts";
import {
  type HeaderList,
  type Http2Listener,
  listenHttp2,
  type ListenTarget,
  type OnStream,
} from "../http2/mod.ts";
import type { CallStatus } from "../status.ts";
import { readRequestHead, type RequestHead, retimedHead } from "./request_head.ts";
import { type CallHost, ServerCall } from "./server_call.ts";

/** Starts listening. Throws `UnavailableError` when the address cannot be bound. */
export async function startNativeServer(options: ServerOptions): Promise<GrpcServer> {
  const { hostname, port, tls } = options;
  const path = hostname.startsWith("unix:") ? socketPath(hostname) : undefined;
  try {
    if (path !== undefined) await removeStale(path);
    return new NativeServer(options, path === undefined ? { hostname, port, tls } : { path });
  } catch (error) {
    const where = path === undefined ? `${hostname}:${port}` : hostname;
    throw new UnavailableError(`Cannot listen on ${where}: ${messageOf(error)}`, { cause: error });
  }
}

/** States: accepting; draining (`shutdown` called); closed, when its promise resolves. */
class NativeServer implements GrpcServer, CallHost {
  readonly hostname: string;
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  readonly deadlines = new DeadlineQueue();

  readonly #options: ServerOptions;
  readonly #listener: Http2Listener;
  /** The head read last on each connection: callers repeat their headers, as the very same list. */
  readonly #heads = new WeakMap<object, RequestHead>();
  #activeCalls = 0;
  #shutdown: Promise<void> | undefined;

  constructor(options: ServerOptions, target: ListenTarget) {
    this.#options = options;
    this.hostname = options.hostname;
    this.maxReceiveBytes = options.maxReceiveBytes;
    this.maxSendBytes = options.maxSendBytes;
    const onStream: OnStream = (stream, headers, endStream, connection) => {
      const call = new ServerCall(this, this.#headOf(headers, connection), connection.peer);
      this.#activeCalls++;
      call.begin(stream, endStream);
      return call;
    };
    const onError = (error: unknown) => this.handlerFailed(error, "");
    const onAcceptError = (error: unknown) => guarded(() => options.onAcceptError?.(error));
    this.#listener = listenHttp2(target, { onError, onAcceptError }, onStream);
  }

  get port(): number {
    return this.#listener.port;
  }

  get activeCalls(): number {
    return this.#activeCalls;
  }

  handlerFailed(error: unknown, path: string): void {
    guarded(() => this.#options.onHandlerError?.(error, path));
  }

  callEnded(call: ServerCall, status: CallStatus): void {
    this.#activeCalls--;
    guarded(() => this.#options.onCallEnd?.(call.path, status));
  }

  shutdown(graceMs: number): Promise<void> {
    this.#shutdown ??= this.#listener.shutdown(graceMs).then(() => this.deadlines.close());
    return this.#shutdown;
  }

  #headOf(headers: HeaderList, connection: object): RequestHead {
    let head = this.#heads.get(connection);
    if (head === undefined || head.headers !== headers) {
      head = (head && retimedHead(head, headers)) ??
        readRequestHead(headers, this.#options.methods);
      this.#heads.set(connection, head);
    }
    return head;
  }
}

/** Removes a socket file that nobody listens on any more: its process died. */
async function removeStale(path: string): Promise<void> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) await Deno.remove(path);
  }
}

function socketPath(hostname: string): string {
  return hostname.slice(5).replace(/^\/\/(?=\/)/, "");
}

/** The observers belong to someone else; a defect there must not end a connection. */
function guarded(run: () => void): void {
  try {
    run();
  } catch (error) {
    console.error("transport: an observer threw", error);
  }
}
