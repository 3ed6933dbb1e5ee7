/**
 * One HTTP/2 connection, server or client (RFC 9113). This file is the dispatch: it takes parsed
 * frames, applies the rules of streams and connection, and tells the layer above. Life: `open`, then
 * `closing` (GOAWAY is on its way, nothing is listened to any more), then `closed`. No exception leaves
 * it: a connection error becomes a GOAWAY, an error of the byte stream the end of the connection.
 */

import type {
  ByteStream,
  HeaderList,
  Http2Connection,
  Http2Stream,
  StreamEnd,
  StreamListener,
} from "./types.ts";
import { UnavailableError } from "../../errors.ts";
import { ClosedStreams } from "./closed_streams.ts";
import { ConnectionError, ErrorCode, errorCodeName } from "./error_codes.ts";
import { FloodGuard } from "./flood_guard.ts";
import { ReceiveWindow } from "./flow_control.ts";
import { FrameReader, type FrameSink } from "./frame_reader.ts";
import { CLIENT_PREFACE, Flag, FrameType, MAX_INT31, readUint31, readUint32 } from "./frames.ts";
import { HeaderAssembler } from "./header_assembler.ts";
import { FieldKind, MALFORMED, NO_CONTENT_LENGTH } from "./header_rules.ts";
import { type HeaderBlock, HpackDecoder } from "./hpack_decoder.ts";
import { InputBuffer } from "./input_buffer.ts";
import type { ResolvedOptions } from "./options.ts";
import { Sender, type SenderOwner } from "./sender.ts";
import { DEFAULT_WINDOW_BYTES, PeerSettings, SettingId, settingsFrame } from "./settings.ts";
import { type StreamHost, StreamState } from "./stream.ts";
import { Watchdog, type WatchedConnection } from "./watchdog.ts";

/** Decides about a stream the peer has opened: whom to tell of it. */
export type OnStream = (
  stream: Http2Stream,
  headers: HeaderList,
  endStream: boolean,
) => StreamListener;

/** Frames parsed before other work gets its turn. */
const FRAME_BUDGET = 2048;
/** What a client assumes of a server whose SETTINGS have not arrived yet. */
const ASSUMED_CONCURRENT_STREAMS = 100;
/** Room the padding and priority fields of a HEADERS frame may take. */
const HEADER_FRAME_SLACK = 262;
const DRAIN_PING = Uint8Array.of(0x64, 0x72, 0x61, 0x69, 0x6e, 0, 0, 1);

export class Connection
  implements Http2Connection, FrameSink, StreamHost, SenderOwner, WatchedConnection {
  readonly peer: string;
  readonly closed: Promise<void>;
  readonly options: ResolvedOptions;
  readonly sender: Sender;
  readonly assembler: HeaderAssembler;
  readonly streams = new Map<number, StreamState>();
  hasPeerSettings = false;
  isSettingsAcked = false;
  /** When bytes last arrived, on the connection's clock. */
  lastReadMs: number;

  readonly #stream: ByteStream;
  readonly #onStream: OnStream | undefined;
  readonly #isServer: boolean;
  readonly #guard: FloodGuard;
  readonly #reader: FrameReader;
  readonly #decoder: HpackDecoder;
  readonly #watchdog: Watchdog;
  readonly #input = new InputBuffer();
  readonly #peerSettings = new PeerSettings();
  readonly #receiveWindow: ReceiveWindow;
  readonly #closedStreams = new ClosedStreams();
  #state: "open" | "closing" | "closed" = "open";
  #nowMs: number;
  #prefaceAt = 0;
  #nextStreamId = 1;
  #lastPeerStreamId = 0;
  /** Set by the second GOAWAY of a drain: the peer's streams above it are ignored. */
  #lastAcceptedId = MAX_INT31;
  #drainPhase: "none" | "announced" | "final" = "none";
  /** The lowest last-stream-id the peer's GOAWAYs gave. */
  #peerGoawayId = Infinity;
  /** Stream of the DATA frame being received; undefined: its payload is dropped. */
  #dataStream: StreamState | undefined;
  #isDataEnd = false;
  #closeCode: number = ErrorCode.CANCEL;
  #closeMessage = "connection closed";
  #onOutboxRoom: (() => void) | undefined;

  /** Takes over `stream` at once; `onStream` is given on the server side only. */
  constructor(stream: ByteStream, options: ResolvedOptions, onStream?: OnStream) {
    const { limits, clock } = options;
    this.#stream = stream;
    this.options = options;
    this.peer = options.peer;
    this.#onStream = onStream;
    this.#isServer = onStream !== undefined;
    this.sender = new Sender(stream, this, options.headerTableBytes);
    this.assembler = new HeaderAssembler(limits);
    this.#guard = new FloodGuard(limits);
    this.#decoder = new HpackDecoder(limits.maxHeaderListBytes);
    this.#reader = new FrameReader(this, {
      maxFrameBytes: options.maxFrameBytes,
      maxHeaderFrameBytes: limits.maxHeaderBlockBytes + HEADER_FRAME_SLACK,
      maxSettings: limits.maxSettingsPerFrame,
    });
    this.#receiveWindow = new ReceiveWindow(options.connectionWindowBytes);
    this.#nowMs = this.lastReadMs = clock.now();
    this.#watchdog = new Watchdog(this);
    this.#sendPreface();
    this.closed = this.#run();
  }

  // --- Http2Connection

  get activeStreams(): number {
    return this.streams.size;
  }

  get canOpen(): boolean {
    return !this.#isServer && this.#state === "open" && this.#drainPhase === "none" &&
      this.#peerGoawayId === Infinity && this.#nextStreamId <= MAX_INT31 &&
      this.streams.size < this.#openLimit;
  }

  open(headers: HeaderList, endStream: boolean, listener: StreamListener): Http2Stream {
    if (!this.canOpen) throw new UnavailableError(`No stream can be opened to ${this.peer} now`);
    const stream = this.#newStream(this.#nextStreamId);
    stream.listener = listener;
    stream.outputPosition = this.sender.outbox.queuedBytes;
    // A header list that may not be sent throws here, before anything has changed.
    this.sender.headers(stream, headers, endStream);
    this.streams.set(stream.id, stream);
    this.#nextStreamId += 2;
    return stream;
  }

  drain(): Promise<void> {
    if (this.#state === "open" && this.#drainPhase === "none") {
      this.#drainPhase = "announced";
      if (this.#isServer) {
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

  // --- StreamHost: what the layer above does with a stream

  sendHeaders(stream: StreamState, headers: HeaderList, endStream: boolean): void {
    this.sender.headers(stream, headers, endStream);
  }

  sendData(stream: StreamState, chunks: readonly Uint8Array[], endStream: boolean): boolean {
    const queued = this.sender.queuedBytes;
    const isSent = this.sender.data(stream, chunks, endStream);
    if (!isSent && queued > 0 && this.sender.queuedBytes > this.options.limits.maxQueuedBytes) {
      queueMicrotask(() =>
        this.#failStream(stream, ErrorCode.ENHANCE_YOUR_CALM, "too much output is waiting")
      );
    }
    return isSent;
  }

  resetStream(stream: StreamState, code: number): void {
    this.sender.resetStream(stream.id, code);
    this.#closeStream(stream, true);
  }

  consume(stream: StreamState, bytes: number): void {
    const taken = Math.min(bytes, stream.unconsumedBytes);
    if (taken <= 0) return;
    stream.unconsumedBytes -= taken;
    this.#creditConnection(taken);
    this.#creditStream(stream, taken);
  }

  // --- SenderOwner: what becomes of the output

  onLocalEnd(stream: StreamState): void {
    stream.isLocalEnded = true;
    if (stream.isRemoteEnded) this.#completeStream(stream);
  }

  onDrained(stream: StreamState): void {
    try {
      stream.listener!.onDrain();
    } catch (error) {
      this.#listenerFailed(stream, error);
    }
  }

  onWritten(): void {
    if (this.#onOutboxRoom !== undefined) this.#onOutboxRoom();
  }

  onIdle(): void {
    if (this.#state === "closing") void this.#linger();
  }

  onWriteError(error: unknown): void {
    this.#cut(ErrorCode.CANCEL, `writing to ${this.peer} failed: ${String(error)}`);
  }

  // --- WatchedConnection: what the clock brings about

  /** Ends the connection with GOAWAY. */
  fail(code: number, message: string): void {
    if (this.#state !== "open") return;
    this.#closeCode = code;
    this.#closeMessage = message;
    this.sender.goaway(this.#lastPeerStreamId, code, message.slice(0, 256));
    this.#beginClosing();
  }

  /** Ends one stream with RST_STREAM, on our initiative. */
  failStream(stream: StreamState, code: number, message: string): void {
    this.#failStream(stream, code, message);
  }

  /** The second step of a drain: no further stream of the peer is taken. */
  finishDrain(): void {
    if (this.#drainPhase !== "announced" || this.#state !== "open") return;
    this.#drainPhase = "final";
    this.#lastAcceptedId = this.#lastPeerStreamId;
    this.sender.goaway(this.#lastAcceptedId, ErrorCode.NO_ERROR, "");
    this.#closeIfDrained();
  }

  // --- FrameSink: what the peer sends

  onUnknownFrame(): void {
    this.#expectFrame(-1, 0);
    this.#guard.uselessFrame(this.#nowMs);
  }

  onFrame(
    type: number,
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    this.#expectFrame(type, flags);
    switch (type) {
      case FrameType.HEADERS:
        return this.#onHeadersFrame(flags, streamId, bytes, start, end);
      case FrameType.CONTINUATION:
        return this.#onContinuation(flags, streamId, bytes, start, end);
      case FrameType.WINDOW_UPDATE:
        return this.#onWindowUpdate(streamId, readUint31(bytes, start));
      case FrameType.RST_STREAM:
        return this.#onResetFrame(streamId, readUint32(bytes, start));
      case FrameType.SETTINGS:
        return this.#onSettings(flags, streamId, bytes, start, end);
      case FrameType.PING:
        return this.#onPing(flags, streamId, bytes, start);
      case FrameType.PRIORITY:
        return this.#onPriority(streamId, readUint31(bytes, start));
      case FrameType.GOAWAY:
        return this.#onGoaway(streamId, readUint31(bytes, start), readUint32(bytes, start + 4));
    }
  }

  onDataFrame(streamId: number, length: number, overhead: number, endStream: boolean): void {
    this.#expectFrame(FrameType.DATA, 0);
    if (streamId === 0) throw protocolError("DATA on stream 0");
    if (!this.#receiveWindow.receive(length)) {
      throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded");
    }
    if (length === overhead && !endStream) this.#guard.emptyFrame(this.#nowMs);
    const stream = this.streams.get(streamId);
    this.#dataStream = undefined;
    this.#isDataEnd = endStream;
    if (overhead > 0) this.#creditConnection(overhead);
    if (stream === undefined) return this.#onDataForClosed(streamId);
    if (stream.isRemoteEnded) {
      return this.#peerFault(stream, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM");
    }
    if (!stream.hasReceivedHeaders) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "DATA before HEADERS");
    }
    if (!stream.receiveWindow.receive(length)) {
      return this.#peerFault(stream, ErrorCode.FLOW_CONTROL_ERROR, "stream window exceeded");
    }
    const payload = length - overhead;
    if (stream.promisedBytes >= 0) {
      stream.promisedBytes -= payload;
      if (stream.promisedBytes < 0 || (endStream && stream.promisedBytes > 0)) {
        return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "content-length does not match");
      }
    }
    if (overhead > 0) this.#creditStream(stream, overhead);
    this.#dataStream = stream;
  }

  onDataBytes(bytes: Uint8Array, start: number, end: number, isLast: boolean): boolean {
    const stream = this.#dataStream;
    const endStream = isLast && this.#isDataEnd;
    if (stream === undefined || stream.isClosed) {
      if (end > start) this.#creditConnection(end - start);
      return false;
    }
    if (end === start && !endStream) return false;
    stream.unconsumedBytes += end - start;
    if (endStream) stream.isRemoteEnded = true;
    let isKept = true;
    try {
      isKept = stream.listener!.onData(bytes.subarray(start, end), endStream);
    } catch (error) {
      this.#listenerFailed(stream, error);
    }
    if (endStream && stream.isLocalEnded) this.#completeStream(stream);
    return isKept && end > start;
  }

  // --- frames, one by one

  /** Order of frames: SETTINGS first, and nothing between the parts of a header block. */
  #expectFrame(type: number, flags: number): void {
    if (this.assembler.streamId !== 0 && type !== FrameType.CONTINUATION) {
      throw protocolError("a frame interrupts a header block");
    }
    if (this.hasPeerSettings) return;
    if (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0) {
      throw protocolError("the first frame is not SETTINGS");
    }
  }

  #onHeadersFrame(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    if (streamId === 0) throw protocolError("HEADERS on stream 0");
    let at = start;
    let padding = 0;
    if ((flags & Flag.PADDED) !== 0) {
      if (at >= end) throw frameSizeError("padded HEADERS without a pad length");
      padding = bytes[at++]!;
    }
    let isSelfDependent = false;
    if ((flags & Flag.PRIORITY) !== 0) {
      if (end - at < 5) throw frameSizeError("HEADERS too short for its priority");
      isSelfDependent = readUint31(bytes, at) === streamId;
      at += 5;
    }
    if (padding > end - at) throw protocolError("padding is longer than its frame");
    const blockEnd = end - padding;
    if ((flags & Flag.END_HEADERS) !== 0) {
      if (blockEnd - at > this.options.limits.maxHeaderBlockBytes) {
        throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header block is over the limit");
      }
      return this.#onHeaderBlock(streamId, flags, isSelfDependent, bytes, at, blockEnd);
    }
    if (at === blockEnd) this.#guard.emptyFrame(this.#nowMs);
    this.assembler.begin(streamId, flags, isSelfDependent, this.#nowMs);
    this.assembler.add(bytes, at, blockEnd);
  }

  #onContinuation(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    const assembler = this.assembler;
    if (assembler.streamId === 0 || assembler.streamId !== streamId) {
      throw protocolError("CONTINUATION without its HEADERS");
    }
    if (start === end && (flags & Flag.END_HEADERS) === 0) this.#guard.emptyFrame(this.#nowMs);
    assembler.add(bytes, start, end);
    if ((flags & Flag.END_HEADERS) === 0) return;
    assembler.finish();
    this.#onHeaderBlock(
      streamId,
      assembler.flags,
      assembler.isSelfDependent,
      assembler.bytes,
      0,
      assembler.length,
    );
  }

  #onHeaderBlock(
    streamId: number,
    flags: number,
    isSelfDependent: boolean,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    // Decoded whatever becomes of the stream: the table is the connection's.
    const block = this.#decoder.decode(bytes, start, end);
    const endStream = (flags & Flag.END_STREAM) !== 0;
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.#isServer && this.#isIdle(streamId)) {
        this.#onRequest(streamId, block, endStream, isSelfDependent);
      } else {
        this.#onHeadersForClosed(streamId);
      }
      return;
    }
    if (stream.isRemoteEnded) {
      return this.#peerFault(stream, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM");
    }
    if (isSelfDependent) return this.#selfDependent(streamId, stream);
    if (block.isTooLarge) {
      return this.#peerFault(stream, ErrorCode.ENHANCE_YOUR_CALM, "header list is over the limit");
    }
    if (stream.hasReceivedHeaders) this.#onTrailers(stream, block, endStream);
    else this.#onResponse(stream, block, endStream);
  }

  #onRequest(
    streamId: number,
    block: HeaderBlock,
    endStream: boolean,
    isSelfDependent: boolean,
  ): void {
    if ((streamId & 1) === 0) throw protocolError("a client stream has an even id");
    if (streamId > this.#lastAcceptedId) return;
    this.#lastPeerStreamId = streamId;
    if (this.streams.size >= this.options.limits.maxConcurrentStreams) {
      this.sender.resetStream(streamId, ErrorCode.REFUSED_STREAM);
      this.#closedStreams.add(streamId, true);
      return this.#guard.refusedStream(this.#nowMs);
    }
    if (isSelfDependent) return this.#selfDependent(streamId, undefined);
    const lengthAt = block.isTooLarge ? NO_CONTENT_LENGTH : block.check("request");
    const promised = lengthAt >= 0 ? Number(block.headers[lengthAt]![1]) : -1;
    if (lengthAt === MALFORMED || (endStream && promised > 0)) {
      return this.#peerFaultById(streamId, ErrorCode.PROTOCOL_ERROR);
    }
    if (block.isTooLarge) return this.#peerFaultById(streamId, ErrorCode.ENHANCE_YOUR_CALM);
    const stream = this.#newStream(streamId);
    stream.hasReceivedHeaders = true;
    stream.promisedBytes = promised;
    stream.isRemoteEnded = endStream;
    this.streams.set(streamId, stream);
    try {
      stream.listener = this.#onStream!(stream, block.headers, endStream);
    } catch (error) {
      stream.listener = DEAF;
      this.#listenerFailed(stream, error);
    }
  }

  #onResponse(stream: StreamState, block: HeaderBlock, endStream: boolean): void {
    const lengthAt = block.check("response");
    if (lengthAt === MALFORMED) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "malformed response headers");
    }
    if (block.kindAt(0) === FieldKind.STATUS_INFORMATIONAL) {
      if (endStream || ++stream.informational > this.options.limits.maxInformational) {
        this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "misused informational response");
      }
      return;
    }
    stream.hasReceivedHeaders = true;
    // A content-length without content is how HEAD and 304 answer.
    if (lengthAt >= 0 && !endStream) {
      stream.promisedBytes = Number(block.headers[lengthAt]![1]);
    }
    this.#passHeaders(stream, block.headers, endStream);
  }

  #onTrailers(stream: StreamState, block: HeaderBlock, endStream: boolean): void {
    if (!endStream || block.check("trailers") === MALFORMED) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "malformed trailers");
    }
    if (stream.promisedBytes > 0) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "content-length does not match");
    }
    this.#passHeaders(stream, block.headers, true);
  }

  #passHeaders(stream: StreamState, headers: HeaderList, endStream: boolean): void {
    if (endStream) stream.isRemoteEnded = true;
    try {
      stream.listener!.onHeaders(headers, endStream);
    } catch (error) {
      this.#listenerFailed(stream, error);
    }
    if (endStream && stream.isLocalEnded) this.#completeStream(stream);
  }

  #onWindowUpdate(streamId: number, increment: number): void {
    if (streamId === 0) {
      if (increment === 0) throw protocolError("WINDOW_UPDATE of 0");
      this.#noteWindowUpdate(increment);
      if (!this.sender.window.grow(increment)) {
        throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflow");
      }
      return;
    }
    this.#noteWindowUpdate(increment);
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.#isIdle(streamId)) throw protocolError("WINDOW_UPDATE on an idle stream");
      return;
    }
    if (increment === 0) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0");
    }
    if (!stream.sendWindow.grow(increment)) {
      return this.#peerFault(stream, ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow");
    }
    this.sender.makeReady(stream);
  }

  #noteWindowUpdate(increment: number): void {
    if (increment < this.options.limits.tinyWindowBytes) {
      this.#guard.tinyWindowUpdate(this.#nowMs);
    }
  }

  #onResetFrame(streamId: number, code: number): void {
    if (streamId === 0) throw protocolError("RST_STREAM on stream 0");
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.#isIdle(streamId)) throw protocolError("RST_STREAM on an idle stream");
      return this.#guard.uselessFrame(this.#nowMs);
    }
    if (this.#isServer && this.#nowMs - stream.openedMs < this.options.limits.rapidResetMs) {
      this.#guard.reset(this.#nowMs);
    }
    this.#endStream(stream, {
      code,
      cause: "peer",
      unprocessed: code === ErrorCode.REFUSED_STREAM,
      message: `stream reset by the peer: ${errorCodeName(code)}`,
    }, false);
  }

  #onSettings(
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void {
    if (streamId !== 0) throw protocolError("SETTINGS on a stream");
    if ((flags & Flag.ACK) !== 0) {
      if (end > start) throw frameSizeError("SETTINGS acknowledgement with a payload");
      if (!this.isSettingsAcked) this.#onSettingsAcked();
      return;
    }
    this.#guard.settings(this.#nowMs);
    const settings = this.#peerSettings;
    const window = settings.initialWindowBytes;
    settings.apply(bytes, start, end);
    this.hasPeerSettings = true;
    this.sender.maxFrameBytes = settings.maxFrameBytes;
    this.sender.encoder.setMaxTableBytes(settings.headerTableBytes);
    const change = settings.initialWindowBytes - window;
    if (change !== 0) this.#adjustSendWindows(change);
    this.sender.settingsAck();
    this.options.onAvailabilityChange();
  }

  #adjustSendWindows(change: number): void {
    for (const stream of this.streams.values()) {
      if (!stream.sendWindow.grow(change)) {
        throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow");
      }
      this.sender.makeReady(stream);
    }
  }

  #onSettingsAcked(): void {
    this.isSettingsAcked = true;
    this.#decoder.setMaxTableBytes(this.options.headerTableBytes);
    const surplus = DEFAULT_WINDOW_BYTES - this.options.streamWindowBytes;
    if (surplus <= 0) return;
    for (const stream of this.streams.values()) stream.receiveWindow.shrink(surplus);
  }

  #onPing(flags: number, streamId: number, bytes: Uint8Array, start: number): void {
    if (streamId !== 0) throw protocolError("PING on a stream");
    if ((flags & Flag.ACK) !== 0) {
      if (DRAIN_PING.every((byte, i) => bytes[start + i] === byte)) this.finishDrain();
      return;
    }
    this.#guard.ping(this.#nowMs, this.sender.hasSentWork);
    this.sender.hasSentWork = false;
    this.sender.ping(bytes, start, true);
  }

  #onPriority(streamId: number, dependency: number): void {
    if (streamId === 0) throw protocolError("PRIORITY on stream 0");
    this.#guard.uselessFrame(this.#nowMs);
    // Priorities are ignored (RFC 9113 section 5.3.2) but for the one error RFC 7540 gives them.
    if (dependency === streamId) this.#selfDependent(streamId, this.streams.get(streamId));
  }

  #onGoaway(streamId: number, lastStreamId: number, code: number): void {
    if (streamId !== 0) throw protocolError("GOAWAY on a stream");
    this.#guard.uselessFrame(this.#nowMs);
    if (this.#isServer) {
      this.#peerGoawayId = 0;
    } else {
      this.#peerGoawayId = Math.min(this.#peerGoawayId, lastStreamId);
      for (const stream of [...this.streams.values()]) {
        if (stream.id <= lastStreamId) continue;
        this.#endStream(stream, {
          code: code === ErrorCode.NO_ERROR ? ErrorCode.REFUSED_STREAM : code,
          cause: "connection",
          unprocessed: true,
          message: `the peer is going away: ${errorCodeName(code)}`,
        }, true);
      }
      this.options.onAvailabilityChange();
    }
    this.#closeIfDrained();
  }

  // --- frames for streams that are no more, and faults

  #isIdle(streamId: number): boolean {
    if (this.#isServer) return (streamId & 1) === 0 || streamId > this.#lastPeerStreamId;
    return (streamId & 1) === 0 || streamId >= this.#nextStreamId;
  }

  #onDataForClosed(streamId: number): void {
    if (this.#isIdle(streamId) && streamId <= this.#lastAcceptedId) {
      throw protocolError("DATA on an idle stream");
    }
    this.#guard.uselessFrame(this.#nowMs);
    if (streamId > this.#lastAcceptedId || this.#closedStreams.wasResetHere(streamId)) return;
    this.sender.resetStream(streamId, ErrorCode.STREAM_CLOSED);
    this.#closedStreams.add(streamId, true);
  }

  #onHeadersForClosed(streamId: number): void {
    if (this.#isIdle(streamId)) throw protocolError("HEADERS on an idle stream");
    this.#guard.uselessFrame(this.#nowMs);
    if (this.#closedStreams.wasResetHere(streamId)) return;
    if (this.#closedStreams.has(streamId)) {
      throw new ConnectionError(ErrorCode.STREAM_CLOSED, "HEADERS on a closed stream");
    }
    throw protocolError("stream ids must increase");
  }

  #selfDependent(streamId: number, stream: StreamState | undefined): void {
    if (stream === undefined) this.#peerFaultById(streamId, ErrorCode.PROTOCOL_ERROR);
    else this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself");
  }

  /** The peer broke a rule on a stream that exists. */
  #peerFault(stream: StreamState, code: number, message: string): void {
    this.#failStream(stream, code, message);
    if (this.#isServer) this.#guard.reset(this.#nowMs);
  }

  /** The peer broke a rule on a stream that does not exist (yet, or any more). */
  #peerFaultById(streamId: number, code: number): void {
    this.sender.resetStream(streamId, code);
    this.#closedStreams.add(streamId, true);
    if (this.#isServer) this.#guard.reset(this.#nowMs);
  }

  #failStream(stream: StreamState, code: number, message: string): void {
    if (stream.isClosed) return;
    this.sender.resetStream(stream.id, code);
    this.#endStream(stream, { code, cause: "local", unprocessed: false, message }, true);
  }

  #listenerFailed(stream: StreamState, error: unknown): void {
    this.options.onError(error);
    if (!stream.isClosed) this.resetStream(stream, ErrorCode.INTERNAL_ERROR);
  }

  // --- the life of streams

  get #openLimit(): number {
    const { maxConcurrentStreams } = this.#peerSettings;
    return this.hasPeerSettings
      ? maxConcurrentStreams
      : Math.min(maxConcurrentStreams, ASSUMED_CONCURRENT_STREAMS);
  }

  #newStream(id: number): StreamState {
    const size = this.options.streamWindowBytes;
    // Until our SETTINGS are acknowledged the peer may still go by the default.
    const available = this.isSettingsAcked ? size : Math.max(size, DEFAULT_WINDOW_BYTES);
    const window = new ReceiveWindow(size, available);
    return new StreamState(this, id, this.#peerSettings.initialWindowBytes, window, this.#nowMs);
  }

  /** Both sides have ended. */
  #completeStream(stream: StreamState): void {
    if (stream.isClosed) return;
    this.#guard.completed();
    this.#closeStream(stream, false);
  }

  /** Ended early: tells the listener. */
  #endStream(stream: StreamState, end: StreamEnd, isResetHere: boolean): void {
    this.#closeStream(stream, isResetHere);
    this.#tellEnd(stream, end);
  }

  #tellEnd(stream: StreamState, end: StreamEnd): void {
    try {
      stream.listener!.onEnd(end);
    } catch (error) {
      this.options.onError(error);
    }
  }

  #closeStream(stream: StreamState, isResetHere: boolean): void {
    stream.isClosed = true;
    this.streams.delete(stream.id);
    this.#closedStreams.add(stream.id, isResetHere);
    if (stream.isSendPending) this.sender.discard(stream);
    if (stream.unconsumedBytes > 0) {
      this.#creditConnection(stream.unconsumedBytes);
      stream.unconsumedBytes = 0;
    }
    if (this.streams.size === 0) this.#watchdog.becameIdle(this.#nowMs);
    this.#closeIfDrained();
    this.options.onAvailabilityChange();
  }

  #creditConnection(bytes: number): void {
    const increment = this.#receiveWindow.release(bytes);
    if (increment > 0) this.sender.windowUpdate(0, increment);
  }

  #creditStream(stream: StreamState, bytes: number): void {
    if (stream.isRemoteEnded) return;
    const increment = stream.receiveWindow.release(bytes);
    if (increment > 0) this.sender.windowUpdate(stream.id, increment);
  }

  // --- the life of the connection

  #sendPreface(): void {
    const { options } = this;
    const settings: [number, number][] = [
      [SettingId.INITIAL_WINDOW_SIZE, options.streamWindowBytes],
      [SettingId.MAX_FRAME_SIZE, options.maxFrameBytes],
      [SettingId.MAX_HEADER_LIST_SIZE, options.limits.maxHeaderListBytes],
      [SettingId.HEADER_TABLE_SIZE, options.headerTableBytes],
      this.#isServer
        ? [SettingId.MAX_CONCURRENT_STREAMS, options.limits.maxConcurrentStreams]
        : [SettingId.ENABLE_PUSH, 0],
    ];
    if (!this.#isServer) this.sender.raw(CLIENT_PREFACE);
    this.sender.raw(settingsFrame(settings));
    const extra = options.connectionWindowBytes - DEFAULT_WINDOW_BYTES;
    if (extra > 0) this.sender.windowUpdate(0, extra);
  }

  async #run(): Promise<void> {
    try {
      while (await this.#readOnce());
      this.#cut(ErrorCode.CANCEL, `${this.peer} closed the connection`);
    } catch (error) {
      this.#cut(ErrorCode.CANCEL, `reading from ${this.peer} failed: ${String(error)}`);
    }
    await this.sender.outbox.settled;
  }

  /** Reads once and deals with what came. False: the stream has ended. */
  async #readOnce(): Promise<boolean> {
    const input = this.#input;
    if (this.#state === "closing") input.start = input.end;
    const count = await this.#stream.read(input.room(this.#reader.maxPendingBytes));
    if (count === null) return false;
    this.#nowMs = this.lastReadMs = this.options.clock.now();
    if (this.#state !== "open") return this.#state === "closing";
    input.filled(count);
    for (;;) {
      this.#process();
      if (this.#state !== "open" || !this.#reader.isBudgetSpent) break;
      await macrotask();
      this.#nowMs = this.options.clock.now();
    }
    if (this.sender.outbox.used > this.options.limits.maxOutboxBytes) await this.#outboxRoom();
    return true;
  }

  /** Parses what is in the buffer; all that it makes us send goes out in one write. */
  #process(): void {
    const input = this.#input;
    this.sender.isCorked = true;
    try {
      if (this.#isServer && this.#prefaceAt < CLIENT_PREFACE.length) this.#matchPreface();
      input.start = this.#reader.parse(input.bytes, input.start, input.end, FRAME_BUDGET);
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
    if (this.#state !== "open" || this.streams.size > 0) return;
    if (this.#drainPhase === "final") this.#beginClosing();
    else if (this.#peerGoawayId !== Infinity && this.#drainPhase === "none") {
      this.sender.goaway(this.#lastPeerStreamId, ErrorCode.NO_ERROR, "");
      this.#beginClosing();
    }
  }

  /** GOAWAY has been put into the output: once that has left, so do we. */
  #beginClosing(): void {
    this.#state = "closing";
    this.#watchdog.closingStarted(this.options.clock.now());
    this.#endAllStreams();
    this.sender.outbox.schedule();
  }

  /**
   * Closing a socket with unread input makes the kernel send a reset, which can overtake our GOAWAY.
   * So our side is ended first, and the peer given a moment to end its own.
   */
  async #linger(): Promise<void> {
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
    this.#watchdog.stop();
    try {
      this.#stream.close();
    } catch {
      // Closed before, by the peer's error or our own.
    }
    this.#onOutboxRoom?.();
    queueMicrotask(() => this.#endAllStreams());
  }

  /** Gives up a connection that takes too long to close. */
  abandon(): void {
    this.#cut(this.#closeCode, this.#closeMessage);
  }

  #endAllStreams(): void {
    const outbox = this.sender.outbox;
    for (const stream of [...this.streams.values()]) {
      this.#endStream(stream, {
        code: this.#closeCode,
        cause: "connection",
        unprocessed: !this.#isServer &&
          (stream.id > this.#peerGoawayId || stream.outputPosition >= outbox.startedBytes),
        message: this.#closeMessage,
      }, true);
    }
    this.options.onAvailabilityChange();
  }
}

/** Hears nothing: for a stream whose owner failed to give a listener. */
const DEAF: StreamListener = {
  onHeaders: () => {},
  onData: () => false,
  onEnd: () => {},
  onDrain: () => {},
};

function protocolError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
}

function frameSizeError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, message);
}

/** Lets timers and other connections have their turn. */
function macrotask(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
