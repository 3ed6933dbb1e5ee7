/**
 * What each frame of the peer means (RFC 9113 sections 5 and 6): the rules of streams and connection,
 * and what the layer above is told. Errors of a stream end it here; errors of the connection are thrown
 * as `ConnectionError`.
 */

import type { HeaderList, Http2Stream, StreamListener } from "./types.ts";
import { ConnectionError, ErrorCode, errorCodeName } from "./error_codes.ts";
import type { FloodGuard } from "./flood_guard.ts";
import type { FrameSink } from "./frame_reader.ts";
import { Flag, FrameType, MAX_INT31, readUint31, readUint32 } from "./frames.ts";
import { HeaderAssembler } from "./header_assembler.ts";
import { FieldKind, MALFORMED, NO_CONTENT_LENGTH } from "./header_rules.ts";
import { type HeaderBlock, HpackDecoder } from "./hpack_decoder.ts";
import type { ResolvedOptions } from "./options.ts";
import type { Sender } from "./sender.ts";
import { DEFAULT_WINDOW_BYTES, type PeerSettings } from "./settings.ts";
import type { StreamState } from "./stream.ts";
import type { StreamTable } from "./stream_table.ts";

/**
 * Decides about a stream the peer has opened: whom to tell of it. `connection` is the same object for
 * every stream of a connection; `peer` its remote address.
 */
export type OnStream = (
  stream: Http2Stream,
  headers: HeaderList,
  endStream: boolean,
  connection: { readonly peer: string },
) => StreamListener;

/** What the handler needs of its connection. */
export interface FrameHandlerOwner {
  readonly peer: string;
  readonly options: ResolvedOptions;
  readonly isServer: boolean;
  readonly sender: Sender;
  readonly guard: FloodGuard;
  readonly streams: StreamTable;
  readonly peerSettings: PeerSettings;
  readonly onStream: OnStream | undefined;
  readonly nowMs: number;
  /** The peer has answered the PING between the two steps of a drain. */
  onDrainPing(): void;
  /** `lastStreamId`: the peer deals with no stream of ours above it. */
  onGoaway(lastStreamId: number, code: number): void;
}

/** Opaque data of the PING between the two steps of a drain. */
export const DRAIN_PING: Uint8Array = Uint8Array.of(0x64, 0x72, 0x61, 0x69, 0x6e, 0, 0, 1);

/** Deals with the frames of one connection. */
export class FrameHandler implements FrameSink {
  readonly assembler: HeaderAssembler;
  hasPeerSettings = false;
  isSettingsAcked = false;
  /** Streams of the peer above it are ignored: the second GOAWAY of a drain named it. */
  lastAcceptedId = MAX_INT31;

  readonly #owner: FrameHandlerOwner;
  readonly #options: ResolvedOptions;
  readonly #sender: Sender;
  readonly #guard: FloodGuard;
  readonly #streams: StreamTable;
  readonly #decoder: HpackDecoder;
  /** Stream of the DATA frame being received; undefined: its payload is dropped. */
  #dataStream: StreamState | undefined;
  #isDataEnd = false;

  constructor(owner: FrameHandlerOwner) {
    this.#owner = owner;
    this.#options = owner.options;
    this.#sender = owner.sender;
    this.#guard = owner.guard;
    this.#streams = owner.streams;
    this.assembler = new HeaderAssembler(owner.options.limits);
    this.#decoder = new HpackDecoder(owner.options.limits.maxHeaderListBytes);
  }

  onUnknownFrame(): void {
    this.#expectFrame(-1, 0);
    this.#guard.uselessFrame(this.#owner.nowMs);
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
    if (!this.#streams.receive(length)) {
      throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded");
    }
    if (length === overhead && !endStream) this.#guard.emptyFrame(this.#owner.nowMs);
    const stream = this.#streams.active.get(streamId);
    this.#dataStream = undefined;
    this.#isDataEnd = endStream;
    if (overhead > 0) this.#streams.credit(overhead);
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
    if (overhead > 0) this.#streams.creditStream(stream, overhead);
    this.#dataStream = stream;
  }

  onDataBytes(bytes: Uint8Array, start: number, end: number, isLast: boolean): boolean {
    const stream = this.#dataStream;
    const endStream = isLast && this.#isDataEnd;
    if (stream === undefined || stream.isClosed) {
      if (end > start) this.#streams.credit(end - start);
      return false;
    }
    if (end === start && !endStream) return false;
    stream.unconsumedBytes += end - start;
    if (endStream) stream.isRemoteEnded = true;
    let isKept = true;
    try {
      isKept = stream.listener!.onData(bytes.subarray(start, end), endStream);
    } catch (error) {
      this.#streams.listenerFailed(stream, error);
    }
    if (endStream && stream.isLocalEnded) this.#streams.complete(stream);
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
      if (blockEnd - at > this.#options.limits.maxHeaderBlockBytes) {
        throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header block is over the limit");
      }
      return this.#onHeaderBlock(streamId, flags, isSelfDependent, bytes, at, blockEnd);
    }
    if (at === blockEnd) this.#guard.emptyFrame(this.#owner.nowMs);
    this.assembler.begin(streamId, flags, isSelfDependent, this.#owner.nowMs);
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
    if (start === end && (flags & Flag.END_HEADERS) === 0) {
      this.#guard.emptyFrame(this.#owner.nowMs);
    }
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
    const stream = this.#streams.active.get(streamId);
    if (stream === undefined) {
      if (this.#owner.isServer && this.#streams.isIdle(streamId)) {
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
    if (streamId > this.lastAcceptedId) return;
    this.#streams.lastPeerStreamId = streamId;
    if (this.#streams.active.size >= this.#options.limits.maxConcurrentStreams) {
      this.#sender.resetStream(streamId, ErrorCode.REFUSED_STREAM);
      this.#streams.closed.add(streamId, true);
      return this.#guard.refusedStream(this.#owner.nowMs);
    }
    if (isSelfDependent) return this.#selfDependent(streamId, undefined);
    const lengthAt = block.isTooLarge ? NO_CONTENT_LENGTH : block.check("request");
    const promised = lengthAt >= 0 ? Number(block.headers[lengthAt]![1]) : -1;
    if (lengthAt === MALFORMED || (endStream && promised > 0)) {
      return this.#peerFaultById(streamId, ErrorCode.PROTOCOL_ERROR);
    }
    if (block.isTooLarge) return this.#peerFaultById(streamId, ErrorCode.ENHANCE_YOUR_CALM);
    const stream = this.#streams.create(streamId);
    stream.hasReceivedHeaders = true;
    stream.promisedBytes = promised;
    stream.isRemoteEnded = endStream;
    this.#streams.active.set(streamId, stream);
    try {
      stream.listener = this.#owner.onStream!(stream, block.headers, endStream, this.#owner);
    } catch (error) {
      this.#streams.listenerFailed(stream, error);
    }
  }

  #onResponse(stream: StreamState, block: HeaderBlock, endStream: boolean): void {
    const lengthAt = block.check("response");
    if (lengthAt === MALFORMED) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "malformed response headers");
    }
    if (block.kindAt(0) === FieldKind.STATUS_INFORMATIONAL) {
      if (endStream || ++stream.informational > this.#options.limits.maxInformational) {
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
      this.#streams.listenerFailed(stream, error);
    }
    if (endStream && stream.isLocalEnded) this.#streams.complete(stream);
  }

  #onWindowUpdate(streamId: number, increment: number): void {
    if (streamId === 0) {
      if (increment === 0) throw protocolError("WINDOW_UPDATE of 0");
      this.#noteWindowUpdate(increment);
      if (!this.#sender.window.grow(increment)) {
        throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflow");
      }
      return;
    }
    this.#noteWindowUpdate(increment);
    const stream = this.#streams.active.get(streamId);
    if (stream === undefined) {
      if (this.#isWronglyIdle(streamId)) throw protocolError("WINDOW_UPDATE on an idle stream");
      return;
    }
    if (increment === 0) {
      return this.#peerFault(stream, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of 0");
    }
    if (!stream.sendWindow.grow(increment)) {
      return this.#peerFault(stream, ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow");
    }
    this.#sender.makeReady(stream);
  }

  #noteWindowUpdate(increment: number): void {
    if (increment < this.#options.limits.tinyWindowBytes) {
      this.#guard.tinyWindowUpdate(this.#owner.nowMs);
    }
  }

  #onResetFrame(streamId: number, code: number): void {
    if (streamId === 0) throw protocolError("RST_STREAM on stream 0");
    const stream = this.#streams.active.get(streamId);
    if (stream === undefined) {
      if (this.#isWronglyIdle(streamId)) throw protocolError("RST_STREAM on an idle stream");
      return this.#guard.uselessFrame(this.#owner.nowMs);
    }
    if (
      this.#owner.isServer &&
      this.#owner.nowMs - stream.openedMs < this.#options.limits.rapidResetMs
    ) {
      this.#guard.reset(this.#owner.nowMs);
    }
    this.#streams.end(stream, {
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
    this.#guard.settings(this.#owner.nowMs);
    const settings = this.#owner.peerSettings;
    const window = settings.initialWindowBytes;
    settings.apply(bytes, start, end);
    this.hasPeerSettings = true;
    this.#sender.maxFrameBytes = settings.maxFrameBytes;
    this.#sender.encoder.setMaxTableBytes(settings.headerTableBytes);
    const change = settings.initialWindowBytes - window;
    if (change !== 0 && !this.#streams.adjustSendWindows(change)) {
      throw new ConnectionError(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow");
    }
    this.#sender.settingsAck();
    this.#options.onAvailabilityChange();
  }

  #onSettingsAcked(): void {
    this.isSettingsAcked = true;
    this.#decoder.setMaxTableBytes(this.#options.headerTableBytes);
    const surplus = DEFAULT_WINDOW_BYTES - this.#options.streamWindowBytes;
    if (surplus > 0) this.#streams.shrinkReceiveWindows(surplus);
  }

  #onPing(flags: number, streamId: number, bytes: Uint8Array, start: number): void {
    if (streamId !== 0) throw protocolError("PING on a stream");
    if ((flags & Flag.ACK) !== 0) {
      if (DRAIN_PING.every((byte, i) => bytes[start + i] === byte)) this.#owner.onDrainPing();
      return;
    }
    this.#guard.ping(this.#owner.nowMs, this.#sender.hasSentWork);
    this.#sender.hasSentWork = false;
    this.#sender.ping(bytes, start, true);
  }

  #onPriority(streamId: number, dependency: number): void {
    if (streamId === 0) throw protocolError("PRIORITY on stream 0");
    this.#guard.uselessFrame(this.#owner.nowMs);
    // Priorities are ignored (RFC 9113 section 5.3.2) but for the one error RFC 7540 gives them.
    if (dependency === streamId) this.#selfDependent(streamId, this.#streams.active.get(streamId));
  }

  #onGoaway(streamId: number, lastStreamId: number, code: number): void {
    if (streamId !== 0) throw protocolError("GOAWAY on a stream");
    this.#guard.uselessFrame(this.#owner.nowMs);
    this.#owner.onGoaway(lastStreamId, code);
  }

  // --- frames for streams that are no more, and faults

  /** A stream the peer may not have used yet; false when it is one that a drain has shut out. */
  #isWronglyIdle(streamId: number): boolean {
    return this.#streams.isIdle(streamId) && streamId <= this.lastAcceptedId;
  }

  #onDataForClosed(streamId: number): void {
    if (this.#isWronglyIdle(streamId)) throw protocolError("DATA on an idle stream");
    this.#guard.uselessFrame(this.#owner.nowMs);
    if (streamId > this.lastAcceptedId || this.#streams.closed.wasResetHere(streamId)) return;
    this.#sender.resetStream(streamId, ErrorCode.STREAM_CLOSED);
    this.#streams.closed.add(streamId, true);
  }

  #onHeadersForClosed(streamId: number): void {
    if (this.#streams.isIdle(streamId)) throw protocolError("HEADERS on an idle stream");
    this.#guard.uselessFrame(this.#owner.nowMs);
    if (this.#streams.closed.wasResetHere(streamId)) return;
    if (this.#streams.closed.has(streamId)) {
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
    this.#streams.fail(stream, code, message);
    if (this.#owner.isServer) this.#guard.reset(this.#owner.nowMs);
  }

  /** The peer broke a rule on a stream that does not exist (yet, or any more). */
  #peerFaultById(streamId: number, code: number): void {
    this.#sender.resetStream(streamId, code);
    this.#streams.closed.add(streamId, true);
    if (this.#owner.isServer) this.#guard.reset(this.#owner.nowMs);
  }
}

function protocolError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
}

function frameSizeError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, message);
}
