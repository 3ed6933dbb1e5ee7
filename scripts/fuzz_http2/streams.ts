/** Byte streams in memory: one that plays a script, and a pipe that keeps what goes through it. */

import type { ByteStream } from "../../src/transport/http2/mod.ts";
import type { Random } from "./random.ts";

/** A byte stream that plays a script: fixed input in random pieces, output collected or dropped. */
export class ScriptedStream implements ByteStream {
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
export class RecordingEnd implements ByteStream {
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
