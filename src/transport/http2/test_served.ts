/** A server connection over a pipe whose peer is played by hand: where most tests of this folder begin. */

import assert from "node:assert/strict";
import { acceptHttp2 } from "./accept.ts";
import type { Http2Options } from "./options.ts";
import {
  F,
  frame,
  makePipe,
  ManualClock,
  type PipeEnd,
  RawPeer,
  Recorder,
  REQUEST_BLOCK,
  settingsPayload,
  T,
} from "./test_support.ts";
import type { HeaderList, Http2Connection, Http2Stream } from "./types.ts";

/** What a client sends first (RFC 9113, section 3.4). */
export const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export interface Served {
  readonly connection: Http2Connection;
  readonly peer: RawPeer;
  /** The server's end of the pipe. */
  readonly near: PipeEnd;
  readonly clock: ManualClock;
  /** Of each stream, in the order in which they came; the recorder is its listener. */
  readonly streams: Http2Stream[];
  readonly recorders: Recorder[];
  readonly requests: { headers: HeaderList; endStream: boolean }[];
  /** What `onError` was told, unless the options have one of their own. */
  readonly errors: unknown[];
}

/** Accepts a connection and shakes hands; `settings` are the peer's, by number. */
export async function serve(
  options: Http2Options = {},
  settings: Record<number, number> = {},
): Promise<Served> {
  const [near] = makePipe();
  const clock = new ManualClock();
  const streams: Http2Stream[] = [];
  const recorders: Recorder[] = [];
  const requests: Served["requests"] = [];
  const errors: unknown[] = [];
  const connection = acceptHttp2(
    near,
    { clock, onError: (error) => errors.push(error), ...options },
    (stream, headers, endStream) => {
      streams.push(stream);
      requests.push({ headers, endStream });
      recorders.push(new Recorder());
      return recorders.at(-1)!;
    },
  );
  const peer = new RawPeer(near);
  peer.send(
    PREFACE,
    frame(T.SETTINGS, 0, 0, settingsPayload(settings)),
    frame(T.SETTINGS, F.ACK, 0),
  );
  await peer.receive();
  return { connection, peer, near, clock, streams, recorders, requests, errors };
}

/** Ends the connection, which must have had nothing to tell and must leave no timer. */
export async function stop({ connection, errors, clock }: Served): Promise<void> {
  connection.destroy();
  await connection.closed;
  assert.deepEqual(errors, []);
  assert.equal(clock.timers, 0);
}

/** A request without a body, unless `flags` leave its stream open. */
export function request(streamId: number, flags = F.END_HEADERS | F.END_STREAM): Uint8Array {
  return frame(T.HEADERS, flags, streamId, REQUEST_BLOCK);
}
