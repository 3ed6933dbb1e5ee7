/**
 * Where a worker's log goes: standard error, as long as somebody reads it. A write to a full pipe would
 * hold up every request until the reader goes on, which a stuck log collector never does. Lines wait
 * here instead, and are dropped beyond a bound. What can be written is written before `line` returns, so
 * that the last words of a process that dies are not lost.
 */

import { isWritable } from "../../ffi/libc/mod.ts";

const STDERR = 2;
/** A pipe that is writable at all takes this much at once (`PIPE_BUF`). */
const PIECE_BYTES = 4096;
/** What may wait for the reader. */
const MAX_WAITING_BYTES = 1 << 20;
/** Time until the reader is looked at again. */
const RETRY_MS = 50;

/** What there is to write to, and whom to tell of losses. */
export interface LogOutputOptions {
  /** Called when lines go out again, with how many did not. */
  readonly onLoss: (lines: number) => void;
  /** Whether `write` would come back at once. Default: standard error. */
  readonly isWritable?: () => boolean;
  /** Writes some of the bytes and says how many; throws when it cannot, which loses them. */
  readonly write?: (bytes: Uint8Array) => number;
}

/** States: flowing; waiting (for the reader). */
export class LogOutput {
  readonly #options: Required<LogOutputOptions>;
  readonly #encoder = new TextEncoder();
  #waiting: Uint8Array[] = [];
  #size = 0;
  #dropped = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LogOutputOptions) {
    this.#options = {
      isWritable: () => isWritable(STDERR),
      write: (bytes) => Deno.stderr.writeSync(bytes),
      ...options,
    };
  }

  /** Writes a line, or keeps it for later. Never waits. */
  line(text: string): void {
    const bytes = this.#encoder.encode(`${text}\n`);
    if (this.#size > 0 && this.#size + bytes.length > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(bytes);
    this.#size += bytes.length;
    this.#flush();
  }

  /** Gives the reader this long to take what waits. */
  async drain(limitMs: number): Promise<void> {
    const endMs = performance.now() + limitMs;
    while (this.#size > 0 && performance.now() < endMs) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      this.#flush();
    }
    clearTimeout(this.#timer);
  }

  #flush(): void {
    while (this.#size > 0) {
      if (!this.#options.isWritable()) return this.#flushLater();
      this.#writePiece();
    }
    if (this.#dropped === 0) return;
    const lost = this.#dropped;
    this.#dropped = 0;
    this.#options.onLoss(lost);
  }

  #writePiece(): void {
    const bytes = this.#waiting[0]!;
    let taken = bytes.length;
    try {
      taken = this.#options.write(bytes.subarray(0, PIECE_BYTES));
    } catch {
      // A closed or full standard error must not take the server down; there is nowhere left to say so.
    }
    if (taken < bytes.length) this.#waiting[0] = bytes.subarray(taken);
    else this.#waiting.shift();
    this.#size -= taken;
  }

  #flushLater(): void {
    if (this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#flush();
    }, RETRY_MS);
    Deno.unrefTimer(this.#timer);
  }
}
