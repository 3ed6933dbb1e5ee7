/**
 * Cuts a byte stream into frames, whatever the pieces it arrives in. DATA payload is passed on as it
 * comes, so a frame may be larger than any buffer; all other frames are passed on whole, and their
 * size is bounded before anything is buffered.
 */

import { ConnectionError, ErrorCode } from "./error_codes.ts";
import { Flag, FRAME_HEADER_BYTES, FrameType, readUint31 } from "./frames.ts";
import { SETTING_BYTES } from "./settings.ts";

/** Told of frames, in order. May throw `ConnectionError`, which ends the parsing. */
export interface FrameSink {
  /** A DATA frame begins. `length`: its whole payload; `overhead`: the padding bytes in it. */
  onDataFrame(streamId: number, length: number, overhead: number, endStream: boolean): void;
  /**
   * Payload of that frame, without padding; `isLast` exactly once per frame, maybe with no bytes.
   * Returns whether the bytes are kept, so that the buffer must not be written again.
   */
  onDataBytes(bytes: Uint8Array, start: number, end: number, isLast: boolean): boolean;
  /** Any other known frame, whole: its payload is `bytes[start, end)`. */
  onFrame(
    type: number,
    flags: number,
    streamId: number,
    bytes: Uint8Array,
    start: number,
    end: number,
  ): void;
  /** A frame of unknown type, which is skipped. */
  onUnknownFrame(): void;
}

export interface FrameReaderOptions {
  /** Our SETTINGS_MAX_FRAME_SIZE. */
  readonly maxFrameBytes: number;
  /** Largest payload of a HEADERS or CONTINUATION frame, padding included. */
  readonly maxHeaderFrameBytes: number;
  /** Parameters in one SETTINGS frame. */
  readonly maxSettings: number;
}

/** Bytes of a GOAWAY that matter; its debug data is skipped. */
const GOAWAY_BYTES = 8;

/** Parses frames. One per connection. */
export class FrameReader {
  /** Whether any bytes of the last parsed buffer were kept by the sink. */
  isBufferKept = false;
  /**
   * Whether the last `parse` stopped at its frame budget rather than for want of bytes.
   */
  isBudgetSpent = false;

  readonly #sink: FrameSink;
  readonly #options: FrameReaderOptions;
  // Left of the DATA frame being received.
  #isInData = false;
  #dataLeft = 0;
  #paddingLeft = 0;
  /** Left of a payload nobody wants. */
  #skipLeft = 0;
  #isStopped = false;

  constructor(sink: FrameSink, options: FrameReaderOptions) {
    this.#sink = sink;
    this.#options = options;
  }

  /** Ends the parsing under way, if any, and all later ones. */
  stop(): void {
    this.#isStopped = true;
  }

  /**
   * Parses `bytes[start, end)` and returns where the first incomplete frame begins; call again with
   * those bytes first. Stops early after `budget` frames. Throws `ConnectionError`.
   */
  parse(bytes: Uint8Array, start: number, end: number, budget: number): number {
    let at = start;
    this.isBudgetSpent = false;
    while (!this.#isStopped) {
      if (this.#isInData) {
        at = this.#passData(bytes, at, end);
        if (this.#isInData) return at;
      }
      if (this.#skipLeft > 0) {
        const skipped = Math.min(this.#skipLeft, end - at);
        this.#skipLeft -= skipped;
        at += skipped;
        if (this.#skipLeft > 0) return at;
      }
      if (end - at < FRAME_HEADER_BYTES) return at;
      if (budget-- <= 0) {
        this.isBudgetSpent = true;
        return at;
      }
      const next = this.#parseFrame(bytes, at, end);
      if (next < 0) return at;
      at = next;
    }
    return end;
  }

  /** Returns the end of what was consumed, or -1 when more bytes are needed. */
  #parseFrame(bytes: Uint8Array, at: number, end: number): number {
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    const type = bytes[at + 3]!;
    const flags = bytes[at + 4]!;
    const streamId = readUint31(bytes, at + 5);
    if (length > this.#options.maxFrameBytes) {
      throw new ConnectionError(
        ErrorCode.FRAME_SIZE_ERROR,
        `frame of ${length} bytes is over the maximum frame size`,
      );
    }
    const payload = at + FRAME_HEADER_BYTES;
    if (type === FrameType.DATA) {
      return this.#beginData(bytes, payload, end, length, flags, streamId);
    }
    if (type > FrameType.CONTINUATION) {
      this.#sink.onUnknownFrame();
      this.#skipLeft = length;
      return payload;
    }
    let wanted = length;
    if (type === FrameType.GOAWAY && length > GOAWAY_BYTES) wanted = GOAWAY_BYTES;
    else this.#checkSize(type, length);
    if (end - payload < wanted) return -1;
    this.#sink.onFrame(type, flags, streamId, bytes, payload, payload + wanted);
    this.#skipLeft = length - wanted;
    return payload + wanted;
  }

  #beginData(
    bytes: Uint8Array,
    payload: number,
    end: number,
    length: number,
    flags: number,
    streamId: number,
  ): number {
    let padding = 0;
    let overhead = 0;
    let at = payload;
    if ((flags & Flag.PADDED) !== 0) {
      if (length === 0) throw sizeError("padded DATA frame without a pad length");
      if (end === payload) return -1;
      padding = bytes[at++]!;
      overhead = padding + 1;
      if (overhead > length) {
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, "padding is longer than its frame");
      }
    }
    this.#sink.onDataFrame(streamId, length, overhead, (flags & Flag.END_STREAM) !== 0);
    this.#isInData = true;
    this.#dataLeft = length - overhead;
    this.#paddingLeft = padding;
    return at;
  }

  #passData(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    const take = Math.min(this.#dataLeft, end - at);
    const isLast = take === this.#dataLeft;
    if (take === 0 && !isLast) return at;
    this.#dataLeft -= take;
    this.#isInData = !isLast;
    if (this.#sink.onDataBytes(bytes, at, at + take, isLast)) this.isBufferKept = true;
    at += take;
    if (isLast) {
      this.#skipLeft = this.#paddingLeft;
      this.#paddingLeft = 0;
    }
    return at;
  }

  /** Sizes that a frame's type fixes or bounds, checked before its payload has arrived. */
  #checkSize(type: number, length: number): void {
    switch (type) {
      case FrameType.HEADERS:
      case FrameType.CONTINUATION:
        if (length > this.#options.maxHeaderFrameBytes) {
          throw new ConnectionError(
            ErrorCode.ENHANCE_YOUR_CALM,
            `header frame of ${length} bytes is over the limit`,
          );
        }
        break;
      case FrameType.SETTINGS:
        if (length % SETTING_BYTES !== 0) throw sizeError("SETTINGS frame is not a multiple of 6");
        if (length > this.#options.maxSettings * SETTING_BYTES) {
          throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many SETTINGS parameters");
        }
        break;
      case FrameType.PRIORITY:
        if (length !== 5) throw sizeError("PRIORITY frame is not 5 bytes");
        break;
      case FrameType.RST_STREAM:
        if (length !== 4) throw sizeError("RST_STREAM frame is not 4 bytes");
        break;
      case FrameType.PING:
        if (length !== 8) throw sizeError("PING frame is not 8 bytes");
        break;
      case FrameType.GOAWAY:
        if (length < GOAWAY_BYTES) throw sizeError("GOAWAY frame is under 8 bytes");
        break;
      case FrameType.WINDOW_UPDATE:
        if (length !== 4) throw sizeError("WINDOW_UPDATE frame is not 4 bytes");
        break;
      case FrameType.PUSH_PROMISE:
        // Neither side here ever allows a push.
        throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE is not allowed");
    }
  }
}

function sizeError(message: string): ConnectionError {
  return new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, message);
}
