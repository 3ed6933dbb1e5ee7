/** One call on the client: from its request headers to its status. */

import {
  CancelledError,
  DeadlineExceededError,
  InternalError,
  ResourceExhaustedError,
  ServerError,
  type StatusName,
  UnavailableError,
} from "../../errors.ts";
import type { BufferPool, Loan } from "../buffer_pool.ts";
import {
  type DeadlineClock,
  type DeadlineQueue,
  type Expiring,
  formatTimeout,
  type Timer,
} from "../deadline.ts";
import { type CallContext, type Message, messageLength, type Metadata } from "../handler.ts";
import {
  ErrorCode,
  type HeaderField,
  type HeaderList,
  type Http2Connection,
  type Http2Stream,
  type StreamEnd,
  type StreamListener,
} from "../http2/mod.ts";
import { CallMetadata } from "../metadata.ts";
import { decodeStatusMessage, errorOfStatus, statusName, statusOfHttp } from "../status.ts";
import { compress, encodingOf, MIN_COMPRESSED_BYTES } from "./compression.ts";
import type { ConnectionPool, Waiter } from "./connection_pool.ts";
import { Inbound, type InboundOwner } from "./inbound.ts";
import { messagePrefix, wholeSmallMessage } from "./message_reader.ts";
import { isGrpcContentType } from "./request_head.ts";

/** What may be said about one call. */
export interface CallOptions {
  /** Absolute, on the `performance.now()` clock, in milliseconds. */
  readonly deadlineMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** The served call this one is made for: its deadline and its cancellation apply here too. */
  readonly parent?: CallContext;
  readonly metadata?: Metadata;
  /** Wait until the target can be reached, rather than fail with UNAVAILABLE. Default: the client's. */
  readonly waitForReady?: boolean;
  /** How requests are compressed. Default: the client's. */
  readonly compression?: "identity" | "gzip";
  /** Where a large response of a unary call may lie; see `UnaryResponse.loan`. */
  readonly memory?: BufferPool;
  /** Told of the trailers, also when the call fails with a status of the server's. */
  readonly onTrailers?: (trailers: Metadata) => void;
}

/** What calls share with their client. */
export interface CallOwner {
  readonly pool: ConnectionPool;
  readonly deadlines: DeadlineQueue;
  readonly clock: DeadlineClock;
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  readonly waitForReady: boolean;
  readonly compression: "identity" | "gzip";
  /** The headers every call of this path starts with. */
  headersOf(path: string): HeaderList;
  callStarted(call: ClientCall): void;
  callEnded(call: ClientCall): void;
}

/** Attempts of a call that the peer certainly did not process. */
const MAX_ATTEMPTS = 10;
/** Requests a streaming call keeps so that it can be tried again; beyond this it no longer can. */
const MAX_RETAINED_BYTES = 1024 * 1024;

interface Outgoing {
  readonly chunks: Uint8Array[];
  readonly bytes: number;
}

/**
 * What unary and streaming calls have in common. States: waiting for a connection; open; over. An
 * attempt that the peer did not process (GOAWAY, REFUSED_STREAM) goes back to waiting.
 */
export abstract class ClientCall implements StreamListener, InboundOwner, Expiring, Waiter {
  readonly deadlineMs: number | undefined;
  readonly isPatient: boolean;
  queueIndex = -1;
  /** Where it is among its client's calls; -1 when it is not. The client's to change. */
  callIndex = -1;

  protected readonly owner: CallOwner;
  protected readonly options: CallOptions;
  readonly #path: string;
  readonly #compression: "identity" | "gzip";
  #connection: Http2Connection | undefined;
  #stream: Http2Stream | undefined;
  #isOver = false;
  #attempts = 0;
  #retryTimer: Timer | undefined;
  /** Response headers have come: what was sent will not be sent again. */
  #isCommitted = false;
  #isBlocked = false;
  #isRequestDone = false;
  #isEndSent = false;
  /** Requests not yet sent, after those sent but kept for another attempt. */
  #outgoing: Outgoing[] = [];
  #sent = 0;
  #retainedBytes = 0;
  #responseHeaders: HeaderList | undefined;
  #inbound: Inbound | undefined;
  #onSignal: (() => void) | undefined;

  constructor(owner: CallOwner, path: string, options: CallOptions) {
    this.owner = owner;
    this.options = options;
    this.#path = path;
    this.isPatient = options.waitForReady ?? owner.waitForReady;
    this.#compression = options.compression ?? owner.compression;
    const inherited = options.parent?.deadlineMs;
    const own = options.deadlineMs;
    this.deadlineMs = own === undefined || (inherited !== undefined && inherited < own)
      ? inherited
      : own;
  }

  /** The call is over and nothing more will happen. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether `respond` keeps messages until they are asked for, and says so to `inbound`. */
  protected abstract readonly keepsMessages: boolean;
  /** The response headers have come. */
  protected abstract headersArrived(headers: HeaderList): void;
  /**
   * One response message, and its memory's loan if that is lent. May throw a `ServerError`, which fails the
   * call.
   */
  protected abstract respond(message: Message, loan: Loan | undefined): void;
  /** The call ended: with the server's OK, or with an error. */
  protected abstract ended(error: ServerError | undefined, trailers: HeaderList | undefined): void;
  /** Everything given to `push` has entered the window, or will never be sent. */
  protected abstract flushed(): void;

  /** Goes looking for a connection. */
  protected start(): void {
    const { signal, parent } = this.options;
    this.owner.callStarted(this);
    if (signal?.aborted) return this.cancel(signal.reason);
    if (parent?.isAborted) return this.cancel(parent.signal.reason);
    if (this.deadlineMs !== undefined) {
      if (this.deadlineMs <= performance.now()) return this.expire();
      this.owner.deadlines.add(this);
    }
    if (signal !== undefined) {
      this.#onSignal = () => this.cancel(signal.reason);
      signal.addEventListener("abort", this.#onSignal);
    }
    if (parent?.onAbort !== undefined) parent.onAbort((reason) => this.cancel(reason));
    else if (parent !== undefined) {
      const { signal } = parent;
      signal.addEventListener("abort", () => this.cancel(signal.reason), { once: true });
    }
    this.#attempt();
  }

  /** Ends the call from this side. A `ServerError` as the reason is what the caller then sees. */
  cancel(reason?: unknown): void {
    if (this.#isOver) return;
    this.#stream?.reset(ErrorCode.CANCEL);
    this.#end(
      reason instanceof ServerError
        ? reason
        : new CancelledError("The call was cancelled", { cause: reason }),
    );
  }

  expire(): void {
    if (this.#isOver) return;
    this.#stream?.reset(ErrorCode.CANCEL);
    this.#end(new DeadlineExceededError(`${this.#path}: deadline exceeded`));
  }

  /** Sends one message, compressing it first if the call does. Throws for one over the limit. */
  protected push(message: Message, isLast: boolean): void | Promise<void> {
    const length = messageLength(message);
    if (length > this.owner.maxSendBytes) {
      throw new ResourceExhaustedError(
        `Request of ${length} bytes is over the limit of ${this.owner.maxSendBytes}`,
      );
    }
    if (this.#compression === "identity" || length < MIN_COMPRESSED_BYTES) {
      return this.#queue(message, length, false, isLast);
    }
    return compress(message).then((packed) =>
      this.#queue(packed, messageLength(packed), true, isLast)
    );
  }

  /** No more requests. */
  protected endRequests(): void {
    this.#isRequestDone = true;
    this.#flush();
  }

  /** A kept message has been asked for. */
  protected taken(message: Message): void {
    this.#inbound?.taken(message);
  }

  /** Ends the call with an error of this side's finding. */
  protected abandon(error: unknown): void {
    if (this.#isOver) return;
    this.#stream?.reset(ErrorCode.CANCEL);
    this.#end(
      error instanceof ServerError
        ? error
        : new InternalError("The call failed on the client", { cause: error }),
    );
  }

  // Sending.

  #queue(message: Message, length: number, isCompressed: boolean, isLast: boolean): void {
    const chunks = [messagePrefix(length, isCompressed), ...message];
    this.#outgoing.push({ chunks, bytes: length });
    if (isLast) this.#isRequestDone = true;
    else this.#retainedBytes += length;
    if (this.#retainedBytes > MAX_RETAINED_BYTES) this.#commit();
    this.#flush();
  }

  #flush(): void {
    const stream = this.#stream;
    if (stream === undefined || this.#isOver) return;
    while (!this.#isBlocked && this.#sent < this.#outgoing.length) {
      const { chunks } = this.#outgoing[this.#sent++]!;
      const isLast = this.#isRequestDone && this.#sent === this.#outgoing.length;
      if (isLast) this.#isEndSent = true;
      this.#isBlocked = !stream.sendData(chunks, isLast);
    }
    if (this.#isCommitted) this.#dropSent();
    if (this.#isBlocked || this.#sent < this.#outgoing.length) return;
    if (this.#isRequestDone && !this.#isEndSent) {
      this.#isEndSent = true;
      stream.sendData([], true);
    }
    this.flushed();
  }

  #commit(): void {
    this.#isCommitted = true;
    this.#dropSent();
  }

  #dropSent(): void {
    if (this.#sent === 0) return;
    this.#outgoing.splice(0, this.#sent);
    this.#sent = 0;
  }

  // Connecting.

  #attempt(): void {
    this.#attempts++;
    const connection = this.owner.pool.acquire();
    if (connection === undefined) this.owner.pool.wait(this);
    else this.onReady(connection);
  }

  /** The first time at once; after that a peer that refuses is given a moment. */
  #attemptAgain(): void {
    if (this.#attempts === 1) return this.#attempt();
    this.#retryTimer = this.owner.clock.setTimer(() => {
      this.#retryTimer = undefined;
      this.#attempt();
    }, 2 ** (this.#attempts - 1));
  }

  onReady(connection: Http2Connection): void {
    try {
      this.#connection = connection;
      this.#stream = connection.open(this.#requestHeaders(), false, this);
    } catch (error) {
      this.#end(new UnavailableError("The connection takes no more calls", { cause: error }));
      return;
    }
    this.#flush();
  }

  onFailed(error: ServerError): void {
    this.#end(error);
  }

  #requestHeaders(): HeaderList {
    const common = this.owner.headersOf(this.#path);
    const { metadata } = this.options;
    if (
      this.deadlineMs === undefined && metadata === undefined && this.#compression === "identity"
    ) {
      return common;
    }
    const headers: HeaderField[] = [...common];
    if (this.deadlineMs !== undefined) {
      headers.push(["grpc-timeout", formatTimeout(this.deadlineMs - performance.now())]);
    }
    if (this.#compression === "gzip") headers.push(["grpc-encoding", "gzip"]);
    if (metadata !== undefined) {
      const fields = metadata instanceof CallMetadata
        ? metadata
        : CallMetadata.from(metadata.entries());
      fields.toFields(headers);
    }
    return headers;
  }

  // What the stream tells.

  onHeaders(headers: HeaderList, endStream: boolean): void {
    if (this.#isOver) return;
    if (endStream) {
      if (this.#inbound === undefined) return this.#status(headers);
      try {
        this.#inbound.finish(() => this.#status(headers));
      } catch (error) {
        this.abandon(error);
      }
      return;
    }
    const problem = headersProblem(headers);
    if (problem !== undefined) return this.abandon(problem);
    this.#responseHeaders = headers;
    this.#commit();
    this.headersArrived(headers);
  }

  onData(chunk: Uint8Array, endStream: boolean): boolean {
    if (this.#isOver) return false;
    let isKept = false;
    try {
      const whole = this.#inbound === undefined && !this.keepsMessages
        ? wholeSmallMessage(chunk, this.owner.maxReceiveBytes)
        : undefined;
      if (whole === undefined) {
        isKept = (this.#inbound ??= this.#newInbound()).read(chunk);
      } else {
        this.accept(whole);
        this.giveBack(chunk.length);
      }
    } catch (error) {
      this.abandon(error);
      // Messages cut from this chunk before the bad one may be slices of it.
      return true;
    }
    if (endStream && !this.#isOver) {
      this.#end(new InternalError("The server ended the stream without a status"));
    }
    return isKept;
  }

  onEnd(end: StreamEnd): void {
    if (this.#isOver) return;
    this.#stream = undefined;
    this.#keepUnsent();
    if (end.unprocessed && !this.#isCommitted && this.#attempts < MAX_ATTEMPTS) {
      this.#connection = undefined;
      this.#sent = 0;
      this.#isBlocked = false;
      this.#isEndSent = false;
      this.#attemptAgain();
      return;
    }
    this.#end(errorOfEnd(end));
  }

  onDrain(): void {
    this.#isBlocked = false;
    this.#flush();
  }

  accept(message: Message, loan?: Loan): void {
    if (this.#isOver) return;
    if (this.keepsMessages) this.#inbound!.queued(message);
    this.respond(message, loan);
  }

  inboundFailed(error: unknown): void {
    this.abandon(error);
  }

  giveBack(bytes: number): void {
    this.#stream?.consume(bytes);
  }

  #newInbound(): Inbound {
    const name = this.#responseHeaders?.find(([name]) => name === "grpc-encoding")?.[1];
    const encoding = encodingOf(name ?? "identity");
    if (encoding === undefined) {
      throw new InternalError(`The server compresses with ${JSON.stringify(name)}, unasked`);
    }
    const memory = this.keepsMessages ? undefined : this.options.memory;
    return new Inbound(this, this.owner.maxReceiveBytes, encoding, memory);
  }

  /** A stream that is over may still be writing what it was given, which may lie in the parent's memory. */
  #keepUnsent(): void {
    if (this.#isBlocked) this.options.parent?.keepLoans?.();
  }

  #status(trailers: HeaderList): void {
    if (this.#isOver) return;
    let number: string | undefined;
    let message = "";
    let http = "200";
    for (const [name, value] of trailers) {
      if (name === "grpc-status") number = value;
      else if (name === "grpc-message") message = decodeStatusMessage(value);
      else if (name === ":status") http = value;
    }
    if (number === "0") return this.#end(undefined, trailers);
    let status: StatusName;
    if (number === undefined) {
      status = http === "200" ? "UNKNOWN" : statusOfHttp(http);
      message = `The server sent no grpc-status (HTTP status ${http})`;
    } else {
      const name = /^\d{1,4}$/.test(number) ? statusName(Number(number)) : "UNKNOWN";
      status = name === "OK" ? "UNKNOWN" : name;
    }
    this.#end(errorOfStatus(status, message), trailers);
  }

  #end(error: ServerError | undefined, trailers?: HeaderList): void {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.queueIndex >= 0) this.owner.deadlines.remove(this);
    if (this.#onSignal !== undefined) {
      this.options.signal!.removeEventListener("abort", this.#onSignal);
    }
    if (this.#retryTimer !== undefined) this.owner.clock.clearTimer(this.#retryTimer);
    this.#keepUnsent();
    this.#inbound?.close();
    this.#outgoing = [];
    // A server that has ended the call without hearing us out wants no more of it.
    if (!this.#isEndSent) this.#stream?.reset(ErrorCode.CANCEL);
    if (this.#connection === undefined) this.owner.pool.leave(this);
    if (trailers !== undefined) this.options.onTrailers?.(CallMetadata.received(trailers));
    this.ended(error, trailers);
    this.flushed();
    this.owner.callEnded(this);
  }
}

function headersProblem(headers: HeaderList): ServerError | undefined {
  let http = "";
  let contentType: string | undefined;
  for (const [name, value] of headers) {
    if (name === ":status") http = value;
    else if (name === "content-type") contentType = value;
  }
  if (http !== "200") {
    return errorOfStatus(statusOfHttp(http), `The server answered with HTTP status ${http}`);
  }
  if (contentType === undefined || !isGrpcContentType(contentType)) {
    const shown = JSON.stringify(contentType?.slice(0, 64) ?? "");
    return new ServerError("UNKNOWN", `The server answered with content-type ${shown}`);
  }
  return undefined;
}

/** gRPC over HTTP/2, "Errors": the status of a stream that ended without one. */
function errorOfEnd(end: StreamEnd): ServerError {
  if (end.cause === "connection") {
    return new UnavailableError(`The connection was lost: ${end.message}`);
  }
  const message = `The stream was reset (HTTP/2 error ${end.code}): ${end.message}`;
  switch (end.code) {
    case ErrorCode.REFUSED_STREAM:
      return new UnavailableError(message);
    case ErrorCode.CANCEL:
      return new CancelledError(message);
    case ErrorCode.ENHANCE_YOUR_CALM:
      return new ResourceExhaustedError(message);
    case ErrorCode.INADEQUATE_SECURITY:
      return new ServerError("PERMISSION_DENIED", message);
    default:
      return new InternalError(message);
  }
}
