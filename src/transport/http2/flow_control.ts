/** Flow-control windows (RFC 9113 section 5.2), for one stream or a whole connection. */

import { MAX_INT31 } from "./frames.ts";

/** What we may still send. Goes negative when the peer lowers its initial window. */
export class SendWindow {
  available: number;

  constructor(initial: number) {
    this.available = initial;
  }

  /** Adds a WINDOW_UPDATE or a change of the initial size. False: over 2^31 - 1, a protocol error. */
  grow(bytes: number): boolean {
    this.available += bytes;
    return this.available <= MAX_INT31;
  }
}

/** What the peer may still send. Credit is announced in large steps, not for every frame. */
export class ReceiveWindow {
  #available: number;
  #owed = 0;
  readonly #step: number;

  /**
   * `size`: the window kept open; `available`: what the peer may send at this moment, where that is
   * different. A quarter of the window is announced at a time: often enough that a peer with data
   * never runs dry, seldom enough that it costs nothing.
   */
  constructor(size: number, available = size) {
    this.#available = available;
    this.#step = Math.max(1, size >>> 2);
  }

  /** Takes a received frame off the window. False: the peer sent more than it was allowed. */
  receive(bytes: number): boolean {
    this.#available -= bytes;
    return this.#available >= 0;
  }

  /** Gives bytes back; returns the WINDOW_UPDATE increment to send now, or 0 to wait. */
  release(bytes: number): number {
    this.#owed += bytes;
    if (this.#owed < this.#step) return 0;
    const increment = this.#owed;
    this.#owed = 0;
    this.#available += increment;
    return increment;
  }

  /** The peer has acknowledged a smaller window than it started with. */
  shrink(bytes: number): void {
    this.#available -= bytes;
  }
}
