/**
 * Fuzzes the HTTP/2 and HPACK layers: real conversations of our own client and server are recorded,
 * cut into frames, mutated with an eye to their structure, and played to a fresh connection whose owner
 * answers, resets, keeps and consumes at random.
 *
 *   deno run -A scripts/fuzz_http2.ts [--frames 10000000] [--seed N] [--case N]
 *
 * It fails when an exception escapes, when a connection does not come to its end, when a listener hears
 * what it should not, when the output is not well-formed, when an untouched conversation is refused, or
 * when memory grows. Every case has a
 * seed of its own; `--case` replays one.
 */

import { parseArgs } from "node:util";
import {
  acceptHttp2,
  type ByteStream,
  connectHttp2,
  type Http2Connection,
  type Http2Limits,
  type Http2Stream,
  type StreamListener,
} from "../src/transport/http2/mod.ts";

/** mulberry32: the same numbers for the same seed, everywhere. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  /** An integer from 0 up to, not including, `bound`. */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4_294_967_296 * bound);
  }

  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** A byte stream that plays a script: fixed input in random pieces, output collected or dropped. */
class ScriptedStream implements ByteStream {
  readonly #input: Uint8Array;
  readonly #random: Random;
  readonly #endsWithEof: boolean;
  #at = 0;
  #closed = Promise.withResolvers<null>();
  isClosed = false;
  readonly output: Uint8Array[] = [];

  constructor(input: Uint8Array, random: Random, endsWithEof: boolean) {
    this.#input = input;
    this.#random = random;
    this.#endsWithEof = endsWithEof;
  }

  /** Whether all input has been read. */
  get isExhausted(): boolean {
    return this.#at === this.#input.length;
  }

  read(into: Uint8Array): Promise<number | null> {
    if (this.isClosed) return Promise.reject(new Deno.errors.BadResource("closed"));
    if (this.isExhausted) return this.#endsWithEof ? Promise.resolve(null) : this.#closed.promise;
    const left = Math.min(into.length, this.#input.length - this.#at);
    const count = this.#random.oneIn(3) ? 1 + this.#random.below(Math.min(left, 40)) : left;
    into.set(this.#input.subarray(this.#at, this.#at + count));
    this.#at += count;
    return Promise.resolve(count);
  }

  write(data: Uint8Array): Promise<number> {
    if (this.isClosed) return Promise.reject(new Deno.errors.BadResource("closed"));
    if (this.#random.oneIn(500)) return Promise.reject(new Deno.errors.ConnectionReset("reset"));
    const count = this.#random.oneIn(8) ? 1 + this.#random.below(data.length) : data.length;
    this.output.push(data.slice(0, count));
    return Promise.resolve(count);
  }

  close(): void {
    if (this.isClosed) throw new Deno.errors.BadResource("closed");
    this.isClosed = true;
    this.#closed.resolve(null);
  }

  closeWrite(): Promise<void> {
    return this.#random.oneIn(4)
      ? Promise.reject(new Deno.errors.NotConnected("gone"))
      : Promise.resolve();
  }
}

/** A live pipe that keeps what goes through it. */
class RecordingEnd implements ByteStream {
  other!: RecordingEnd;
  readonly sent: Uint8Array[] = [];
  #inbox: Uint8Array[] = [];
  #isClosed = false;
  #wake: (() => void) | undefined;

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#inbox.length === 0) {
      if (this.#isClosed) return null;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const chunk = this.#inbox[0]!;
    const count = Math.min(into.length, chunk.length);
    into.set(chunk.subarray(0, count));
    if (count === chunk.length) this.#inbox.shift();
    else this.#inbox[0] = chunk.subarray(count);
    return count;
  }

  write(data: Uint8Array): Promise<number> {
    this.sent.push(data.slice());
    this.other.#inbox.push(data.slice());
    this.other.#stir();
    return Promise.resolve(data.length);
  }

  close(): void {
    this.#isClosed = true;
    this.other.#isClosed = true;
    this.#stir();
    this.other.#stir();
  }

  #stir(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** One recorded direction, as frames; the client's preface is left out. */
interface Recording {
  readonly isFromClient: boolean;
  readonly frames: readonly Uint8Array[];
}

const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const HEADER_BYTES = 9;

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/** Cuts bytes into frames; throws when they are not whole frames. */
function cut(bytes: Uint8Array): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = (bytes[at]! << 16) | (bytes[at + 1]! << 8) | bytes[at + 2]!;
    const end = at + HEADER_BYTES + length;
    if (!(end <= bytes.length)) throw new Error("the output ends inside a frame");
    frames.push(bytes.slice(at, end));
    at = end;
  }
  return frames;
}

/** Lets our client and server talk, and returns both sides of it. */
async function record(random: Random): Promise<Recording[]> {
  const client = new RecordingEnd();
  const server = new RecordingEnd();
  client.other = server;
  server.other = client;
  const options = random.pick([{}, { streamWindowBytes: 2000, maxFrameBytes: 16_384 }, {
    headerTableBytes: 200,
  }]);
  const serving = acceptHttp2(server, options, (stream, headers, endStream) => {
    const answer = () => {
      stream.sendHeaders([[":status", "200"], ["content-type", "application/grpc"]], false);
      stream.sendData([new Uint8Array(random.below(4000))], false);
      stream.sendHeaders([["grpc-status", "0"], ["x-echo", headers.at(-1)![1]]], true);
    };
    if (endStream) answer();
    return {
      onHeaders: (_trailers, isEnd) => isEnd && answer(),
      onData: (chunk, isEnd) => {
        stream.consume(chunk.length);
        if (isEnd) answer();
        return false;
      },
      onEnd: () => {},
      onDrain: () => {},
    };
  });
  const calling = connectHttp2(client, options);
  for (let i = 0; i < 8; i++) {
    const done = Promise.withResolvers<void>();
    const stream: Http2Stream = calling.open(
      [
        [":method", "POST"],
        [":scheme", "http"],
        [":path", `/service/method-${random.below(3)}`],
        [":authority", "localhost"],
        ["te", "trailers"],
        ["x-value", "v".repeat(random.below(random.oneIn(4) ? 20_000 : 30))],
      ],
      random.oneIn(4),
      {
        onHeaders: (_headers, isEnd) => isEnd && done.resolve(),
        onData: (chunk, isEnd) => {
          stream.consume(chunk.length);
          if (isEnd) done.resolve();
          return false;
        },
        onEnd: () => done.resolve(),
        onDrain: () => {},
      },
    );
    stream.sendData([new Uint8Array(random.below(6000))], true);
    if (random.oneIn(6)) {
      stream.reset(8);
      done.resolve();
    }
    if (!random.oneIn(3)) await done.promise;
  }
  calling.destroy();
  await Promise.all([calling.closed, serving.closed]);
  return [
    { isFromClient: true, frames: cut(concat(client.sent).subarray(PREFACE.length)) },
    { isFromClient: false, frames: cut(concat(server.sent)) },
  ];
}

function makeFrame(type: number, flags: number, streamId: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(frame.buffer);
  view.setUint32(0, (payload.length << 8) | type);
  view.setUint8(4, flags);
  view.setUint32(5, streamId);
  frame.set(payload, HEADER_BYTES);
  return frame;
}

const EDGES = [0, 1, 2, 5, 9, 127, 255, 16_384, 65_535, 0x7fff_fffe, 0x7fff_ffff, 0xffff_ffff];
const SIZES: Readonly<Record<number, number>> = { 2: 5, 3: 4, 6: 8, 7: 8, 8: 4 };

/** A frame of a random type that is mostly well-formed. */
function inventFrame(random: Random): Uint8Array {
  const type = random.below(random.oneIn(10) ? 256 : 11);
  const streamId = random.oneIn(4) ? random.pick(EDGES) : random.below(24);
  let payload = new Uint8Array(SIZES[type] ?? random.below(60));
  if (type === 4) payload = new Uint8Array(6 * random.below(5));
  for (let i = 0; i < payload.length; i++) payload[i] = random.below(256);
  if ((type === 3 || type === 8) && payload.length === 4) {
    new DataView(payload.buffer).setUint32(0, random.pick(EDGES));
  }
  if (type === 4) {
    const view = new DataView(payload.buffer);
    for (let at = 0; at < payload.length; at += 6) {
      view.setUint16(at, random.below(8));
      view.setUint32(at + 2, random.pick(EDGES));
    }
  }
  const onConnection = type === 4 || type === 6 || type === 7;
  return makeFrame(
    type,
    random.oneIn(3) ? random.below(256) : random.pick([0, 1, 4, 5]),
    onConnection && !random.oneIn(10) ? 0 : streamId,
    payload,
  );
}

/** Changes one frame: a field of its header, bytes of its payload, or its length. */
function mutateFrame(frame: Uint8Array, random: Random): Uint8Array {
  let copy: Uint8Array = frame.slice();
  const view = () => new DataView(copy.buffer, copy.byteOffset);
  switch (random.below(8)) {
    case 0:
      view().setUint8(3, random.below(11));
      break;
    case 1:
      view().setUint8(4, copy[4]! ^ (1 << random.below(8)));
      break;
    case 2:
      view().setUint32(5, random.oneIn(2) ? random.pick(EDGES) : random.below(24));
      break;
    case 3:
      // A length that does not fit what follows.
      view().setUint32(0, (random.below(1 << (1 + random.below(22))) << 8) | copy[3]!);
      break;
    case 4: {
      const payload = copy.subarray(HEADER_BYTES, HEADER_BYTES + random.below(copy.length));
      copy = makeFrame(copy[3]!, copy[4]!, view().getUint32(5), payload);
      break;
    }
    default:
      for (let i = 1 + random.below(3); i > 0 && copy.length > HEADER_BYTES; i--) {
        const at = HEADER_BYTES + random.below(copy.length - HEADER_BYTES);
        copy[at] = random.oneIn(2) ? random.below(256) : copy[at]! ^ (1 << random.below(8));
      }
  }
  return copy;
}

/** Splits a HEADERS frame into HEADERS and CONTINUATION at a random place. */
function splitHeaders(frame: Uint8Array, random: Random): Uint8Array[] {
  const [type, flags] = [frame[3]!, frame[4]!];
  if (type !== 1 || (flags & 0x28) !== 0) return [frame];
  const id = new DataView(frame.buffer).getUint32(5);
  const payload = frame.subarray(HEADER_BYTES);
  const at = random.below(payload.length + 1);
  return [
    makeFrame(1, flags & ~4, id, payload.subarray(0, at)),
    makeFrame(9, flags & 4, id, payload.subarray(at)),
  ];
}

/** A mutated conversation. */
function mutate(recording: Recording, random: Random): Uint8Array[] {
  let frames = [...recording.frames];
  const count = 1 + random.below(6);
  for (let i = 0; i < count; i++) {
    const at = random.below(frames.length);
    switch (random.below(7)) {
      case 0:
        frames.splice(at, 1);
        break;
      case 1:
        frames.splice(random.below(frames.length), 0, frames[at]!);
        break;
      case 2:
        [frames[at], frames[0]] = [frames[0]!, frames[at]!];
        break;
      case 3:
        frames.splice(
          at,
          0,
          ...Array.from({ length: 1 + random.below(8) }, () => inventFrame(random)),
        );
        break;
      case 4:
        frames.splice(at, 1, ...splitHeaders(frames[at]!, random));
        break;
      case 5:
        frames = [...frames, ...frames.slice(at)];
        break;
      default:
        frames[at] = mutateFrame(frames[at]!, random);
    }
    if (frames.length === 0) frames.push(inventFrame(random));
  }
  return frames;
}

/**
 * An owner of streams that does what it likes, and reports what it should never hear: anything after the
 * end of its stream, or after it has reset it itself.
 */
function fickleListener(
  random: Random,
  stream: () => Http2Stream,
  report: (problem: Error) => void,
): StreamListener {
  let isOver = false;
  let isRemoteEnded = false;
  const expect = (isRight: boolean, what: string) => {
    if (!isRight) report(new Error(`a listener heard ${what}`));
  };
  const act = () => {
    const target = stream();
    switch (random.below(9)) {
      case 0:
        target.reset(random.below(14));
        isOver = true;
        break;
      case 1:
        // Sending twice or out of order is a defect of the caller, and told as an exception to it.
        try {
          target.sendHeaders([[":status", "200"], ["x", `${random.below(50)}`]], random.oneIn(4));
        } catch {
          // As documented.
        }
        break;
      case 2:
        try {
          const bytes = random.below(random.oneIn(9) ? 200_000 : 500);
          target.sendData([new Uint8Array(bytes)], random.oneIn(3));
        } catch {
          // As documented.
        }
        break;
      default:
        target.consume(random.below(20_000));
    }
  };
  return {
    onHeaders: (_headers, endStream) => {
      expect(!isOver && !isRemoteEnded, "headers after the end");
      isRemoteEnded = endStream;
      act();
    },
    onData: (chunk, endStream) => {
      expect(!isOver && !isRemoteEnded, "data after the end");
      expect(chunk.length > 0 || endStream, "no data");
      isRemoteEnded = endStream;
      stream().consume(random.oneIn(5) ? 0 : chunk.length);
      act();
      return random.oneIn(3);
    },
    onEnd: () => {
      expect(!isOver, "of its end twice");
      expect(stream().isClosed, "of the end of an open stream");
      isOver = true;
    },
    onDrain: () => {
      expect(!isOver, "of room after the end");
      act();
    },
  };
}

const OPEN_LIMITS: Partial<Http2Limits> = {
  resets: { burst: 1e9, perSecond: 1 },
  emptyFrames: { burst: 1e9, perSecond: 1 },
  settings: { burst: 1e9, perSecond: 1 },
  pings: { burst: 1e9, perSecond: 1 },
};

/** Plays one case; throws when something is wrong. Returns the number of frames played. */
async function playCase(recordings: readonly Recording[], seed: number): Promise<number> {
  const random = new Random(seed);
  const recording = random.pick(recordings);
  const isUntouched = random.oneIn(50);
  const frames = isUntouched ? [...recording.frames] : mutate(recording, random);
  let input = concat(recording.isFromClient ? [PREFACE, ...frames] : frames);
  if (!isUntouched && random.oneIn(20)) input = input.subarray(0, random.below(input.length));
  const stream = new ScriptedStream(input, isUntouched ? new Random(1) : random, random.oneIn(2));
  const problems: unknown[] = [];
  const onError = (error: unknown) => problems.push(error);
  // What an untouched conversation relies on is what its recorded owner had announced, or more.
  const options = isUntouched ? { onError } : {
    onError,
    limits: random.oneIn(2) ? OPEN_LIMITS : {},
    streamWindowBytes: random.pick([1 << 25, 1 << 16, 1 << 12]),
    headerTableBytes: random.pick([4096, 4096, 100, 0]),
  };
  const connection: Http2Connection = recording.isFromClient
    ? acceptHttp2(stream, options, (opened) => fickleListener(random, () => opened, onError))
    : connectHttp2(stream, options);
  if (!recording.isFromClient) {
    for (let i = 0; i < 9 && connection.canOpen; i++) {
      const opened: Http2Stream = connection.open(
        [[":method", "POST"], [":scheme", "http"], [":path", "/"], ["x", `${i}`]],
        random.oneIn(2),
        fickleListener(random, () => opened, onError),
      );
    }
  }
  // Bounded: each turn lets the connection read on; a connection that reads no more has paused or ended.
  for (let turn = 0, quiet = 0; turn < 5000 && quiet < 4 && !stream.isClosed; turn++) {
    await Promise.resolve();
    quiet = stream.isExhausted ? quiet + 1 : 0;
  }
  if (random.oneIn(3)) void connection.drain();
  connection.destroy("end of the case");
  await connection.closed;
  if (connection.activeStreams > 0) await Promise.resolve();
  if (problems.length > 0) throw problems[0];
  if (connection.activeStreams > 0) throw new Error("streams outlive their connection");
  checkOutput(concat(stream.output), recording.isFromClient, isUntouched);
  return frames.length;
}

/** The output must be frames; only its end may be missing, where the stream was closed. */
function checkOutput(output: Uint8Array, isServer: boolean, isUntouched: boolean): void {
  let at = isServer ? 0 : PREFACE.length;
  const view = new DataView(output.buffer);
  while (at + HEADER_BYTES <= output.length) {
    const length = view.getUint32(at) >>> 8;
    const type = output[at + 3]!;
    if (type > 9 || type === 5) throw new Error(`a frame of type ${type} was sent`);
    if ((SIZES[type] ?? length) !== length && type !== 7) {
      throw new Error(`a frame of type ${type} and ${length} bytes was sent`);
    }
    const payload = at + HEADER_BYTES;
    if (isUntouched && type === 7 && payload + 8 <= output.length) {
      const code = view.getUint32(payload + 4);
      if (code !== 0) throw new Error(`an untouched conversation was ended with code ${code}`);
    }
    at = payload + length;
  }
}

/** What a run did. */
export interface FuzzResult {
  readonly cases: number;
  readonly frames: number;
  /** Bytes of JavaScript heap, after a tenth of the run and at its end. */
  readonly heapBytes: readonly [early: number, late: number];
}

/** Plays cases until `frames` frames have been played. Throws, naming the case, when one fails. */
export async function fuzz(
  seed: number,
  frames: number,
  onProgress: (cases: number, frames: number) => void = () => {},
): Promise<FuzzResult> {
  const recordings = await makeRecordings(seed);
  let played = 0;
  let cases = 0;
  let early = 0;
  let isEarlyTaken = false;
  while (played < frames) {
    try {
      played += await playCase(recordings, caseSeed(seed, cases));
    } catch (error) {
      throw new Error(`seed ${seed}, case ${cases} failed`, { cause: error });
    }
    cases++;
    if (cases % 200 === 0) {
      // A real turn of the event loop: timers run, and promises nobody handled come to light.
      await new Promise((resolve) => setTimeout(resolve, 0));
      onProgress(cases, played);
    }
    if (!isEarlyTaken && played >= frames / 10) {
      isEarlyTaken = true;
      early = heapBytes();
    }
  }
  return { cases, frames: played, heapBytes: [early, heapBytes()] };
}

/** The same conversations for the same seed. */
async function makeRecordings(seed: number): Promise<Recording[]> {
  const random = new Random(seed);
  const recordings: Recording[] = [];
  for (let i = 0; i < 12; i++) recordings.push(...await record(random));
  return recordings;
}

function caseSeed(seed: number, index: number): number {
  return (Math.imul(seed, 0x9e3779b1) + index) | 0;
}

function heapBytes(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage().heapUsed;
}

/** A case that takes this long hangs. */
const HANG_MS = 30_000;

/** Runs in a worker, so that even an endless loop is noticed, and ends the process when it is over. */
function supervise(seed: number, frames: number): void {
  const started = performance.now();
  const worker = new Worker(import.meta.url, { type: "module" });
  let last = "the start";
  let timer = setTimeout(() => {}, 0);
  const expectNews = () => {
    clearTimeout(timer);
    timer = setTimeout(() => fail(`it hangs after ${last}`), HANG_MS);
  };
  const fail = (message: string) => {
    console.error(`FAILED: seed ${seed}: ${message}`);
    Deno.exit(1);
  };
  expectNews();
  worker.onerror = (event) => fail(event.message);
  worker.onmessage = ({ data }) => {
    expectNews();
    if (data.error !== undefined) return fail(data.error);
    if (data.result === undefined) {
      if (data.cases % 20_000 === 0) {
        const rate = data.frames / (performance.now() - started) * 1000;
        console.log(`${data.cases} cases, ${data.frames} frames, ${rate.toFixed(0)} frames/s`);
      }
      last = `case ${data.cases}`;
      return;
    }
    const { cases, frames: played, heapBytes: [early, late] } = data.result as FuzzResult;
    const mib = (bytes: number) => (bytes / 1048576).toFixed(1);
    const rss = Deno.memoryUsage().rss;
    console.log(
      `${cases} cases, ${played} frames in ${
        ((performance.now() - started) / 1000).toFixed(0)
      } s: ` +
        `no exception escaped; heap ${mib(early)} MiB after a tenth, ${
          mib(late)
        } MiB at the end; ` +
        `resident ${mib(rss)} MiB`,
    );
    if (late > early * 1.5 + 16 * 1048576) fail("memory grows");
    Deno.exit(0);
  };
  worker.postMessage({ seed, frames });
}

/** The worker's side: `message` events carry `{ seed, frames }`. */
function serveWorker(scope: Worker): void {
  scope.onmessage = async ({ data }) => {
    try {
      const result = await fuzz(data.seed, data.frames, (cases, frames) => {
        scope.postMessage({ cases, frames });
      });
      scope.postMessage({ result });
    } catch (error) {
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause.stack : "";
      scope.postMessage({ error: `${error} ${cause}` });
    }
  };
}

// A worker's module counts as a main module too.
if (isWorker()) {
  serveWorker(globalThis as unknown as Worker);
} else if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: {
      frames: { type: "string", default: "10000000" },
      seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
      case: { type: "string" },
    },
  });
  const seed = Number(values.seed);
  console.log(`seed ${seed}`);
  if (values.case !== undefined) {
    await playCase(await makeRecordings(seed), caseSeed(seed, Number(values.case)));
    console.log("the case passes");
  } else {
    supervise(seed, Number(values.frames));
  }
}

function isWorker(): boolean {
  return globalThis.constructor.name === "DedicatedWorkerGlobalScope";
}
