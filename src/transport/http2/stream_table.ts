/** The streams of one connection: how they begin, what they may do, and how they end. */

import type { HeaderList, StreamEnd, StreamListener } from "./types.ts";
import { ClosedStreams } from "./closed_streams.ts";
import { ErrorCode } from "./error_codes.ts";
import type { FloodGuard } from "./flood_guard.ts";
import { ReceiveWindow } from "./flow_control.ts";
import { MAX_INT31 } from "./frames.ts";
import { IdTable } from "./id_table.ts";
import type { ResolvedOptions } from "./options.ts";
import type { Sender } from "./sender.ts";
import { DEFAULT_WINDOW_BYTES, type PeerSettings } from "./settings.ts";
import { type StreamHost, StreamState } from "./stream.ts";

/** What a client assumes of a server whose SETTINGS have not arrived yet. */
const ASSUMED_CONCURRENT_STREAMS = 100;

/** What the table needs of its connection. */
export interface StreamTableOwner {
  readonly options: ResolvedOptions;
  readonly isServer: boolean;
  readonly sender: Sender;
  readonly guard: FloodGuard;
  readonly peerSettings: PeerSettings;
  /** When the input being dealt with arrived, on the connection's clock. */
  readonly nowMs: number;
  readonly hasPeerSettings: boolean;
  readonly isSettingsAcked: boolean;
  /** A stream has left the table. */
  onStreamClosed(): void;
}

/** All open streams, and what is remembered of closed ones. */
export class StreamTable implements StreamHost {
  readonly active = new IdTable<StreamState>();
  readonly closed = new ClosedStreams();
  /** Client side: the id of the next stream. */
  nextStreamId = 1;
  /** Server side: the highest id the peer has used. */
  lastPeerStreamId = 0;

  readonly #owner: StreamTableOwner;
  readonly #receiveWindow: ReceiveWindow;

  constructor(owner: StreamTableOwner) {
    this.#owner = owner;
    this.#receiveWindow = new ReceiveWindow(owner.options.connectionWindowBytes);
  }

  // --- beginning

  /** Client side: whether ids and the peer's limit leave room for one more. */
  get hasRoom(): boolean {
    const { peerSettings, hasPeerSettings } = this.#owner;
    const limit = hasPeerSettings
      ? peerSettings.maxConcurrentStreams
      : Math.min(peerSettings.maxConcurrentStreams, ASSUMED_CONCURRENT_STREAMS);
    return this.nextStreamId <= MAX_INT31 && this.active.size < limit;
  }

  /** Grows with every stream that begins, on either side. */
  get usedIds(): number {
    return this.nextStreamId + this.lastPeerStreamId;
  }

  /** Whether a stream with that id has never been used. */
  isIdle(streamId: number): boolean {
    if ((streamId & 1) === 0) return true;
    return this.#owner.isServer ? streamId > this.lastPeerStreamId : streamId >= this.nextStreamId;
  }

  /** Makes a stream, which is not in the table yet. */
  create(id: number): StreamState {
    const { options, isSettingsAcked, peerSettings, nowMs } = this.#owner;
    const size = options.streamWindowBytes;
    // Until our SETTINGS are acknowledged the peer may still go by the default.
    const available = isSettingsAcked ? size : Math.max(size, DEFAULT_WINDOW_BYTES);
    const window = new ReceiveWindow(size, available);
    return new StreamState(this, id, peerSettings.initialWindowBytes, window, nowMs);
  }

  // --- StreamHost: what the layer above does with a stream

  sendHeaders(stream: StreamState, headers: HeaderList, endStream: boolean): void {
    this.#owner.sender.headers(stream, headers, endStream);
  }

  sendData(stream: StreamState, chunks: readonly Uint8Array[], endStream: boolean): boolean {
    const { sender, options } = this.#owner;
    const queuedBefore = sender.queuedBytes;
    const isSent = sender.data(stream, chunks, endStream);
    if (queuedBefore > 0 && sender.queuedBytes > options.limits.maxQueuedBytes) {
      // Later: a listener is never called from within a call of its own.
      queueMicrotask(() =>
        this.fail(stream, ErrorCode.ENHANCE_YOUR_CALM, "too much output is waiting")
      );
    }
    return isSent;
  }

  resetStream(stream: StreamState, code: number): void {
    this.#owner.sender.resetStream(stream.id, code);
    stream.isDrainAwaited = false;
    this.#close(stream, true);
  }

  consume(stream: StreamState, bytes: number): void {
    const taken = Math.min(bytes, stream.unconsumedBytes);
    if (taken <= 0) return;
    stream.unconsumedBytes -= taken;
    this.credit(taken);
    this.creditStream(stream, taken);
  }

  // --- flow control

  /** Takes a DATA frame off the connection's window; false when it does not fit. */
  receive(bytes: number): boolean {
    return this.#receiveWindow.receive(bytes);
  }

  /** Gives received bytes back to the connection's window. */
  credit(bytes: number): void {
    const increment = this.#receiveWindow.release(bytes);
    if (increment > 0) this.#owner.sender.windowUpdate(0, increment);
  }

  /** Gives received bytes back to a stream's window. */
  creditStream(stream: StreamState, bytes: number): void {
    if (stream.isRemoteEnded) return;
    const increment = stream.receiveWindow.release(bytes);
    if (increment > 0) this.#owner.sender.windowUpdate(stream.id, increment);
  }

  /** The peer has changed its initial window. False: a window went over its maximum. */
  adjustSendWindows(change: number): boolean {
    for (const stream of this.active.values()) {
      if (!stream.sendWindow.grow(change)) return false;
      this.#owner.sender.makeReady(stream);
    }
    return true;
  }

  /** The peer now goes by our initial window, where that is below the default. */
  shrinkReceiveWindows(surplus: number): void {
    for (const stream of this.active.values()) stream.receiveWindow.shrink(surplus);
  }

  // --- ending

  /** Our side has ended. */
  localEnded(stream: StreamState): void {
    stream.isLocalEnded = true;
    if (stream.isRemoteEnded) this.complete(stream);
  }

  /** Both sides have ended. */
  complete(stream: StreamState): void {
    if (stream.isClosed) return;
    this.#owner.guard.completed();
    this.#close(stream, false);
  }

  /** Ended early, by the peer or with the connection: tells the listener. */
  end(stream: StreamState, end: StreamEnd, isResetHere: boolean): void {
    if (stream.isClosed) return;
    stream.isDrainAwaited = false;
    this.#close(stream, isResetHere);
    try {
      stream.listener!.onEnd(end);
    } catch (error) {
      this.#owner.options.onError(error);
    }
  }

  /** Ends a stream by RST_STREAM and tells the listener. */
  fail(stream: StreamState, code: number, message: string): void {
    if (stream.isClosed) return;
    this.#owner.sender.resetStream(stream.id, code);
    this.end(stream, { code, cause: "local", unprocessed: false, message }, true);
  }

  /** A callback threw: a defect of the layer above, which costs it the stream. */
  listenerFailed(stream: StreamState, error: unknown): void {
    this.#owner.options.onError(error);
    stream.listener ??= DEAF;
    stream.reset(ErrorCode.INTERNAL_ERROR);
  }

  #close(stream: StreamState, isResetHere: boolean): void {
    stream.isClosed = true;
    this.active.delete(stream.id);
    this.closed.add(stream.id, isResetHere);
    if (stream.isSendPending) this.#owner.sender.discard(stream);
    if (stream.unconsumedBytes > 0) {
      this.credit(stream.unconsumedBytes);
      stream.unconsumedBytes = 0;
    }
    this.#owner.onStreamClosed();
  }
}

/** Hears nothing: for a stream whose owner failed to give a listener. */
const DEAF: StreamListener = {
  onHeaders: () => {},
  onData: () => false,
  onEnd: () => {},
  onDrain: () => {},
};
