/**
 * The one way to standard output: whole lines from many writers, in the order they came. A reader that
 * is slow slows the writers down; one that has stopped reading costs lines, never a blocked writer.
 */

/** Where bytes go and what is tolerated. */
export interface LogSinkOptions {
  /**
   * Takes some of the bytes and says how many. Rejects with `BrokenPipe` when nobody will ever read them;
   * any other error, such as a disk that is full, may pass.
   */
  readonly write: (bytes: Uint8Array) => Promise<number>;
  /** Time between two attempts after an error that may pass. */
  readonly retryMs?: number;
  /** What may wait to be written before writers have to. */
  readonly maxBytes?: number;
  /** With less than `MIN_PROGRESS_BYTES` taken in so long, lines beyond `maxBytes` are dropped. */
  readonly stallMs?: number;
  /** The line that says how many were dropped. */
  readonly describeLoss?: (lines: number) => string;
}

/** Most bytes handed over in one write, which blocks until a pipe has room for all of them. */
const WRITE_BYTES = 1 << 16;
/** A reader that takes less than this per `stallMs` must not set the pace of those who log. */
const MIN_PROGRESS_BYTES = 1 << 16;
const encoder = new TextEncoder();

/** States: flowing; full (writers wait); stalled (lines are dropped); broken (nobody reads, for good). */
export class LogSink {
  readonly #options: Required<LogSinkOptions>;
  #queue: Uint8Array[] = [];
  #size = 0;
  #dropped = 0;
  #isStalled = false;
  /** Bytes taken since progress was last judged. */
  #progress = 0;
  #isBroken = false;
  #writing: Promise<void> | undefined;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(options: LogSinkOptions) {
    this.#options = {
      maxBytes: 4 << 20,
      stallMs: 2000,
      retryMs: 1000,
      describeLoss: (lines) => `${lines} log lines were dropped`,
      ...options,
    };
  }

  /** Adds a line. The result, if any, is to be awaited before the next one. */
  line(prefix: string, content: Uint8Array | string): Promise<void> | undefined {
    if (this.#isBroken) return undefined;
    if (this.#size >= this.#options.maxBytes) {
      if (this.#isStalled) {
        this.#dropped++;
        return undefined;
      }
      this.#room ??= Promise.withResolvers();
      return this.#room.promise.then(() => this.line(prefix, content));
    }
    this.#add(prefix, content);
    return undefined;
  }

  /** Resolves when everything is written, or cannot be within this time; says which. */
  async flush(timeoutMs: number): Promise<boolean> {
    const deadline = timeout(timeoutMs);
    const drained = (async () => {
      while (this.#writing) await this.#writing;
      return true;
    })();
    const isDrained = await Promise.race([drained, deadline.passed.then(() => false)]);
    deadline.clear();
    return isDrained;
  }

  #add(prefix: string, content: Uint8Array | string): void {
    const body = typeof content === "string" ? encoder.encode(content) : content;
    const head = encoder.encode(prefix);
    const bytes = new Uint8Array(head.length + body.length + 1);
    bytes.set(head);
    bytes.set(body, head.length);
    bytes[bytes.length - 1] = 10;
    this.#queue.push(bytes);
    this.#size += bytes.length;
    this.#writing ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    // The caller keeps this promise before anything is written.
    await Promise.resolve();
    const judgement = setInterval(() => {
      this.#isStalled = this.#progress < MIN_PROGRESS_BYTES;
      this.#progress = 0;
      if (this.#isStalled) this.#makeRoom();
    }, this.#options.stallMs);
    while (this.#queue.length > 0) {
      const block = this.#nextBlock();
      for (let at = 0; at < block.length;) {
        const size = await this.#write(block.subarray(at));
        if (size === undefined) {
          this.#break();
          break;
        }
        at += size;
        this.#size -= size;
        this.#progress += size;
        if (this.#progress >= MIN_PROGRESS_BYTES) this.#isStalled = false;
      }
      if (this.#size < this.#options.maxBytes) {
        this.#makeRoom();
        this.#reportLoss();
      }
    }
    clearInterval(judgement);
    this.#isStalled = false;
    // In the turn that found the queue empty: a line added later finds nobody writing.
    this.#writing = undefined;
  }

  #reportLoss(): void {
    if (this.#dropped === 0) return;
    const lost = this.#dropped;
    this.#dropped = 0;
    this.#add("", this.#options.describeLoss(lost));
  }

  /** How many bytes were taken; `undefined` when none ever will be. */
  async #write(bytes: Uint8Array): Promise<number | undefined> {
    for (;;) {
      try {
        return await this.#options.write(bytes);
      } catch (error) {
        // A closed standard output must not take the node down, and there is nowhere to say so.
        if (error instanceof Deno.errors.BrokenPipe) return undefined;
        await new Promise((resolve) => setTimeout(resolve, this.#options.retryMs));
      }
    }
  }

  #nextBlock(): Uint8Array {
    let size = 0;
    let count = 0;
    while (count < this.#queue.length && (count === 0 || size < WRITE_BYTES)) {
      size += this.#queue[count++]!.length;
    }
    const parts = this.#queue.splice(0, count);
    if (parts.length === 1) return parts[0]!;
    const block = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      block.set(part, at);
      at += part.length;
    }
    return block;
  }

  #makeRoom(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  #break(): void {
    this.#isBroken = true;
    this.#dropped = 0;
    this.#queue = [];
    this.#size = 0;
    this.#makeRoom();
  }
}

function timeout(ms: number): { readonly passed: Promise<void>; clear(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  return { passed: promise, clear: () => clearTimeout(timer) };
}
