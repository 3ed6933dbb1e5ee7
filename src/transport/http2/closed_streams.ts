/**
 * Remembers how recent streams closed, because late frames are judged by it: those for a stream we have
 * reset are ignored, those for a stream that ended are an error (RFC 9113 section 5.1).
 */

/** Streams remembered, of each kind. */
const REMEMBERED = 1024;

/** The last closed streams of one connection. */
export class ClosedStreams {
  // Ended streams are many, so they cost one store each; made when the first one closes.
  #ended: Int32Array | undefined;
  #endedCount = 0;
  /** In the order they were reset. */
  readonly #resetHere = new Set<number>();

  /** Notes a closed stream. `isResetHere`: by our RST_STREAM, so the peer may not know yet. */
  add(streamId: number, isResetHere: boolean): void {
    if (!isResetHere) {
      this.#ended ??= new Int32Array(REMEMBERED);
      this.#ended[this.#endedCount++ % REMEMBERED] = streamId;
      return;
    }
    this.#resetHere.add(streamId);
    if (this.#resetHere.size > REMEMBERED) {
      for (const oldest of this.#resetHere) {
        this.#resetHere.delete(oldest);
        break;
      }
    }
  }

  wasResetHere(streamId: number): boolean {
    return this.#resetHere.has(streamId);
  }

  /** Whether the stream is known to have been open. */
  has(streamId: number): boolean {
    return this.#resetHere.has(streamId) || (this.#ended?.includes(streamId) ?? false);
  }
}
