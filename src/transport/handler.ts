/**
 * What services are written against: a method takes and gives raw gRPC messages, whichever transport
 * carries them (the native HTTP/2 one or grpc-js). No message type is known here.
 */

import type { ServerError } from "../errors.ts";
import type { BufferPool, Loan } from "./buffer_pool.ts";

/**
 * One gRPC message as the chunks it lies in, in order; concatenated they are the message. A receiver
 * that only forwards never joins them. The chunks belong to the receiver: a transport does not write to
 * them again, and a sender must not write to them until its call has settled.
 */
export type Message = readonly Uint8Array[];

/** Call metadata: lower-case keys; values of `-bin` keys are decoded bytes. */
export interface Metadata {
  /** The first value of a key. */
  get(key: string): string | Uint8Array | undefined;
  getAll(key: string): readonly (string | Uint8Array)[];
  /** Appends a value. `-bin` keys take bytes, all others text. */
  append(key: string, value: string | Uint8Array): void;
  entries(): Iterable<readonly [string, string | Uint8Array]>;
}

/** One call, as its handler sees it. */
export interface CallContext {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Request metadata (pseudo-headers and transport headers left out). */
  readonly metadata: Metadata;
  /** Absolute deadline on the `performance.now()` clock, in milliseconds; `undefined`: none. */
  readonly deadlineMs: number | undefined;
  /**
   * Aborted when the caller cancels or disconnects (`CancelledError`) or the deadline passes
   * (`DeadlineExceededError`), with that error as the reason. Created on first use, so a handler that
   * never waits never pays for it.
   */
  readonly signal: AbortSignal;
  /**
   * Runs `listener` when `signal` would be aborted, with the same reason, or at once if it already is;
   * without creating the signal, so it is cheap per call. Not every context has it (a test's may not).
   */
  onAbort?(listener: (reason: ServerError) => void): void;
  /**
   * Ends the call with this status now, whatever the handler still does; what it gives goes nowhere then. For
   * handlers that hold what they cannot let go of before a device is done. Not every context has it.
   */
  giveUp?(reason: ServerError): void;
  /** Whether the call is already over, without creating the signal. */
  readonly isAborted: boolean;
  /** `host:port` or a socket path, for logs. */
  readonly peer: string;
  /** Sent with the response headers; has no effect after the first message. */
  readonly responseHeaders: Metadata;
  /** Sent with the status. */
  readonly responseTrailers: Metadata;
  /**
   * Gives back memory that the answer lies in when the answer has left. Where the call ends in any other
   * way it is not given back, because something may still read it. Not every context has it.
   */
  lend?(loan: Loan): void;
  /** The request, or what was lent, may be read for longer than the call lasts: nothing is given back. */
  keepLoans?(): void;
}

/**
 * One message in, one out. It may answer synchronously, which the fast path does. Throwing a
 * `ServerError` ends the call with its status; anything else becomes a plain INTERNAL and is logged.
 */
export type UnaryHandler = (request: Message, call: CallContext) => Message | Promise<Message>;

/**
 * Any streaming kind. Back-pressure runs both ways: a request is read when asked for, and the next
 * response is asked for when the last one has entered the send window.
 */
export type StreamHandler = (
  requests: AsyncIterable<Message>,
  call: CallContext,
) => AsyncIterable<Message>;

export type MethodHandler =
  | {
    readonly kind: "unary";
    readonly handle: UnaryHandler;
    /**
     * Large requests may come in memory of this pool. Then nobody may read a request once the handler
     * has settled, but for what of it is in the answer.
     */
    readonly memory?: BufferPool;
  }
  | { readonly kind: "stream"; readonly handle: StreamHandler };

/** Every method a listener serves, by path. Unknown paths answer UNIMPLEMENTED. */
export type MethodTable = ReadonlyMap<string, MethodHandler>;

/** How a listener is set up; the same for every transport. */
export interface ServerOptions {
  /** A host name or address, or `unix:/path` for a Unix socket (`port` then means nothing). */
  readonly hostname: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly methods: MethodTable;
  /** Largest inbound message, after decompression. Over it: RESOURCE_EXHAUSTED. */
  readonly maxReceiveBytes: number;
  /** Largest outbound message. Over it: RESOURCE_EXHAUSTED. */
  readonly maxSendBytes: number;
  /** PEM text. Without it the listener speaks cleartext HTTP/2 with prior knowledge. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  /** Told of every unexpected failure of a handler. */
  readonly onHandlerError?: (error: unknown, path: string) => void;
  /**
   * Told that nobody can connect, for want of descriptors for instance: at most once a minute, and only
   * by the native transport.
   */
  readonly onAcceptError?: (error: unknown) => void;
  /**
   * Told of every call that ended, with its status name (`OK` included): also of calls that never
   * reached a handler. For metrics.
   */
  readonly onCallEnd?: (path: string, status: string) => void;
}

/** A running listener. */
export interface GrpcServer {
  readonly hostname: string;
  readonly port: number;
  /** Calls in progress. */
  readonly activeCalls: number;
  /**
   * Stops accepting, lets calls in progress finish for up to `graceMs`, then cuts the rest.
   * Idempotent; resolves when every connection is closed.
   */
  shutdown(graceMs: number): Promise<void>;
}

/** Joins a message into one array; free when it is one chunk already. */
export function joinMessage(message: Message): Uint8Array {
  if (message.length === 1) return message[0]!;
  const joined = new Uint8Array(messageLength(message));
  let at = 0;
  for (const chunk of message) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}

/** Total bytes of a message. */
export function messageLength(message: Message): number {
  let length = 0;
  for (const chunk of message) length += chunk.length;
  return length;
}
