/**
 * One HTTP/2 connection, server or client (RFC 9113): reads, hands what arrives to the frame handler,
 * and decides when it is over. Life: `open`, then `closing` (GOAWAY is on its way, nothing is listened
 * to any more), then `closed`. No exception leaves it: a connection error becomes a GOAWAY, an error of
 * the byte stream the end of the connection.
 */

import type {
  ByteStream,
  HeaderList,
  Http2Stream,
  ServedConnection,
  StreamListener,
} from "./types.ts";
import { messageOf, UnavailableError } from "../../errors.ts";
import { ConnectionError, ErrorCode, errorCodeName } from "./error_codes.ts";
import { FloodGuard } from "./flood_guard.ts";
import {
  DRAIN_PING,
  FrameHandler,
  type FrameHandlerOwner,
  type OnStream,
} from "./frame_handler.ts";
import { FrameReader } from "./frame_reader.ts";
import { CLIENT_PREFACE, MAX_INT31 } from "./frames.ts";
import { InputBuffer } from "./input_buffer.ts";
import type { ResolvedOptions } from "./options.ts";
import { Sender, type SenderOwner } from "./sender.ts";
import { DEFAULT_WINDOW_BYTES, PeerSettings, SettingId, settingsFrame } from "./settings.ts";
import type { StreamState } from "./stream.ts";
import { StreamTable, type StreamTableOwner } from "./stream_table.ts";
import { CLOSE_MS, Watchdog, type WatchedConnection } from "./watchdog.ts";

/** Frames parsed before other work gets its turn. */
const FRAME_BUDGET = 2048;
/** Room the padding and priority fields of a HEADERS frame may take. */
const HEADER_FRAME_SLACK = 262;

/** A connection. The members beyond `ServedConnection` are for the other files of this folder. */
export class Connection
  implements ServedConnection, FrameHandlerOwner, StreamTableOwner, SenderOwner, WatchedConnection {
  readonly peer: string;
  readonly closed: Promise<void>;
  readonly released: Promise<void>;
  readonly options: ResolvedOptions;
  readonly isServer: boolean;
  readonly onStream: OnStream | undefined;
  readonly sender: Sender;
  readonly guard: FloodGuard;
  readonly peerSettings = new PeerSettings();
  readonly streams: StreamTable;
  readonly handler: FrameHandler;
  /** When the input being dealt with arrived, on the connection's clock. */
  nowMs: number;
  /** When bytes last arrived. */
  lastReadMs: number;
  /** When the incomplete frame in the input buffer began; -1: there is none. */
  partialSinceMs = -1;

  readonly #stream: ByteStream;
  readonly #reader: FrameReader;
  readonly #watchdog: Watchdog;
  readonly #input = new InputBuffer();
  #state: "open" | "closing" | "closed" = "open";
  #prefaceAt = 0;
  #drainPhase: "none" | "announced" | "final" = "none";
  /** The lowest last-stream-id the peer's GOAWAYs gave. */
  #peerGoawayId = Infinity;
  #closeCode: number = ErrorCode.CANCEL;
  #closeMessage = "connection closed";
  #onOutboxRoom: (() => void) | undefined;
  #isLingering = false;
  #resolveClosed: () => void;

  /** Takes over `stream` at once; `onStream` is given on the server side only. */
  constructor(stream: ByteStream, options: ResolvedOptions, onStream?: OnStream) {
    const { limits, clock } = options;
    this.#stream = stream;
    this.options = options;
    this.peer = options.peer;
    this.onStream = onStream;
    this.isServer = onStream !== undefined;
    this.nowMs = this.lastReadMs = clock.now();
    this.sender = new Sender(stream, this, options.headerTableBytes);
    this.guard = new FloodGuard(limits);
    this.streams = new StreamTable(this);
    this.handler = new FrameHandler(this);
    this.#reader = new FrameReader(this.handler, {
      maxFrameBytes: options.maxFrameBytes,
      maxHeaderFrameBytes: limits.maxHeaderBlockBytes + HEADER_FRAME_SLACK,
      maxSettings: limits.maxSettingsPerFrame,
    });
    this.#watchdog = new Watchdog(this);
    this.#sendPreface();
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    this.#resolveClosed = closed.resolve;
    this.released = this.#run();
  }

  // --- ServedConnection

  get activeStreams(): number {
    return this.streams.active.size;
  }

  get canOpen(): boolean {
    return !this.isServer && this.#state === "open" && this.#drainPhase === "none" &&
      this.#peerGoawayId === Infinity && this.streams.hasRoom;
  }

  open(headers: HeaderList, endStream: boolean, listener: StreamListener): Http2Stream {
    if (!this.canOpen) throw new UnavailableError(`No stream can be opened to ${this.peer} now`);
    const { streams, sender } = this;
    const stream = streams.create(streams.nextStreamId);
    stream.listener = listener;
    stream.outputPosition = sender.outbox.queuedBytes;
    // A header list that may not be sent throws here, before anything has changed.
    sender.headers(stream, headers, endStream);
    streams.active.set(stream.id, stream);
    streams.nextStreamId += 2;
    return stream;
  }

  drain(): Promise<void> {
    if (this.#state === "open" && this.#drainPhase === "none") {
      this.#drainPhase = "announced";
      if (this.isServer) {
        // Two steps (RFC 9113 section 6.8): what is already on its way is still served.
        this.sender.goaway(MAX_INT31, ErrorCode.NO_ERROR, "");
        this.sender.ping(DRAIN_PING, 0, false);
        this.#watchdog.drainStarted(this.options.clock.now());
      } else {
        this.sender.goaway(0, ErrorCode.NO_ERROR, "");
        this.#drainPhase = "final";
        this.#closeIfDrained();
      }
    }
    return this.closed;
  }

  destroy(reason = "connection destroyed"): void {
    this.#cut(ErrorCode.CANCEL, reason);
  }

  // --- what the parts tell

  get hasPeerSettings(): boolean {
    return this.handler.hasPeerSettings;
  }

  get isSettingsAcked(): boolean {
    return this.handler.isSettingsAcked;
  }

  onStreamClosed(): void {
    this.#closeIfDrained();
    this.options.onAvailabilityChange();
  }

  onLocalEnd(stream: StreamState): void {
    this.streams.localEnded(stream);
  }

  onDrained(stream: StreamState): void {
    try {
      stream.listener!.onDrain();
    } catch (error) {
      this.streams.listenerFailed(stream, error);
    }
  }

  onWritten(): void {
    this.#onOutboxRoom?.();
  }

  onIdle(): void {
    if (this.#state === "closing") void this.#linger();
  }

  onWriteError(error: unknown): void {
    this.#cut(ErrorCode.CANCEL, `writing to ${this.peer} failed: ${messageOf(error)}`);
  }

  onDrainPing(): void {
    this.finishDrain();
  }

  onGoaway(lastStreamId: number, code: number): void {
    if (this.isServer) {
      // We open no streams: it only means that the client will not either.
      this.#peerGoawayId = 0;
      return this.#closeIfDrained();
    }
    this.#peerGoawayId = Math.min(this.#peerGoawayId, lastStreamId);
    for (const stream of this.streams.active.values()) {
      if (stream.id <= lastStreamId) continue;
      this.streams.end(stream, {
        code: code === ErrorCode.NO_ERROR ? ErrorCode.REFUSED_STREAM : code,
        cause: "connection",
        unprocessed: true,
        message: `the peer is going away: ${errorCodeName(code)}`,
      }, true);
    }
    this.options.onAvailabilityChange();
    this.#closeIfDrained();
  }

  // --- what the clock brings about

  /** Ends the connection with GOAWAY. */
  fail(code: number, message: string): void {
    if (this.#state !== "open") return;
    this.#closeCode = code;
    this.#closeMessage = message;
    this.sender.goaway(this.streams.lastPeerStreamId, code, message.slice(0, 256));
    this.#beginClosing();
  }

  /** The second step of a drain: no further stream of the peer is taken. */
  finishDrain(): void {
    if (this.#drainPhase !== "announced" || this.#state !== "open") return;
    this.#drainPhase = "final";
    this.handler.lastAcceptedId = this.streams.lastPeerStreamId;
    this.sender.goaway(this.handler.lastAcceptedId, ErrorCode.NO_ERROR, "");
    this.#closeIfDrained();
  }

  /** Gives up a connection that does not move, or takes too long to close. */
  abandon(message: string): void {
    this.#cut(ErrorCode.CANCEL, message);
  }

  // --- reading

  #sendPreface(): void {
    const { options } = this;
    const settings: [number, number][] = [
      [SettingId.INITIAL_WINDOW_SIZE, options.streamWindowBytes],
      [SettingId.MAX_FRAME_SIZE, options.maxFrameBytes],
      [SettingId.MAX_HEADER_LIST_SIZE, options.limits.maxHeaderListBytes],
      [SettingId.HEADER_TABLE_SIZE, options.headerTableBytes],
      this.isServer
        ? [SettingId.MAX_CONCURRENT_STREAMS, options.limits.maxConcurrentStreams]
        : [SettingId.ENABLE_PUSH, 0],
    ];
    if (!this.isServer) this.sender.raw(CLIENT_PREFACE);
    this.sender.raw(settingsFrame(settings));
    const extra = options.connectionWindowBytes - DEFAULT_WINDOW_BYTES;
    if (extra > 0) this.sender.windowUpdate(0, extra);
  }

  async #run(): Promise<void> {
    try {
      while (await this.#readOnce());
      this.#cut(ErrorCode.CANCEL, `${this.peer} closed the connection`);
    } catch (error) {
      this.#cut(ErrorCode.CANCEL, `reading from ${this.peer} failed: ${messageOf(error)}`);
    }
    await this.sender.outbox.settled;
    this.#resolveClosed();
  }

  /** Reads once and deals with what came. False: the stream has ended. */
  async #readOnce(): Promise<boolean> {
    const input = this.#input;
    if (this.#state === "closing") input.start = input.end;
    const count = await this.#stream.read(input.room());
    if (count === null) return false;
    this.nowMs = this.lastReadMs = this.options.clock.now();
    if (this.#state !== "open") return this.#state === "closing";
    input.filled(count);
    for (;;) {
      this.#process();
      if (this.#state !== "open" || !this.#reader.isBudgetSpent) break;
      await macrotask();
      this.nowMs = this.options.clock.now();
    }
    if (this.sender.outbox.used > this.options.limits.maxOutboxBytes) await this.#outboxRoom();
    return true;
  }

  /** Parses what is in the buffer; all that it makes us send goes out in one write. */
  #process(): void {
    const input = this.#input;
    this.sender.isCorked = true;
    try {
      if (this.isServer && this.#prefaceAt < CLIENT_PREFACE.length) this.#matchPreface();
      const start = input.start;
      input.start = this.#reader.parse(input.bytes, start, input.end, FRAME_BUDGET);
      if (input.start === input.end) this.partialSinceMs = -1;
      else if (input.start > start || this.partialSinceMs < 0) this.partialSinceMs = this.nowMs;
      if (this.#reader.isBufferKept) {
        input.isKept = true;
        this.#reader.isBufferKept = false;
      }
    } catch (error) {
      if (error instanceof ConnectionError) {
        this.fail(error.code, error.message);
      } else {
        this.options.onError(error);
        this.fail(ErrorCode.INTERNAL_ERROR, "internal error");
      }
    }
    this.sender.isCorked = false;
    if (this.#state !== "closed") this.sender.outbox.flush();
  }

  #matchPreface(): void {
    const input = this.#input;
    while (input.start < input.end && this.#prefaceAt < CLIENT_PREFACE.length) {
      if (input.bytes[input.start++] !== CLIENT_PREFACE[this.#prefaceAt++]) {
        throw protocolError("not an HTTP/2 connection preface");
      }
    }
  }

  /** The peer does not read what it makes us send: nothing more is read from it until it does. */
  #outboxRoom(): Promise<void> {
    return new Promise((resolve) => {
      this.#onOutboxRoom = () => {
        if (
          this.#state === "open" &&
          this.sender.outbox.used > this.options.limits.maxOutboxBytes
        ) return;
        this.#onOutboxRoom = undefined;
        resolve();
      };
    });
  }

  #closeIfDrained(): void {
    if (this.#state !== "open" || this.streams.active.size > 0) return;
    if (this.#drainPhase === "final") this.#beginClosing();
    else if (this.#peerGoawayId !== Infinity && this.#drainPhase === "none") {
      this.sender.goaway(this.streams.lastPeerStreamId, ErrorCode.NO_ERROR, "");
      this.#beginClosing();
    }
  }

  /** GOAWAY has been put into the output: once that has left, so do we. */
  #beginClosing(): void {
    this.#state = "closing";
    this.#reader.stop();
    this.#watchdog.closingStarted(this.options.clock.now());
    this.#endAllStreams();
    this.sender.outbox.schedule();
  }

  /**
   * Closing a socket with unread input makes the kernel send a reset, which can overtake our GOAWAY.
   * So our side is ended first, and the peer given a moment to end its own.
   */
  async #linger(): Promise<void> {
    if (this.#isLingering) return;
    this.#isLingering = true;
    try {
      if (this.#stream.closeWrite !== undefined) return await this.#stream.closeWrite();
    } catch {
      // The peer is gone already; there is nobody left to be polite to.
    }
    this.#cut(this.#closeCode, this.#closeMessage);
  }

  /** Closes the byte stream, whatever is under way. */
  #cut(code: number, message: string): void {
    if (this.#state === "closed") return;
    if (this.#state === "open") {
      this.#closeCode = code;
      this.#closeMessage = message;
    }
    this.#state = "closed";
    this.#reader.stop();
    this.#watchdog.stop();
    try {
      this.#stream.close();
    } catch {
      // Closed before, by the peer's error or our own.
    }
    this.#onOutboxRoom?.();
    queueMicrotask(() => this.#endAllStreams());
    this.#resolveClosedSoon();
  }

  /**
   * A read or write under way holds on to a socket until the peer acts (see `SocketStream`). Nobody is
   * kept waiting for a peer that never does.
   */
  #resolveClosedSoon(): void {
    const cancel = this.options.clock.every(CLOSE_MS, this.#resolveClosed);
    void this.closed.then(cancel);
  }

  #endAllStreams(): void {
    const outbox = this.sender.outbox;
    for (const stream of this.streams.active.values()) {
      this.streams.end(stream, {
        code: this.#closeCode,
        cause: "connection",
        unprocessed: !this.isServer &&
          (stream.id > this.#peerGoawayId || stream.outputPosition >= outbox.startedBytes),
        message: this.#closeMessage,
      }, true);
    }
    this.options.onAvailabilityChange();
  }
}

function protocolError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
}

/** Lets timers and other connections have their turn. */
function macrotask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
