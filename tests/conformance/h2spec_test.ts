/**
 * h2spec (github.com/summerwind/h2spec) in strict mode against our server: every generic, http2 and
 * hpack case. It is built once with Go; without Go the test says that it is not run.
 */

import assert from "node:assert/strict";
import { type Http2Stream, listenHttp2 } from "../../src/transport/http2/mod.ts";

import { goTool, lacksGoTool } from "../harness/go_tools.ts";
import { unless } from "../harness/not_run.ts";

/** Between looks at whether a request may be answered. */
const TURN_MS = 30;
/** How long nothing may have come before several requests are answered. */
const QUIET_MS = 1000;

/**
 * Answers like any web server, but never while requests still pour in, so that the limit of concurrent
 * streams is reached however slowly they come.
 */
class Answers implements Disposable {
  readonly #open = new Map<Http2Stream, ReturnType<typeof setTimeout>>();
  #lastMs = 0;

  add(stream: Http2Stream): void {
    this.#lastMs = performance.now();
    this.#look(stream);
  }

  [Symbol.dispose](): void {
    for (const timer of this.#open.values()) clearTimeout(timer);
  }

  #look(stream: Http2Stream): void {
    this.#open.set(stream, setTimeout(() => this.#answer(stream), TURN_MS));
  }

  #answer(stream: Http2Stream): void {
    if (this.#open.size > 1 && performance.now() - this.#lastMs < QUIET_MS) {
      this.#look(stream);
      return;
    }
    this.#open.delete(stream);
    stream.sendHeaders([[":status", "200"], ["content-type", "text/plain"]], false);
    stream.sendData([new TextEncoder().encode("an answer of some length")], true);
  }
}

Deno.test({
  ...unless(lacksGoTool("h2spec"), "the HTTP/2 server passes h2spec in strict mode"),
  fn: async () => {
    const h2spec = await goTool("h2spec");
    const errors: unknown[] = [];
    using answers = new Answers();
    const answer = (stream: Http2Stream) => answers.add(stream);
    const listener = listenHttp2(
      { hostname: "127.0.0.1", port: 0 },
      {
        // h2spec's oversized HEADERS frame assumes the default frame size, whatever was announced.
        maxFrameBytes: 16_384,
        limits: { maxConcurrentStreams: 100 },
        onError: (error) => errors.push(error),
      },
      (stream, _headers, endStream) => {
        if (endStream) answer(stream);
        return {
          onHeaders: (_trailers, isEnd) => isEnd && answer(stream),
          onData: (chunk, isEnd) => {
            stream.consume(chunk.length);
            if (isEnd) answer(stream);
            return false;
          },
          onEnd: () => {},
          onDrain: () => {},
        };
      },
    );
    try {
      const { success, stdout } = await new Deno.Command(h2spec, {
        args: ["-S", "-h", listener.hostname, "-p", String(listener.port), "-o", "120"],
      }).output();
      const report = new TextDecoder().decode(stdout);
      const failures = report.slice(Math.max(0, report.indexOf("Failures:")));
      const [, total, passed] = report.match(/(\d+) tests, (\d+) passed/) ?? [];
      assert.ok(success && Number(total) >= 146 && passed === total, failures);
    } finally {
      await listener.shutdown(0);
    }
    assert.deepEqual(errors, []);
  },
});
