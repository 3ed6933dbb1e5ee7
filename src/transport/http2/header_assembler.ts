/** Joins HEADERS and CONTINUATION frames into one header block, within limits (CVE-2024-27316). */

import { ConnectionError, ErrorCode } from "./error_codes.ts";
import type { Http2Limits } from "./limits.ts";

/** The header block being received in pieces. One per connection. */
export class HeaderAssembler {
  /** The stream whose block is incomplete; 0: none. Until it is complete no other frame may come. */
  streamId = 0;
  /** Flags of the HEADERS frame. */
  flags = 0;
  /** The HEADERS frame made the stream depend on itself. */
  isSelfDependent = false;
  /** The block so far is `bytes[0, length)`. */
  bytes: Uint8Array = new Uint8Array(0);
  length = 0;
  /** When the block began, on the connection's clock. */
  startedMs = 0;

  #frames = 0;
  readonly #limits: Http2Limits;

  constructor(limits: Http2Limits) {
    this.#limits = limits;
  }

  /** Starts a block with the fragment of a HEADERS frame. */
  begin(streamId: number, flags: number, isSelfDependent: boolean, nowMs: number): void {
    this.streamId = streamId;
    this.flags = flags;
    this.isSelfDependent = isSelfDependent;
    this.startedMs = nowMs;
    this.length = 0;
    this.#frames = 0;
  }

  /** Adds a fragment. Throws `ConnectionError` over a limit. */
  add(bytes: Uint8Array, start: number, end: number): void {
    const length = this.length + end - start;
    if (length > this.#limits.maxHeaderBlockBytes) {
      throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "header block is over the limit");
    }
    if (this.#frames++ > this.#limits.maxContinuationFrames) {
      throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames");
    }
    if (length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(1024, length * 2));
      larger.set(this.bytes.subarray(0, this.length));
      this.bytes = larger;
    }
    this.bytes.set(bytes.subarray(start, end), this.length);
    this.length = length;
  }

  /** The block is complete. */
  finish(): void {
    this.streamId = 0;
  }
}
