/** A stream of bytes as lines of valid UTF-8, each of bounded length. */

/** Longest line passed on whole; stack traces and JSON records are far shorter. */
export const MAX_LINE_BYTES = 1 << 20;

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;

/**
 * Cuts bytes into lines. What is no UTF-8 becomes U+FFFD. A line beyond the bound is cut into several,
 * between characters. Holds at most one unfinished line.
 */
export class LineSplitter {
  readonly #maxBytes: number;
  #parts: Uint8Array[] = [];
  #size = 0;

  constructor(maxBytes: number = MAX_LINE_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** The lines that `chunk` completes, without their ends. The chunk may be reused afterwards. */
  push(chunk: Uint8Array): Uint8Array[] {
    const lines: Uint8Array[] = [];
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end === -1) break;
      this.#keep(chunk.subarray(start, end), lines);
      lines.push(this.#take());
      start = end + 1;
    }
    this.#keep(chunk.slice(start), lines);
    return lines;
  }

  /** What is left when the stream has ended. */
  end(): Uint8Array[] {
    return this.#size === 0 ? [] : [this.#take()];
  }

  /** Adds to the unfinished line; what makes it too long goes out at once. */
  #keep(part: Uint8Array, lines: Uint8Array[]): void {
    this.#parts.push(part);
    this.#size += part.length;
    while (this.#size > this.#maxBytes) {
      const whole = concat(this.#parts, this.#size);
      const cut = characterBoundary(whole, this.#maxBytes);
      lines.push(validUtf8(whole.subarray(0, cut)));
      const rest = whole.subarray(cut);
      this.#parts = [rest];
      this.#size = rest.length;
    }
  }

  #take(): Uint8Array {
    let line = concat(this.#parts, this.#size);
    if (line.at(-1) === CARRIAGE_RETURN) line = line.subarray(0, -1);
    this.#parts = [];
    this.#size = 0;
    return validUtf8(line);
  }
}

function concat(parts: readonly Uint8Array[], size: number): Uint8Array {
  if (parts.length === 1) return parts[0]!.slice();
  const whole = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The last place at or before `limit` where no character is cut in two. */
function characterBoundary(bytes: Uint8Array, limit: number): number {
  for (let at = limit; at > limit - 4 && at > 0; at--) {
    if ((bytes[at]! & 0xc0) !== 0x80) return at;
  }
  return limit;
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();

function validUtf8(bytes: Uint8Array): Uint8Array {
  for (const byte of bytes) {
    if (byte >= 0x80) return encoder.encode(decoder.decode(bytes));
  }
  return bytes;
}
