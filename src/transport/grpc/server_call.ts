/** One call on the server: from its header list to its status. */

import {
  CancelledError,
  DeadlineExceededError,
  messageOf,
  ResourceExhaustedError,
  ServerError,
} from "../../errors.ts";
import { AbortSource } from "../abort_source.ts";
import type { Loan } from "../buffer_pool.ts";
import type { DeadlineQueue, Expiring } from "../deadline.ts";
import {
  type CallContext,
  type Message,
  messageLength,
  type Metadata,
  type StreamHandler,
  type UnaryHandler,
} from "../handler.ts";
import {
  ErrorCode,
  type HeaderField,
  type HeaderList,
  type Http2Stream,
  type StreamEnd,
  type StreamListener,
} from "../http2/mod.ts";
import { MessageQueue } from "../message_queue.ts";
import { CallMetadata } from "../metadata.ts";
import { type CallStatus, encodeStatusMessage, outgoingStatus, STATUS_NUMBERS } from "../status.ts";
import { ACCEPTED_ENCODINGS, compress, MIN_COMPRESSED_BYTES } from "./compression.ts";
import { Inbound, type InboundOwner } from "./inbound.ts";
import { messagePrefix, wholeSmallMessage } from "./message_reader.ts";
import type { Refusal, RequestHead } from "./request_head.ts";
import { copied } from "./slab.ts";

/** What calls share with their listener. */
export interface CallHost {
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  readonly deadlines: DeadlineQueue;
  /** A handler failed in a way its author did not foresee. Must not throw. */
  handlerFailed(error: unknown, path: string): void;
  /** The call is over. Must not throw. */
  callEnded(call: ServerCall, status: CallStatus): void;
}

// The lists are constants so that the connection can recognise and reuse their encoded blocks.
const STATUS_200: HeaderField = [":status", "200"];
const CONTENT_TYPE: HeaderField = ["content-type", "application/grpc"];
const ACCEPT_ENCODING: HeaderField = ["grpc-accept-encoding", ACCEPTED_ENCODINGS];
const RESPONSE_HEADERS: HeaderList = [STATUS_200, CONTENT_TYPE];
const OK_TRAILERS: HeaderList = [["grpc-status", "0"]];

/** What a caller may still send after its answer before its stream is reset. */
const MAX_DISCARDED_BYTES = 64 * 1024;
/** A reset this shortly before the deadline is the caller's own timer. */
const DEADLINE_SLACK_MS = 5;

/**
 * States: receiving (until the request has ended) and responding may overlap in streaming calls; `over`
 * once a status is out or the stream is gone. After that nothing is sent, and what a handler
 * still produces is dropped.
 */
export class ServerCall implements StreamListener, CallContext, InboundOwner, Expiring {
  readonly path: string;
  readonly peer: string;
  readonly deadlineMs: number | undefined;
  queueIndex = -1;

  readonly #host: CallHost;
  readonly #head: RequestHead;
  #stream!: Http2Stream;
  #inbound: Inbound | undefined;
  #isOver = false;
  #headersSent = false;

  // Unary: the one request.
  #request: Message | undefined;
  #isInvoked = false;
  // Streaming: requests on their way to the handler.
  #requests: MessageQueue | undefined;
  /** Response bytes wait for the window, and what is to happen when they have left. */
  #isBlocked = false;
  /** Request bytes that came after the call was over. */
  #discardedBytes = 0;
  #drained: (() => void) | undefined;
  /** What request and answer lie in, given back when the answer has left and at no other end. */
  #loans: Loan[] | undefined;
  #mayKeepLoans = false;
  #isAnswered = false;

  #reason: ServerError | undefined;
  #abort: AbortSource | undefined;
  #metadata: CallMetadata | undefined;
  #responseHeaders: CallMetadata | undefined;
  #responseTrailers: CallMetadata | undefined;

  constructor(host: CallHost, head: RequestHead, peer: string) {
    this.#host = host;
    this.#head = head;
    this.path = head.path;
    this.peer = peer;
    this.deadlineMs = head.timeoutMs === undefined ? undefined : performance.now() + head.timeoutMs;
  }

  /** Starts the call on its stream. To be called once, with the end flag of the request headers. */
  begin(stream: Http2Stream, endStream: boolean): void {
    this.#stream = stream;
    const { refusal, handler } = this.#head;
    if (refusal !== undefined) return this.#refuse(refusal);
    if (this.deadlineMs !== undefined) this.#host.deadlines.add(this);
    if (handler!.kind === "stream") this.#runStream(handler!.handle);
    if (endStream) this.#requestDone();
  }

  get metadata(): Metadata {
    return this.#metadata ??= CallMetadata.received(this.#head.headers);
  }

  get responseHeaders(): Metadata {
    return this.#responseHeaders ??= new CallMetadata();
  }

  get responseTrailers(): Metadata {
    return this.#responseTrailers ??= new CallMetadata();
  }

  get isAborted(): boolean {
    return this.#reason !== undefined;
  }

  get signal(): AbortSignal {
    return this.#abortSource().signal;
  }

  onAbort(listener: (reason: ServerError) => void): void {
    this.#abortSource().onAbort(listener);
  }

  lend(loan: Loan): void {
    if (!this.#mayKeepLoans) (this.#loans ??= []).push(loan);
  }

  keepLoans(): void {
    this.#mayKeepLoans = true;
    this.#loans = undefined;
  }

  #abortSource(): AbortSource {
    if (this.#abort === undefined) {
      this.#abort = new AbortSource();
      if (this.#reason !== undefined) this.#abort.abort(this.#reason);
    }
    return this.#abort;
  }

  // What the stream tells.

  onHeaders(_trailers: HeaderList, endStream: boolean): void {
    // Request trailers carry nothing in gRPC; only their end of stream counts.
    if (endStream) this.#requestDone();
  }

  onData(chunk: Uint8Array, endStream: boolean): boolean {
    const bytes = chunk.length;
    if (this.#isOver) {
      this.#discard(bytes);
      return false;
    }
    let isKept = false;
    try {
      const whole = this.#inbound === undefined && this.#requests === undefined
        ? wholeSmallMessage(chunk, this.#host.maxReceiveBytes, copied)
        : undefined;
      if (whole === undefined) {
        isKept = this.#inboundReader().read(chunk);
      } else {
        this.accept(whole);
        this.#stream.consume(bytes);
      }
    } catch (error) {
      this.#fail(error);
      // Messages cut from this chunk before the bad one may be slices of it.
      return true;
    }
    if (endStream) this.#requestDone();
    return isKept;
  }

  /**
   * The rest of a request that was answered early. A caller that keeps sending is told to stop (RFC 9113
   * section 8.1), but not at once: some clients then forget the answer they have just got.
   */
  #discard(bytes: number): void {
    this.#stream.consume(bytes);
    this.#discardedBytes += bytes;
    if (this.#discardedBytes > MAX_DISCARDED_BYTES && !this.#isBlocked) {
      this.#stream.reset(ErrorCode.NO_ERROR);
    }
  }

  onEnd(end: StreamEnd): void {
    if (this.#isOver) return;
    const reason = this.#reasonOf(end);
    this.#abortWith(reason);
    this.#over(reason.status);
  }

  #reasonOf(end: StreamEnd): ServerError {
    if (end.cause !== "peer") return new CancelledError("The caller's connection is gone");
    // A caller keeps the same deadline, and its reset may be here a moment before our own timer.
    if (
      this.deadlineMs !== undefined && performance.now() >= this.deadlineMs - DEADLINE_SLACK_MS
    ) {
      return new DeadlineExceededError("Deadline exceeded");
    }
    return new CancelledError("The caller cancelled the call");
  }

  onDrain(): void {
    this.#isBlocked = false;
    const drained = this.#drained;
    this.#drained = undefined;
    drained?.();
    if (this.#isAnswered) this.#returnLoans();
  }

  /** Its deadline has passed: the status goes out now, whatever the handler does. */
  expire(): void {
    this.#fail(new DeadlineExceededError("Deadline exceeded"));
  }

  giveUp(reason: ServerError): void {
    this.#fail(reason);
  }

  accept(message: Message, loan?: Loan): void {
    if (loan !== undefined) this.lend(loan);
    if (this.#requests !== undefined) {
      this.#inbound!.queued(message);
      this.#requests.push(message);
    } else if (this.#request === undefined) {
      this.#request = message;
    } else {
      throw new ServerError("UNIMPLEMENTED", `${this.path} takes one request, got more`);
    }
  }

  inboundFailed(error: unknown): void {
    this.#fail(error);
  }

  giveBack(bytes: number): void {
    this.#stream.consume(bytes);
  }

  #inboundReader(): Inbound {
    if (this.#inbound !== undefined) return this.#inbound;
    const { handler, encoding } = this.#head;
    const memory = handler!.kind === "unary" ? handler!.memory : undefined;
    return this.#inbound = new Inbound(this, this.#host.maxReceiveBytes, encoding, memory);
  }

  #requestDone(): void {
    if (this.#isOver) return;
    if (this.#inbound === undefined) return this.#requestComplete();
    try {
      this.#inbound.finish(() => this.#requestComplete());
    } catch (error) {
      this.#fail(error);
    }
  }

  #requestComplete(): void {
    if (this.#isOver || this.#isInvoked) return;
    if (this.#requests !== undefined) return this.#requests.end();
    if (this.#request === undefined) {
      return this.#fail(
        new ServerError("UNIMPLEMENTED", `${this.path} takes one request, got none`),
      );
    }
    this.#isInvoked = true;
    if (this.#isLate) return this.expire();
    this.#runUnary(this.#head.handler!.handle as UnaryHandler, this.#request);
  }

  // Handlers.

  #runUnary(handle: UnaryHandler, request: Message): void {
    try {
      this.#request = undefined;
      const response = handle(request, this);
      if (Array.isArray(response)) this.#respond(response);
      else void this.#respondLater(response as Promise<Message>);
    } catch (error) {
      this.#fail(error);
    }
  }

  async #respondLater(pending: Promise<Message>): Promise<void> {
    try {
      this.#respond(await pending);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The timer has whole milliseconds; an answer that is later than the deadline is late all the same. */
  get #isLate(): boolean {
    return this.deadlineMs !== undefined && performance.now() >= this.deadlineMs;
  }

  #respond(response: Message): void {
    if (this.#isOver) return;
    if (this.#isLate) return this.expire();
    const length = this.#checkedLength(response);
    if (this.#head.mayCompress && length >= MIN_COMPRESSED_BYTES) {
      void this.#respondCompressed(response);
      return;
    }
    this.#sendHeaders();
    this.#isBlocked = !this.#stream.sendData([messagePrefix(length, false), ...response], false);
    this.#succeed();
  }

  async #respondCompressed(response: Message): Promise<void> {
    try {
      await this.#send(response);
      this.#succeed();
    } catch (error) {
      this.#fail(error);
    }
  }

  #runStream(handle: StreamHandler): void {
    const inbound = this.#inboundReader();
    const requests = new MessageQueue((message) => inbound.taken(message));
    this.#requests = requests;
    void this.#respondStream(handle, requests);
  }

  async #respondStream(handle: StreamHandler, requests: MessageQueue): Promise<void> {
    try {
      for await (const response of handle(requests, this)) {
        if (this.#isOver) return;
        await this.#send(response);
        // The caller may have gone while the window was shut.
        if (this.#isOver) return;
      }
      this.#succeed();
    } catch (error) {
      this.#fail(error);
    }
  }

  // Sending.

  #checkedLength(message: Message): number {
    const length = messageLength(message);
    if (length > this.#host.maxSendBytes) {
      throw new ResourceExhaustedError(
        `Response of ${length} bytes is over the limit of ${this.#host.maxSendBytes}`,
      );
    }
    return length;
  }

  #sendHeaders(): void {
    if (this.#headersSent) return;
    this.#headersSent = true;
    const extra = this.#responseHeaders;
    const { mayCompress } = this.#head;
    if (extra === undefined && !mayCompress) {
      this.#stream.sendHeaders(RESPONSE_HEADERS, false);
      return;
    }
    const headers: HeaderField[] = [STATUS_200, CONTENT_TYPE];
    if (mayCompress) headers.push(["grpc-encoding", "gzip"], ACCEPT_ENCODING);
    extra?.toFields(headers);
    this.#stream.sendHeaders(headers, false);
  }

  /** Sends one message; resolves when it has entered the send window, or the call is over. */
  async #send(message: Message): Promise<void> {
    let length = this.#checkedLength(message);
    const isCompressed = this.#head.mayCompress && length >= MIN_COMPRESSED_BYTES;
    if (isCompressed) {
      message = await compress(message);
      if (this.#isOver) return;
      length = messageLength(message);
    }
    this.#sendHeaders();
    this.#isBlocked = !this.#stream.sendData(
      [messagePrefix(length, isCompressed), ...message],
      false,
    );
    if (this.#isBlocked) {
      await new Promise<void>((resolve) => this.#drained = resolve);
    }
  }

  #succeed(): void {
    if (this.#isOver) return;
    this.#sendHeaders();
    const extra = this.#responseTrailers;
    this.#stream.sendHeaders(
      extra === undefined ? OK_TRAILERS : extra.toFields([["grpc-status", "0"]]),
      true,
    );
    this.#over("OK");
    if (this.#isInvoked) this.#isAnswered = true;
    if (this.#isAnswered && !this.#isBlocked) this.#returnLoans();
  }

  /** The answer has left: what it and the request lay in may serve others. */
  #returnLoans(): void {
    const loans = this.#loans;
    this.#loans = undefined;
    if (loans !== undefined) { for (const loan of loans) loan.release(); }
  }

  #fail(error: unknown): void {
    if (this.#isOver) {
      // The call is over, so this went nowhere; a defect is still worth knowing about.
      if (!(error instanceof ServerError)) this.#reportLate(error);
      return;
    }
    const { status, message, isExpected } = outgoingStatus(error);
    if (!isExpected) this.#host.handlerFailed(error, this.path);
    this.#sendStatus("200", status, message);
    this.#abortWith(
      error instanceof ServerError ? error : new CancelledError("The call has failed"),
    );
    this.#over(status);
  }

  /** A handler that reacts to its own abort by throwing the reason, or an AbortError, is no defect. */
  #reportLate(error: unknown): void {
    if (error instanceof DOMException && error.name === "AbortError") return;
    this.#host.handlerFailed(error, this.path);
  }

  #refuse(refusal: Refusal): void {
    this.#sendStatus(refusal.httpStatus, refusal.status, refusal.message);
    this.#over(refusal.status);
  }

  #sendStatus(httpStatus: string, status: CallStatus, message: string): void {
    const fields: HeaderField[] = [];
    if (!this.#headersSent) {
      fields.push([":status", httpStatus], CONTENT_TYPE);
      if (httpStatus === "405") fields.push(["allow", "POST"]);
      this.#responseHeaders?.toFields(fields);
      this.#headersSent = true;
    }
    fields.push(["grpc-status", String(STATUS_NUMBERS[status])]);
    if (message !== "") fields.push(["grpc-message", encodeStatusMessage(message)]);
    if (status === "UNIMPLEMENTED") fields.push(ACCEPT_ENCODING);
    this.#responseTrailers?.toFields(fields);
    this.#stream.sendHeaders(fields, true);
  }

  #abortWith(reason: ServerError): void {
    this.#reason = reason;
    this.#requests?.abort(reason);
    try {
      this.#abort?.abort(reason);
    } catch (error) {
      this.#host.handlerFailed(new Error(messageOf(error), { cause: error }), this.path);
    }
  }

  #over(status: CallStatus): void {
    this.#isOver = true;
    if (this.queueIndex >= 0) this.#host.deadlines.remove(this);
    this.#inbound?.close();
    this.#request = undefined;
    const drained = this.#drained;
    this.#drained = undefined;
    drained?.();
    this.#host.callEnded(this, status);
  }
}
