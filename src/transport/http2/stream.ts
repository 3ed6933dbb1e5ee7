/**
 * The state of one stream (RFC 9113 section 5.1). The states of the specification are two booleans
 * here: whether we have ended our side and whether the peer has ended its own; `idle` streams have no
 * object, and a stream that is closed leaves its connection's table at once.
 */

import type { HeaderList, Http2Stream, StreamListener } from "./types.ts";
import { type ReceiveWindow, SendWindow } from "./flow_control.ts";
import { SendQueue } from "./send_queue.ts";

/** What a stream needs of its connection. */
export interface StreamHost {
  sendHeaders(stream: StreamState, headers: HeaderList, endStream: boolean): void;
  sendData(stream: StreamState, chunks: readonly Uint8Array[], endStream: boolean): boolean;
  resetStream(stream: StreamState, code: number): void;
  consume(stream: StreamState, bytes: number): void;
}

/** One stream. The fields are for this folder; the layer above sees `Http2Stream`. */
export class StreamState implements Http2Stream {
  readonly id: number;
  /** Set right after construction on the server, where the listener comes from the request. */
  listener: StreamListener | undefined;
  readonly sendWindow: SendWindow;
  readonly receiveWindow: ReceiveWindow;
  /** When it was opened, on the connection's clock. */
  readonly openedMs: number;

  isClosed = false;
  /** We have sent HEADERS: further ones are trailers. */
  hasSentHeaders = false;
  /** The peer's request or final response headers have arrived: further ones are trailers. */
  hasReceivedHeaders = false;
  /** We have sent END_STREAM. */
  isLocalEnded = false;
  /** The peer has sent END_STREAM. */
  isRemoteEnded = false;

  /** DATA bytes passed on and not yet given back by `consume`. */
  unconsumedBytes = 0;
  /** Bytes of DATA the peer's `content-length` still promises; -1 when it gave none. */
  promisedBytes = -1;
  informational = 0;

  readonly queue = new SendQueue();
  /** END_STREAM follows the queue, or the trailers do. */
  endsAfterQueue = false;
  trailersAfterQueue: HeaderList | undefined;
  /** `sendData` has returned false since the last `onDrain`. */
  isDrainAwaited = false;
  /** In the sender's round; the next stream there. */
  isReady = false;
  nextReady: StreamState | undefined;
  /** For the minimum rate: bytes sent and time at the last check that saw progress. */
  sentBytes = 0;
  markedBytes = 0;
  markedMs = 0;
  /** Client side: where in the output its HEADERS begin. */
  outputPosition = 0;

  readonly #host: StreamHost;

  constructor(
    host: StreamHost,
    id: number,
    sendWindow: number,
    receiveWindow: ReceiveWindow,
    nowMs: number,
  ) {
    this.#host = host;
    this.id = id;
    this.sendWindow = new SendWindow(sendWindow);
    this.receiveWindow = receiveWindow;
    this.openedMs = nowMs;
  }

  /** Nothing more may be sent: ended, about to end, or closed. */
  get isSendOver(): boolean {
    return this.isClosed || this.isLocalEnded || this.endsAfterQueue ||
      this.trailersAfterQueue !== undefined;
  }

  /** Something waits for the window or the socket. */
  get isSendPending(): boolean {
    return this.queue.bytes > 0 || this.trailersAfterQueue !== undefined || this.endsAfterQueue;
  }

  sendHeaders(headers: HeaderList, endStream: boolean): void {
    if (!this.isSendOver) this.#host.sendHeaders(this, headers, endStream);
  }

  sendData(chunks: readonly Uint8Array[], endStream: boolean): boolean {
    return this.isSendOver || this.#host.sendData(this, chunks, endStream);
  }

  reset(code: number): void {
    if (!this.isClosed) this.#host.resetStream(this, code);
  }

  consume(bytes: number): void {
    if (!this.isClosed) this.#host.consume(this, bytes);
  }
}
