/**
 * What the tests of this folder, the conformance tests and the fuzzer share: byte streams in memory, a
 * clock that only moves when told, and builders of frames written independently of the code under test.
 */

import type { ByteStream, StreamEnd, StreamListener } from "./types.ts";
import type { Clock } from "./options.ts";

/** One end of a pipe. What is written to it is read from the other end. */
export class PipeEnd implements ByteStream {
  other: PipeEnd | undefined;
  isClosed = false;
  /** Bytes written so far. */
  writtenBytes = 0;
  /** While set, writes wait for it: a peer that does not read. */
  writeGate: Promise<void> | undefined;
  #chunks: Uint8Array[] = [];
  #isEnded = false;
  #wake: (() => void) | undefined;
  #rejectWrite: ((error: Error) => void) | undefined;

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#chunks.length === 0) {
      if (this.isClosed) throw new Deno.errors.BadResource("closed");
      if (this.#isEnded) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    if (this.isClosed) throw new Deno.errors.BadResource("closed");
    const chunk = this.#chunks[0]!;
    const count = Math.min(chunk.length, into.length);
    into.set(chunk.subarray(0, count));
    if (count === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(count);
    return count;
  }

  async write(data: Uint8Array): Promise<number> {
    if (this.writeGate !== undefined) {
      const closed = Promise.withResolvers<void>();
      this.#rejectWrite = closed.reject;
      await Promise.race([this.writeGate, closed.promise]);
    }
    if (this.isClosed) throw new Deno.errors.BadResource("closed");
    if (this.other!.isClosed) throw new Deno.errors.BrokenPipe("the other end is closed");
    this.other!.feed(data.slice());
    this.writtenBytes += data.length;
    return data.length;
  }

  close(): void {
    if (this.isClosed) throw new Deno.errors.BadResource("closed");
    this.isClosed = true;
    this.other?.end();
    this.#rejectWrite?.(new Deno.errors.Interrupted("closed"));
    this.#notify();
  }

  closeWrite(): Promise<void> {
    this.other?.end();
    return Promise.resolve();
  }

  /** Puts bytes where this end reads them. */
  feed(data: Uint8Array): void {
    if (data.length > 0) this.#chunks.push(data);
    this.#notify();
  }

  /** No more bytes will come. */
  end(): void {
    this.#isEnded = true;
    this.#notify();
  }

  /** All bytes waiting to be read, taken out. */
  take(): Uint8Array {
    const all = concat(this.#chunks);
    this.#chunks = [];
    return all;
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** Two connected ends. */
export function makePipe(): [PipeEnd, PipeEnd] {
  const a = new PipeEnd();
  const b = new PipeEnd();
  a.other = b;
  b.other = a;
  return [a, b];
}

/** A clock at 0 that moves by `advance`. */
export class ManualClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ ms: number; next: number; callback: () => void }>();

  now(): number {
    return this.#now;
  }

  every(ms: number, callback: () => void): () => void {
    const timer = { ms, next: this.#now + ms, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** Timers that have not been cancelled. */
  get timers(): number {
    return this.#timers.size;
  }

  /** Lets `ms` pass, calling what falls due. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.next <= end)
        .sort((a, b) => a.next - b.next)[0];
      if (due === undefined) break;
      this.#now = due.next;
      due.next += due.ms;
      due.callback();
    }
    this.#now = end;
  }
}

/** Joins byte arrays. */
export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Bytes of hexadecimal text; blanks are ignored. */
export function hex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, "");
  return Uint8Array.from(
    { length: digits.length / 2 },
    (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
}

/** A frame, from its parts. */
export function frame(
  type: number,
  flags: number,
  streamId: number,
  payload: ArrayLike<number> = [],
): Uint8Array {
  const bytes = new Uint8Array(9 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, payload.length * 256 + type);
  view.setUint8(4, flags);
  view.setUint32(5, streamId);
  bytes.set(payload, 9);
  return bytes;
}

/** A 32-bit number, big-endian. */
export function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** A SETTINGS payload. */
export function settingsPayload(settings: Record<number, number>): Uint8Array {
  return concat(
    Object.entries(settings).map(([id, value]) =>
      concat([Uint8Array.of(Number(id) >> 8, Number(id) & 0xff), uint32(value)])
    ),
  );
}

/** A parsed frame. */
export interface ParsedFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Uint8Array;
}

/** Splits bytes into frames; bytes of an incomplete last frame are dropped. */
export function parseFrames(bytes: Uint8Array): ParsedFrame[] {
  const frames: ParsedFrame[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 9 <= bytes.length;) {
    const length = view.getUint32(at) >>> 8;
    if (at + 9 + length > bytes.length) break;
    frames.push({
      type: view.getUint8(at + 3),
      flags: view.getUint8(at + 4),
      streamId: view.getUint32(at + 5),
      payload: bytes.slice(at + 9, at + 9 + length),
    });
    at += 9 + length;
  }
  return frames;
}

/** A listener that writes everything down and gives all credit back. */
export class Recorder implements StreamListener {
  readonly headers: { headers: readonly (readonly unknown[])[]; endStream: boolean }[] = [];
  readonly ends: StreamEnd[] = [];
  data: Uint8Array[] = [];
  bytes = 0;
  drains = 0;
  hasEnded = false;
  /** Called with each chunk; its result is `onData`'s. */
  onChunk: (chunk: Uint8Array) => boolean = (chunk) => {
    this.data.push(chunk.slice());
    return false;
  };

  onHeaders(headers: readonly (readonly unknown[])[], endStream: boolean): void {
    this.headers.push({ headers, endStream });
    this.hasEnded ||= endStream;
  }

  onData(chunk: Uint8Array, endStream: boolean): boolean {
    this.bytes += chunk.length;
    this.hasEnded ||= endStream;
    return this.onChunk(chunk);
  }

  onEnd(end: StreamEnd): void {
    this.ends.push(end);
  }

  onDrain(): void {
    this.drains++;
  }
}

/** Lets everything that is ready run: pending promises, then timers that are due. */
export async function settle(turns = 3): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

/** Type numbers of frames, so that tests read without a table at hand. */
export const T = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
};

/** Flags of frames. */
export const F = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 0x20 };

/** `:method POST, :scheme http, :path /` as indexed fields. */
export const REQUEST_BLOCK: Uint8Array = Uint8Array.of(0x83, 0x86, 0x84);
/** `:status 200` as an indexed field. */
export const RESPONSE_BLOCK: Uint8Array = Uint8Array.of(0x88);
/** `x: y` as a literal. */
export const TRAILER_BLOCK: Uint8Array = Uint8Array.of(0, 1, 0x78, 1, 0x79);

/** The far side of a connection under test, spoken by hand. */
export class RawPeer {
  readonly #near: PipeEnd;
  readonly #far: PipeEnd;
  /** Everything received so far. */
  readonly frames: ParsedFrame[] = [];

  /** `near`: the end the connection has. */
  constructor(near: PipeEnd) {
    this.#near = near;
    this.#far = near.other!;
  }

  /** Sends bytes in one piece. */
  send(...parts: Uint8Array[]): void {
    this.#near.feed(concat(parts));
  }

  /** Lets the connection work, then returns what it has sent since the last time. */
  async receive(): Promise<ParsedFrame[]> {
    await settle();
    const bytes = this.#far.take();
    // A client's preface is 24 bytes and starts with "PRI", which no frame header here does.
    const isPreface = bytes[0] === 0x50 && bytes[1] === 0x52 && bytes[2] === 0x49;
    const frames = parseFrames(isPreface ? bytes.subarray(24) : bytes);
    this.frames.push(...frames);
    return frames;
  }

  /** What the connection made of the last frames: "ok", or its RST_STREAM or GOAWAY with the code. */
  async outcome(): Promise<string> {
    const frames = await this.receive();
    let outcome = "ok";
    for (const { type, streamId, payload } of frames) {
      const view = new DataView(payload.buffer);
      if (type === T.GOAWAY && view.getUint32(4) !== 0) return `goaway ${view.getUint32(4)}`;
      if (type === T.RST_STREAM) outcome = `reset ${streamId} ${view.getUint32(0)}`;
    }
    return outcome;
  }

  /** Ends the peer's side. */
  end(): void {
    this.#near.end();
  }
}
