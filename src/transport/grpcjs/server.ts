/** A `GrpcServer` over `@grpc/grpc-js`. */

import { Buffer } from "node:buffer";
import * as grpc from "@grpc/grpc-js";
import {
  CancelledError,
  DeadlineExceededError,
  messageOf,
  ResourceExhaustedError,
  type ServerError,
  UnavailableError,
} from "../../errors.ts";
import { AbortSource } from "../abort_source.ts";
import {
  type CallContext,
  type GrpcServer,
  type Message,
  messageLength,
  type Metadata,
  type MethodHandler,
  type ServerOptions,
} from "../handler.ts";
import { MessageQueue } from "../message_queue.ts";
import { CallMetadata } from "../metadata.ts";
import {
  type CallStatus,
  MAX_MESSAGE_BYTES,
  type OutgoingStatus,
  outgoingStatus,
  STATUS_NUMBERS,
} from "../status.ts";

/** A cancellation this shortly before the deadline is the caller's own timer. */
const DEADLINE_SLACK_MS = 5;

type UnaryCall = grpc.ServerUnaryCall<Message, Message>;
type DuplexCall = grpc.ServerDuplexStream<Message, Message>;

/** Starts listening. Throws `UnavailableError` when the address cannot be bound. */
export async function startGrpcJsServer(options: ServerOptions): Promise<GrpcServer> {
  const server = new GrpcJsServer(options);
  await server.listen();
  return server;
}

class GrpcJsServer implements GrpcServer {
  readonly #options: ServerOptions;
  readonly #server: grpc.Server;
  readonly #calls = new Set<GrpcJsCall>();
  #port = 0;
  #shutdown: Promise<void> | undefined;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#server = new grpc.Server({
      "grpc.max_receive_message_length": options.maxReceiveBytes,
      // The size is checked here, with the status of the other transport; grpc-js is told not to.
      "grpc.max_send_message_length": -1,
      // Two listeners on one port would share its connections by chance.
      "grpc.so_reuseport": 0,
    });
    for (const [path, handler] of options.methods) this.#register(path, handler);
  }

  get hostname(): string {
    return this.#options.hostname;
  }

  get port(): number {
    return this.#port;
  }

  get activeCalls(): number {
    return this.#calls.size;
  }

  async listen(): Promise<void> {
    const { hostname, port, tls } = this.#options;
    const isUnix = hostname.startsWith("unix:");
    const address = isUnix
      ? hostname
      : hostname.includes(":") && !hostname.startsWith("[")
      ? `[${hostname}]:${port}`
      : `${hostname}:${port}`;
    const credentials = tls === undefined
      ? grpc.ServerCredentials.createInsecure()
      : grpc.ServerCredentials.createSsl(
        tls.clientCa === undefined ? null : Buffer.from(tls.clientCa),
        [{ private_key: Buffer.from(tls.key), cert_chain: Buffer.from(tls.cert) }],
        tls.clientCa !== undefined,
      );
    this.#port = await new Promise<number>((resolve, reject) =>
      this.#server.bindAsync(address, credentials, (error, bound) => {
        if (error === null) resolve(isUnix ? 0 : bound);
        else {
          const message = `Cannot listen on ${address}: ${messageOf(error)}`;
          reject(new UnavailableError(message, { cause: error }));
        }
      })
    );
  }

  shutdown(graceMs: number): Promise<void> {
    this.#shutdown ??= this.#close(graceMs);
    return this.#shutdown;
  }

  async #close(graceMs: number): Promise<void> {
    const done = new Promise<void>((resolve) => this.#server.tryShutdown(() => resolve()));
    const timer = setTimeout(() => {
      for (const call of [...this.#calls]) call.cancel("The server is shutting down");
      this.#server.forceShutdown();
    }, graceMs);
    await done;
    clearTimeout(timer);
  }

  #register(path: string, handler: MethodHandler): void {
    const serialize = (message: Message) => toBuffer(message);
    const deserialize = (bytes: Buffer): Message => [bytes];
    if (handler.kind === "unary") {
      this.#server.register<Message, Message>(
        path,
        async (call: UnaryCall, callback: grpc.sendUnaryData<Message>) => {
          const context = this.#begin(path, call);
          const fail = (error: unknown) => {
            const status = this.#failed(error, context);
            if (context.hasStatus) return;
            context.hasStatus = true;
            callback(
              { code: STATUS_NUMBERS[status.status], details: detailsOf(status) },
              null,
              trailersOf(context),
            );
          };
          context.onGiveUp = fail;
          try {
            const response = await handler.handle(call.request, context);
            if (context.hasStatus) return;
            if (context.deadlineMs !== undefined && performance.now() >= context.deadlineMs) {
              throw new DeadlineExceededError("Deadline exceeded");
            }
            this.#checkSize(response);
            sendHeaders(call, context);
            this.#end(context, "OK");
            callback(null, response, trailersOf(context));
          } catch (error) {
            fail(error);
          }
        },
        serialize,
        deserialize,
        "unary",
      );
      return;
    }
    this.#server.register<Message, Message>(
      path,
      async (call: DuplexCall) => {
        const context = this.#begin(path, call);
        const requests = readRequests(call, context);
        try {
          let hasSentHeaders = false;
          for await (const response of handler.handle(requests, context)) {
            if (context.isAborted) break;
            this.#checkSize(response);
            if (!hasSentHeaders) sendHeaders(call, context);
            hasSentHeaders = true;
            await writeResponse(call, response);
          }
          if (context.reason !== undefined) throw context.reason;
          if (!hasSentHeaders) sendHeaders(call, context);
          this.#end(context, "OK");
          call.end(trailersOf(context));
        } catch (error) {
          const status = this.#failed(error, context);
          call.emit("error", {
            code: STATUS_NUMBERS[status.status],
            details: detailsOf(status),
            metadata: trailersOf(context),
          });
        }
      },
      serialize,
      deserialize,
      "bidi",
    );
  }

  #begin(path: string, call: UnaryCall | DuplexCall): GrpcJsCall {
    const context = new GrpcJsCall(path, call);
    this.#calls.add(context);
    (call as UnaryCall).on("cancelled", () => {
      context.cancel("The caller cancelled the call");
      this.#end(context, context.reason?.status ?? "CANCELLED");
    });
    return context;
  }

  #end(context: GrpcJsCall, status: CallStatus): void {
    if (this.#calls.delete(context)) this.#options.onCallEnd?.(context.path, status);
  }

  #failed(error: unknown, context: GrpcJsCall): OutgoingStatus {
    const status = outgoingStatus(error);
    if (!status.isExpected) this.#options.onHandlerError?.(error, context.path);
    this.#end(context, status.status);
    return status;
  }

  #checkSize(message: Message): void {
    const length = messageLength(message);
    if (length > this.#options.maxSendBytes) {
      throw new ResourceExhaustedError(
        `Response of ${length} bytes is over the limit of ${this.#options.maxSendBytes}`,
      );
    }
  }
}

class GrpcJsCall implements CallContext {
  readonly path: string;
  readonly metadata: Metadata;
  readonly deadlineMs: number | undefined;
  readonly peer: string;
  readonly responseHeaders = new CallMetadata();
  readonly responseTrailers = new CallMetadata();
  readonly #abort = new AbortSource();
  /** Whether a status has been given to grpc-js before the handler was done. */
  hasStatus = false;
  /** Ends the call with an error; of unary calls. */
  onGiveUp: ((reason: ServerError) => void) | undefined;

  constructor(path: string, call: UnaryCall | DuplexCall) {
    this.path = path;
    this.metadata = received(call.metadata);
    this.peer = call.getPeer();
    const deadline = Number(call.getDeadline());
    if (Number.isFinite(deadline)) this.deadlineMs = performance.now() + deadline - Date.now();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isAborted(): boolean {
    return this.#abort.reason !== undefined;
  }

  get reason(): ServerError | undefined {
    return this.#abort.reason;
  }

  onAbort(listener: (reason: ServerError) => void): void {
    this.#abort.onAbort(listener);
  }

  giveUp(reason: ServerError): void {
    if (this.isAborted) return;
    this.onGiveUp?.(reason);
    this.#abort.abort(reason);
  }

  /** Over, for the deadline if that has passed (grpc-js reports both alike), else with this message. */
  cancel(message: string): void {
    const isLate = this.deadlineMs !== undefined &&
      performance.now() >= this.deadlineMs - DEADLINE_SLACK_MS;
    this.#abort.abort(
      isLate ? new DeadlineExceededError("Deadline exceeded") : new CancelledError(message),
    );
  }
}

function readRequests(call: DuplexCall, context: GrpcJsCall): MessageQueue {
  const requests = new MessageQueue(() => {
    if (requests.length === 0) call.resume();
  });
  call.on("data", (message: Message) => {
    call.pause();
    requests.push(message);
  });
  call.on("end", () => requests.end());
  context.onAbort((reason) => requests.abort(reason));
  return requests;
}

/** Resolves when grpc-js has written it; a call that is over settles its writes by destroying itself. */
function writeResponse(call: DuplexCall, message: Message): Promise<void> {
  return new Promise((resolve) => {
    call.write(message, () => resolve());
  });
}

function sendHeaders(call: UnaryCall | DuplexCall, context: GrpcJsCall): void {
  if (!context.responseHeaders.isEmpty) call.sendMetadata(toGrpcJs(context.responseHeaders));
}

function trailersOf(context: GrpcJsCall): grpc.Metadata {
  return toGrpcJs(context.responseTrailers);
}

/** grpc-js runs `encodeURI` over details, which throws on a lone surrogate. */
function detailsOf(status: OutgoingStatus): string {
  return status.message.slice(0, MAX_MESSAGE_BYTES).toWellFormed();
}

function received(metadata: grpc.Metadata): CallMetadata {
  const fields: [string, string | Uint8Array][] = [];
  for (const key of Object.keys(metadata.toJSON())) {
    for (const value of metadata.get(key)) fields.push([key, value]);
  }
  return CallMetadata.decoded(fields);
}

function toGrpcJs(metadata: CallMetadata): grpc.Metadata {
  const result = new grpc.Metadata();
  for (const [key, value] of metadata.entries()) {
    result.add(key, typeof value === "string" ? value : toBuffer([value]));
  }
  return result;
}

function toBuffer(message: Message): Buffer {
  if (message.length !== 1) return Buffer.concat(message);
  const [chunk] = message;
  return Buffer.from(chunk!.buffer, chunk!.byteOffset, chunk!.length);
}
