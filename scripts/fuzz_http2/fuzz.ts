/** Plays cases and judges them. */

import {
  acceptHttp2,
  connectHttp2,
  type Http2Connection,
  type Http2Limits,
  type Http2Stream,
} from "../../src/transport/http2/mod.ts";
import { concat, HEADER_BYTES, mutate, PREFACE, SIZES } from "./frames.ts";
import { fickleListener } from "./owner.ts";
import { Random } from "./random.ts";
import { record, type Recording } from "./recording.ts";
import { ScriptedStream } from "./streams.ts";

const OPEN_LIMITS: Partial<Http2Limits> = {
  resets: { burst: 1e9, perSecond: 1 },
  emptyFrames: { burst: 1e9, perSecond: 1 },
  settings: { burst: 1e9, perSecond: 1 },
  pings: { burst: 1e9, perSecond: 1 },
};

/** Plays one case; throws when something is wrong. Returns the number of frames played. */
export async function playCase(recordings: readonly Recording[], seed: number): Promise<number> {
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
export async function makeRecordings(seed: number): Promise<Recording[]> {
  const random = new Random(seed);
  const recordings: Recording[] = [];
  for (let i = 0; i < 12; i++) recordings.push(...await record(random));
  return recordings;
}

/** A case's own seed: whoever has both numbers can play it alone. */
export function caseSeed(seed: number, index: number): number {
  return (Math.imul(seed, 0x9e3779b1) + index) | 0;
}

function heapBytes(): number {
  (globalThis as { gc?: () => void }).gc?.();
  return Deno.memoryUsage().heapUsed;
}
