/** Carries what a child writes to the sink, line by line, and remembers its last words. */

import { LineSplitter } from "./line_splitter.ts";
import type { LogSink } from "./log_sink.ts";

/** How much of a line is kept for a message about the child. */
const LAST_LINE_BYTES = 1000;

/** The streams of one run of a child. */
export class LogPump {
  readonly #sink: LogSink;
  readonly #prefix: string;
  readonly #readers: ReadableStreamDefaultReader<Uint8Array>[] = [];
  readonly #running: Promise<void>[] = [];
  #lastLine: Uint8Array = new Uint8Array();

  constructor(sink: LogSink, name: string) {
    this.#sink = sink;
    this.#prefix = `[${name}] `;
  }

  /** Starts reading a stream to its end. */
  add(stream: ReadableStream<Uint8Array>): void {
    const reader = stream.getReader();
    this.#readers.push(reader);
    this.#running.push(this.#pump(reader));
  }

  /** The last line that was not empty, shortened. */
  get lastLine(): string {
    return new TextDecoder().decode(this.#lastLine.subarray(0, LAST_LINE_BYTES)).trim();
  }

  /**
   * Resolves when every stream has ended, or after `timeoutMs`; says which. A descendant of the child that
   * outlives it may hold a stream open: such streams are given up then, and their reads stay pending. Lines
   * that wait for a slow output still go there.
   */
  async finish(timeoutMs: number): Promise<boolean> {
    const late = Promise.withResolvers<void>();
    let isComplete = true;
    let timer = setTimeout(() => {
      isComplete = false;
      // `cancel` of a stream that has broken rejects; it has ended either way.
      for (const reader of this.#readers) reader.cancel().catch(() => {});
      // A turn later: what a cancelled stream held back is on its way by then.
      timer = setTimeout(late.resolve);
    }, timeoutMs);
    await Promise.race([Promise.all(this.#running), late.promise]);
    clearTimeout(timer);
    return isComplete;
  }

  async #pump(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    const splitter = new LineSplitter();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const line of splitter.push(value)) await this.#write(line);
      }
    } catch {
      // A stream that breaks has ended; what came before is passed on below.
    }
    for (const line of splitter.end()) await this.#write(line);
  }

  #write(line: Uint8Array): Promise<void> | undefined {
    if (line.length > 0) this.#lastLine = line;
    return this.#sink.line(this.#prefix, line);
  }
}
