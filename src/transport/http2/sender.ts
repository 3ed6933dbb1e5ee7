/**
 * The sending half of a connection: builds frames into the outbox, keeps both levels of send windows,
 * and hands the room there is to the streams that wait for it, one frame each in turn.
 */

import type { ByteStream, HeaderList } from "./types.ts";
import { SendWindow } from "./flow_control.ts";
import {
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  MIN_MAX_FRAME_BYTES,
  writeFrameHeader,
  writeUint32,
} from "./frames.ts";
import { HpackEncoder, validateHeaders } from "./hpack_encoder.ts";
import { Outbox, OUTBOX_TARGET_BYTES } from "./outbox.ts";
import { DEFAULT_WINDOW_BYTES } from "./settings.ts";
import type { StreamState } from "./stream.ts";

/** Largest chunk part that is copied into the outbox; larger ones follow it on their own. */
const COPY_BYTES = 64 * 1024;
/** What one stream may send before the next one in the round gets its turn. */
const TURN_BYTES = 256 * 1024;

/** What the sender tells its connection. */
export interface SenderOwner {
  /** Our END_STREAM has been put into the output. */
  onLocalEnd(stream: StreamState): void;
  /** All that was handed over has left for the socket, after `sendData` had said false. */
  onDrained(stream: StreamState): void;
  /** A write has finished. */
  onWritten(): void;
  /** Everything has been written. */
  onIdle(): void;
  /** The socket failed. */
  onWriteError(error: unknown): void;
}

/** Builds and schedules all output of one connection. */
export class Sender {
  readonly outbox: Outbox;
  readonly encoder: HpackEncoder;
  readonly window = new SendWindow(DEFAULT_WINDOW_BYTES);
  /** The peer's SETTINGS_MAX_FRAME_SIZE. */
  maxFrameBytes = MIN_MAX_FRAME_BYTES;
  /** While true, the caller flushes; else each frame schedules a flush. */
  isCorked = false;
  /** HEADERS or DATA has been sent since this was last cleared. */
  hasSentWork = false;
  /** DATA waiting on all streams. */
  queuedBytes = 0;

  readonly #owner: SenderOwner;
  // Streams with something to send and a window to send it in, as a singly linked queue.
  #firstReady: StreamState | undefined;
  #lastReady: StreamState | undefined;
  /** Streams to be told once the current output has left. */
  #drained: StreamState[] = [];

  constructor(stream: ByteStream, owner: SenderOwner, encoderTableBytes: number) {
    this.#owner = owner;
    this.outbox = new Outbox(stream, this);
    this.encoder = new HpackEncoder(encoderTableBytes);
  }

  /** Puts ready-made bytes into the output. */
  raw(bytes: Uint8Array): void {
    const at = this.outbox.reserve(bytes.length);
    this.outbox.buffer.set(bytes, at);
    this.#kick();
  }

  settingsAck(): void {
    this.#frame(0, FrameType.SETTINGS, Flag.ACK, 0);
  }

  /** `payload`: 8 bytes at `start`. */
  ping(payload: Uint8Array, start: number, isAck: boolean): void {
    const at = this.#frame(8, FrameType.PING, isAck ? Flag.ACK : 0, 0);
    for (let i = 0; i < 8; i++) this.outbox.buffer[at + i] = payload[start + i]!;
  }

  resetStream(streamId: number, code: number): void {
    const at = this.#frame(4, FrameType.RST_STREAM, 0, streamId);
    writeUint32(this.outbox.buffer, at, code);
  }

  windowUpdate(streamId: number, increment: number): void {
    const at = this.#frame(4, FrameType.WINDOW_UPDATE, 0, streamId);
    writeUint32(this.outbox.buffer, at, increment);
  }

  /** `message` is debug data, ASCII. */
  goaway(lastStreamId: number, code: number, message: string): void {
    const at = this.#frame(8 + message.length, FrameType.GOAWAY, 0, 0);
    writeUint32(this.outbox.buffer, at, lastStreamId);
    writeUint32(this.outbox.buffer, at + 4, code);
    for (let i = 0; i < message.length; i++) {
      this.outbox.buffer[at + 8 + i] = message.charCodeAt(i) & 0x7f;
    }
  }

  /** Sends headers now, or after the DATA still queued. Throws `InvalidArgumentError` for bad fields. */
  headers(stream: StreamState, headers: HeaderList, endStream: boolean): void {
    if (stream.hasSentHeaders && !endStream) throw new Error("Trailers must end their stream");
    if (stream.isSendPending) {
      validateHeaders(headers);
      stream.trailersAfterQueue = headers;
      return;
    }
    this.#writeHeaders(stream, headers, endStream);
    this.#kick();
  }

  /** Sends or queues DATA. Returns whether all of it is on its way. */
  data(stream: StreamState, chunks: readonly Uint8Array[], endStream: boolean): boolean {
    if (!stream.hasSentHeaders) throw new Error("Headers must be sent before data");
    let length = 0;
    for (let i = 0; i < chunks.length; i++) length += chunks[i]!.length;
    if (length === 0 && !endStream) return true;
    if (!stream.isSendPending && this.#hasRoomFor(stream, length)) {
      this.#writeData(stream, chunks, length, endStream);
      this.#kick();
      return true;
    }
    for (let i = 0; i < chunks.length; i++) stream.queue.push(chunks[i]!);
    this.queuedBytes += length;
    stream.endsAfterQueue = endStream;
    if (!stream.isDrainAwaited) {
      stream.isDrainAwaited = true;
      stream.markedMs = -1;
    }
    this.makeReady(stream);
    this.#kick();
    return false;
  }

  /** Puts a stream with something to send at the end of the round. */
  makeReady(stream: StreamState): void {
    if (stream.isReady || stream.isClosed || !stream.isSendPending) return;
    if (stream.queue.bytes > 0 && stream.sendWindow.available <= 0) return;
    stream.isReady = true;
    if (this.#lastReady === undefined) this.#firstReady = stream;
    else this.#lastReady.nextReady = stream;
    this.#lastReady = stream;
  }

  /** Forgets what a closed stream had queued. */
  discard(stream: StreamState): void {
    this.queuedBytes -= stream.queue.bytes;
    stream.queue.clear();
    stream.trailersAfterQueue = undefined;
    stream.endsAfterQueue = false;
  }

  /** Fills the outbox from the streams that wait, as far as windows and buffer reach. */
  fill(): void {
    const outbox = this.outbox;
    while (this.#firstReady !== undefined && !outbox.hasDirect) {
      const stream = this.#firstReady;
      if (stream.isClosed) {
        this.#dropFirst();
        continue;
      }
      const window = Math.min(this.window.available, stream.sendWindow.available);
      const room = OUTBOX_TARGET_BYTES - outbox.used - FRAME_HEADER_BYTES;
      if (stream.queue.bytes > 0) {
        if (room <= 0 || this.window.available <= 0) return;
        if (stream.sendWindow.available <= 0) {
          this.#dropFirst();
          continue;
        }
        this.#writeQueued(stream, window, room);
      }
      // Nothing may come between a frame's header and the chunk that follows it on its own.
      if (outbox.hasDirect ? stream.isSendPending : stream.queue.bytes > 0) this.#rotate();
      else this.#finishQueue(stream);
    }
  }

  onWritten(): void {
    this.#tellDrained();
    this.#owner.onWritten();
  }

  onIdle(): void {
    this.#tellDrained();
    this.#owner.onIdle();
  }

  onWriteError(error: unknown): void {
    this.#owner.onWriteError(error);
  }

  #tellDrained(): void {
    if (this.#drained.length === 0) return;
    const drained = this.#drained;
    this.#drained = [];
    for (const stream of drained) {
      if (stream.queue.bytes > 0 || !stream.isDrainAwaited) continue;
      stream.isDrainAwaited = false;
      this.#owner.onDrained(stream);
    }
  }

  #kick(): void {
    if (!this.isCorked) this.outbox.schedule();
  }

  /** Writes a header and returns where its payload of `length` bytes goes. */
  #frame(length: number, type: number, flags: number, streamId: number): number {
    const at = this.outbox.reserve(FRAME_HEADER_BYTES + length);
    writeFrameHeader(this.outbox.buffer, at, length, type, flags, streamId);
    this.#kick();
    return at + FRAME_HEADER_BYTES;
  }

  #writeHeaders(stream: StreamState, headers: HeaderList, endStream: boolean): void {
    const length = this.encoder.encode(headers);
    const bytes = this.encoder.bytes;
    this.hasSentWork = true;
    stream.hasSentHeaders = true;
    const end = endStream ? Flag.END_STREAM : 0;
    let sent = 0;
    do {
      const part = Math.min(length - sent, this.maxFrameBytes);
      const flags = (sent === 0 ? end : 0) | (sent + part === length ? Flag.END_HEADERS : 0);
      const type = sent === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      const at = this.outbox.reserve(FRAME_HEADER_BYTES + part) + FRAME_HEADER_BYTES;
      const out = this.outbox.buffer;
      writeFrameHeader(out, at - FRAME_HEADER_BYTES, part, type, flags, stream.id);
      // Blocks are mostly a few bytes long, where a loop beats a call.
      if (part <= 64) { for (let i = 0; i < part; i++) out[at + i] = bytes[sent + i]!; }
      else out.set(bytes.subarray(sent, sent + part), at);
      sent += part;
    } while (sent < length);
    if (endStream) this.#owner.onLocalEnd(stream);
  }

  #hasRoomFor(stream: StreamState, length: number): boolean {
    if (length === 0) return true;
    return length <= COPY_BYTES && length <= stream.sendWindow.available &&
      length <= this.window.available && this.outbox.used + length <= OUTBOX_TARGET_BYTES;
  }

  /** The straight way: all of `chunks` fits windows and buffer. */
  #writeData(
    stream: StreamState,
    chunks: readonly Uint8Array[],
    length: number,
    endStream: boolean,
  ): void {
    this.hasSentWork = true;
    this.window.available -= length;
    stream.sendWindow.available -= length;
    stream.sentBytes += length;
    let chunk = 0;
    let offset = 0;
    let left = length;
    do {
      const part = Math.min(left, this.maxFrameBytes);
      left -= part;
      const flags = left === 0 && endStream ? Flag.END_STREAM : 0;
      let at = this.outbox.reserve(FRAME_HEADER_BYTES + part);
      const out = this.outbox.buffer;
      writeFrameHeader(out, at, part, FrameType.DATA, flags, stream.id);
      at += FRAME_HEADER_BYTES;
      for (const end = at + part; at < end;) {
        const source = chunks[chunk]!;
        const take = Math.min(source.length - offset, end - at);
        out.set(take === source.length ? source : source.subarray(offset, offset + take), at);
        at += take;
        offset += take;
        if (offset === source.length) {
          chunk++;
          offset = 0;
        }
      }
    } while (left > 0);
    if (endStream) this.#owner.onLocalEnd(stream);
  }

  /** One turn of a queued stream. */
  #writeQueued(stream: StreamState, window: number, room: number): void {
    this.hasSentWork = true;
    const queue = stream.queue;
    const frame = Math.min(window, this.maxFrameBytes);
    const direct = Math.min(queue.headBytes, frame, TURN_BYTES);
    if (direct >= COPY_BYTES) {
      this.#dataHeader(stream, direct, 0);
      this.outbox.follow(queue.takeHead(direct));
      return;
    }
    const limit = Math.min(window, room, TURN_BYTES, queue.bytes);
    // Stop copying where a chunk begins that can go on its own, if frames may be that large at all.
    const small = frame >= COPY_BYTES ? queue.bytesBefore(COPY_BYTES, limit) : 0;
    for (let budget = small > 0 ? small : limit; budget > 0;) {
      const part = Math.min(budget, this.maxFrameBytes);
      const at = this.#dataHeader(stream, part, part);
      queue.copy(part, this.outbox.buffer, at);
      budget -= part;
    }
  }

  /** The header of a DATA frame of `length` bytes, of which `room` are to lie in the buffer. */
  #dataHeader(stream: StreamState, length: number, room: number): number {
    const isLast = length === stream.queue.bytes && stream.endsAfterQueue;
    this.queuedBytes -= length;
    this.window.available -= length;
    stream.sendWindow.available -= length;
    stream.sentBytes += length;
    const at = this.outbox.reserve(FRAME_HEADER_BYTES + room);
    const flags = isLast ? Flag.END_STREAM : 0;
    writeFrameHeader(this.outbox.buffer, at, length, FrameType.DATA, flags, stream.id);
    return at + FRAME_HEADER_BYTES;
  }

  /** The queue is empty: what was to follow it follows. */
  #finishQueue(stream: StreamState): void {
    this.#dropFirst();
    if (stream.isDrainAwaited) this.#drained.push(stream);
    const trailers = stream.trailersAfterQueue;
    if (trailers !== undefined) {
      stream.trailersAfterQueue = undefined;
      this.#writeHeaders(stream, trailers, true);
    } else if (stream.endsAfterQueue) {
      stream.endsAfterQueue = false;
      this.#owner.onLocalEnd(stream);
    }
  }

  #dropFirst(): void {
    const stream = this.#firstReady!;
    this.#firstReady = stream.nextReady;
    if (this.#firstReady === undefined) this.#lastReady = undefined;
    stream.nextReady = undefined;
    stream.isReady = false;
  }

  #rotate(): void {
    const stream = this.#firstReady!;
    this.#dropFirst();
    this.makeReady(stream);
  }
}
