/** The gRPC client: raw messages in and out, connections managed behind it. */

import { ServerError, UnavailableError } from "../../errors.ts";
import type { Loan } from "../buffer_pool.ts";
import { type DeadlineClock, DeadlineQueue, type Expiring, systemClock } from "../deadline.ts";
import type { Message, Metadata } from "../handler.ts";
import {
  dialHttp2,
  type DialTarget,
  type HeaderField,
  type HeaderList,
  type Http2Connection,
} from "../http2/mod.ts";
import { MessageQueue } from "../message_queue.ts";
import { CallMetadata } from "../metadata.ts";
import type { BackoffOptions } from "./backoff.ts";
import { type CallOptions, type CallOwner, ClientCall } from "./client_call.ts";
import { ACCEPTED_ENCODINGS } from "./compression.ts";
import { ConnectionPool, type Waiter } from "./connection_pool.ts";
import { parseTarget, type Target } from "./target.ts";

/** TLS on the client's side. */
export interface ClientTls {
  /** PEM text trusted besides the system's authorities. */
  readonly ca?: string;
  /** What the certificate must name. Default: the host of the target. */
  readonly serverName?: string;
}

/** How a client is set up. */
export interface ClientOptions {
  /** `host:port`, `[v6]:port` or `unix:/path`. */
  readonly target: string;
  /** Without it the client speaks cleartext HTTP/2 with prior knowledge. */
  readonly tls?: ClientTls;
  /** Largest response message, after decompression. Default 4 MiB, as other gRPC clients have it. */
  readonly maxReceiveBytes?: number;
  /** Largest request message. Default: the 4 GiB that the wire format can carry. */
  readonly maxSendBytes?: number;
  /** Default false. */
  readonly waitForReady?: boolean;
  /** Default identity. */
  readonly compression?: "identity" | "gzip";
  /** Connections to the target, opened as the peer's stream limit demands. Default 8. */
  readonly maxConnections?: number;
  /** Calls that may wait for a connection at once. Default 16 384. */
  readonly maxWaitingCalls?: number;
  /** Default 20 s. */
  readonly connectTimeoutMs?: number;
  /** Time without anything received after which the peer is asked for a sign of life. 0: never, the default. */
  readonly keepaliveMs?: number;
  /** Time the peer has for that sign. Default 20 s. */
  readonly keepaliveTimeoutMs?: number;
  readonly backoff?: BackoffOptions;
  readonly userAgent?: string;
  readonly clock?: DeadlineClock;
}

/** What a unary call gave. */
export interface UnaryResponse {
  readonly message: Message;
  readonly headers: Metadata;
  readonly trailers: Metadata;
  /**
   * The memory of `message`, where it lies in memory of `CallOptions.memory`: whoever has the message
   * gives it back when nobody reads it any more, or leaves it to the collector.
   */
  readonly loan?: Loan | undefined;
}

/**
 * A streaming call: iterate over it for the responses; it throws the `ServerError` of a status that is
 * not OK after the last of them. Leaving the loop early cancels the call.
 */
export interface ClientStream extends AsyncIterableIterator<Message, undefined> {
  /** The response headers; rejects when the call ends without. */
  readonly headers: Promise<Metadata>;
  cancel(reason?: unknown): void;
}

/** A client of one target. Connects on first use. Every failure is a `ServerError`. */
export class GrpcClient implements CallOwner {
  readonly pool: ConnectionPool;
  readonly deadlines: DeadlineQueue;
  readonly clock: DeadlineClock;
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  readonly waitForReady: boolean;
  readonly compression: "identity" | "gzip";

  readonly #options: ClientOptions;
  readonly #target: Target;
  /** Each knows its place. Not a `Set`, for the reason that `IdTable` gives. */
  readonly #calls: ClientCall[] = [];
  readonly #headers = new Map<string, HeaderList>();

  /** Throws `InvalidArgumentError` for a malformed target. */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#target = parseTarget(options.target);
    this.clock = options.clock ?? systemClock;
    this.deadlines = new DeadlineQueue(this.clock);
    this.maxReceiveBytes = options.maxReceiveBytes ?? 4 * 1024 * 1024;
    this.maxSendBytes = options.maxSendBytes ?? 0xffffffff;
    this.waitForReady = options.waitForReady ?? false;
    this.compression = options.compression ?? "identity";
    this.pool = new ConnectionPool({
      name: options.target,
      connect: (signal) => connect(this.#target, options, signal, () => this.pool.released()),
      maxConnections: options.maxConnections ?? 8,
      maxWaiting: options.maxWaitingCalls ?? 16_384,
      backoff: options.backoff,
      clock: this.clock,
    });
  }

  /** Calls in progress. */
  get activeCalls(): number {
    return this.#calls.length;
  }

  /** One message out, one back. The request's chunks must not change until the call has settled. */
  unary(path: string, request: Message, options: CallOptions = {}): Promise<UnaryResponse> {
    return new Promise((resolve, reject) =>
      new UnaryCall(this, path, options, resolve, reject).run(request)
    );
  }

  /** Any streaming kind. Requests are pulled as the peer takes them. */
  stream(
    path: string,
    requests: AsyncIterable<Message> | Iterable<Message>,
    options: CallOptions = {},
  ): ClientStream {
    const call = new StreamCall(this, path, options);
    call.run(requests);
    return call;
  }

  /** Connects now, if it is not yet, and resolves once there is a connection. */
  connect(options: { deadlineMs?: number; waitForReady?: boolean } = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.pool.acquire() !== undefined) return resolve();
      const isPatient = options.waitForReady ?? this.waitForReady;
      const waiter: Waiter & Expiring = {
        isPatient,
        queueIndex: -1,
        deadlineMs: options.deadlineMs,
        onReady: () => {
          this.deadlines.remove(waiter);
          resolve();
        },
        onFailed: (error) => {
          this.deadlines.remove(waiter);
          reject(error);
        },
        expire: () => {
          this.pool.leave(waiter);
          reject(new UnavailableError(`Cannot connect to ${this.#options.target} in time`));
        },
      };
      this.pool.wait(waiter);
      if (options.deadlineMs !== undefined) this.deadlines.add(waiter);
    });
  }

  /**
   * Ends the client. With `graceful`, calls in progress finish first; otherwise they end CANCELLED. New
   * calls fail. Resolves when every connection is closed.
   */
  async close(options: { graceful?: boolean } = {}): Promise<void> {
    const graceful = options.graceful ?? false;
    if (!graceful) { for (const call of [...this.#calls]) call.cancel(); }
    await this.pool.close(graceful);
    this.deadlines.close();
  }

  headersOf(path: string): HeaderList {
    let headers = this.#headers.get(path);
    if (headers === undefined) {
      headers = this.#makeHeaders(path);
      // Paths are the program's own, but a proxy passes on what callers make up.
      if (this.#headers.size >= 256) this.#headers.clear();
      this.#headers.set(path, headers);
    }
    return headers;
  }

  callStarted(call: ClientCall): void {
    call.callIndex = this.#calls.length;
    this.#calls.push(call);
  }

  callEnded(call: ClientCall): void {
    if (call.callIndex < 0) return;
    const last = this.#calls.pop()!;
    if (last !== call) {
      this.#calls[call.callIndex] = last;
      last.callIndex = call.callIndex;
    }
    call.callIndex = -1;
  }

  #makeHeaders(path: string): HeaderField[] {
    return [
      [":method", "POST"],
      [":scheme", this.#options.tls === undefined ? "http" : "https"],
      [":path", path],
      [":authority", this.#target.authority],
      ["te", "trailers"],
      ["content-type", "application/grpc"],
      ["user-agent", this.#options.userAgent ?? "grpc-reactantserver"],
      ["grpc-accept-encoding", ACCEPTED_ENCODINGS],
    ];
  }
}

/**
 * Opens a connection, up to the server's SETTINGS: only then is it known to speak HTTP/2 and how many
 * streams it takes. Throws `UnavailableError`.
 */
async function connect(
  target: Target,
  options: ClientOptions,
  signal: AbortSignal,
  released: () => void,
): Promise<Http2Connection> {
  const settings = Promise.withResolvers<void>();
  let hasSettings = false;
  const connection: Http2Connection = await dialHttp2(dialTarget(target, options.tls), {
    signal,
    connectTimeoutMs: options.connectTimeoutMs,
    keepaliveIntervalMs: options.keepaliveMs,
    keepaliveTimeoutMs: options.keepaliveTimeoutMs,
    onAvailabilityChange: () => {
      // A GOAWAY may be right behind the SETTINGS: what counts is that there were any.
      hasSettings ||= connection.canOpen;
      settings.resolve();
      released();
    },
  });
  const cut = () => connection.destroy("The client is closed");
  signal.addEventListener("abort", cut);
  await Promise.race([settings.promise, connection.closed]);
  signal.removeEventListener("abort", cut);
  if (hasSettings) return connection;
  connection.destroy();
  throw new UnavailableError(
    `Cannot connect to ${options.target}: it closed the connection before it spoke HTTP/2`,
  );
}

function dialTarget(target: Target, tls: ClientTls | undefined): DialTarget {
  if (target.kind === "unix") return { path: target.path };
  const { hostname, port } = target;
  if (tls === undefined) return { hostname, port };
  const caCerts = tls.ca === undefined ? undefined : [tls.ca];
  return { hostname, port, tls: { caCerts, serverName: tls.serverName } };
}

class UnaryCall extends ClientCall {
  protected readonly keepsMessages = false;
  readonly #resolve: (response: UnaryResponse) => void;
  readonly #reject: (error: ServerError) => void;
  #headers: HeaderList = [];
  #message: Message | undefined;
  #loan: Loan | undefined;

  constructor(
    owner: CallOwner,
    path: string,
    options: CallOptions,
    resolve: (response: UnaryResponse) => void,
    reject: (error: ServerError) => void,
  ) {
    super(owner, path, options);
    this.#resolve = resolve;
    this.#reject = reject;
  }

  run(request: Message): void {
    this.start();
    if (this.isOver) return;
    try {
      const pending = this.push(request, true);
      if (pending !== undefined) pending.catch((error) => this.abandon(error));
    } catch (error) {
      this.abandon(error);
    }
  }

  protected headersArrived(headers: HeaderList): void {
    this.#headers = headers;
  }

  protected respond(message: Message, loan: Loan | undefined): void {
    if (this.#message !== undefined) {
      throw new ServerError("UNIMPLEMENTED", "The server sent more than one response");
    }
    this.#message = message;
    this.#loan = loan;
  }

  protected flushed(): void {}

  protected ended(error: ServerError | undefined, trailers: HeaderList = []): void {
    if (error !== undefined) return this.#reject(error);
    if (this.#message === undefined) {
      return this.#reject(new ServerError("UNIMPLEMENTED", "The server sent no response"));
    }
    this.#resolve(new ReceivedResponse(this.#message, this.#loan, this.#headers, trailers));
  }
}

/** Metadata is decoded only for those who look at it. */
class ReceivedResponse implements UnaryResponse {
  readonly message: Message;
  readonly loan: Loan | undefined;
  readonly #headerFields: HeaderList;
  readonly #trailerFields: HeaderList;

  constructor(
    message: Message,
    loan: Loan | undefined,
    headers: HeaderList,
    trailers: HeaderList,
  ) {
    this.message = message;
    this.loan = loan;
    this.#headerFields = headers;
    this.#trailerFields = trailers;
  }

  get headers(): Metadata {
    return CallMetadata.received(this.#headerFields);
  }

  get trailers(): Metadata {
    return CallMetadata.received(this.#trailerFields);
  }
}

class StreamCall extends ClientCall implements ClientStream {
  protected readonly keepsMessages = true;
  readonly headers: Promise<Metadata>;
  readonly #responses = new MessageQueue((message) => this.taken(message));
  #resolveHeaders!: (headers: Metadata) => void;
  #rejectHeaders!: (error: ServerError) => void;
  #onFlushed: (() => void) | undefined;

  constructor(owner: CallOwner, path: string, options: CallOptions) {
    super(owner, path, options);
    this.headers = new Promise((resolve, reject) => {
      this.#resolveHeaders = resolve;
      this.#rejectHeaders = reject;
    });
    // Nobody has to look at the headers.
    this.headers.catch(() => {});
  }

  run(requests: AsyncIterable<Message> | Iterable<Message>): void {
    this.start();
    void this.#pump(requests);
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    return this.#responses.next();
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    this.cancel();
    return this.#responses.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async #pump(requests: AsyncIterable<Message> | Iterable<Message>): Promise<void> {
    try {
      for await (const request of requests) {
        if (this.isOver) return;
        const sent = new Promise<void>((resolve) => this.#onFlushed = resolve);
        await this.push(request, false);
        await sent;
        if (this.isOver) return;
      }
      this.endRequests();
    } catch (error) {
      this.abandon(error);
    }
  }

  protected headersArrived(headers: HeaderList): void {
    this.#resolveHeaders(CallMetadata.received(headers));
  }

  protected respond(message: Message): void {
    this.#responses.push(message);
  }

  protected flushed(): void {
    const onFlushed = this.#onFlushed;
    this.#onFlushed = undefined;
    onFlushed?.();
  }

  protected ended(error: ServerError | undefined, trailers: HeaderList | undefined): void {
    if (error === undefined) {
      this.#responses.end();
      // An OK without a message may come as trailers only.
      this.#resolveHeaders(CallMetadata.received([]));
    } else {
      // What the server sent before its status still counts; a call ended from here is just over.
      if (trailers !== undefined) this.#responses.fail(error);
      else this.#responses.abort(error);
      this.#rejectHeaders(error);
    }
  }
}
