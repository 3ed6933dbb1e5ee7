/** The owner of a connection's streams, who does what it likes. */

import type { Http2Stream, StreamListener } from "../../src/transport/http2/mod.ts";
import type { Random } from "./random.ts";

/**
 * An owner of streams that does what it likes, and reports what it should never hear: anything after the
 * end of its stream, or after it has reset it itself.
 */
export function fickleListener(
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
