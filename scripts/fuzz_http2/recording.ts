/** Real conversations of our own client and server, as frames. */

import { acceptHttp2, connectHttp2, type Http2Stream } from "../../src/transport/http2/mod.ts";
import { concat, cut, PREFACE } from "./frames.ts";
import type { Random } from "./random.ts";
import { RecordingEnd } from "./streams.ts";

/** One recorded direction, as frames; the client's preface is left out. */
export interface Recording {
  readonly isFromClient: boolean;
  readonly frames: readonly Uint8Array[];
}

/** Lets our client and server talk, and returns both sides of it. */
export async function record(random: Random): Promise<Recording[]> {
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
