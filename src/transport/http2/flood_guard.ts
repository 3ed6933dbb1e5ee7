/** Counts what a peer may do too often, and ends the connection when it does. */

import { ConnectionError, ErrorCode } from "./error_codes.ts";
import { type Http2Limits, RateLimit } from "./limits.ts";

/** Twice what gRPC's C core (1.75) sends for one call with a small answer. */
const TINY_WINDOW_UPDATES_PER_STREAM = 4;

/** The budgets of one connection. Every method throws `ConnectionError` when its budget is spent. */
export class FloodGuard {
  readonly #resets: RateLimit;
  readonly #refusedStreams: RateLimit;
  readonly #settings: RateLimit;
  readonly #pings: RateLimit;
  readonly #emptyFrames: RateLimit;
  readonly #tinyWindowUpdates: RateLimit;
  readonly #uselessFrames: RateLimit;

  constructor(limits: Http2Limits) {
    this.#resets = new RateLimit(limits.resets);
    this.#refusedStreams = new RateLimit(limits.refusedStreams);
    this.#settings = new RateLimit(limits.settings);
    this.#pings = new RateLimit(limits.pings);
    this.#emptyFrames = new RateLimit(limits.emptyFrames);
    this.#tinyWindowUpdates = new RateLimit(limits.tinyWindowUpdates);
    this.#uselessFrames = new RateLimit(limits.uselessFrames);
  }

  reset(nowMs: number): void {
    spend(this.#resets, nowMs, "streams reset");
  }

  /** A stream ran to its end. */
  completed(): void {
    this.#resets.restore(1);
    this.#tinyWindowUpdates.restore(TINY_WINDOW_UPDATES_PER_STREAM);
  }

  refusedStream(nowMs: number): void {
    spend(this.#refusedStreams, nowMs, "streams over the limit");
  }

  settings(nowMs: number): void {
    spend(this.#settings, nowMs, "SETTINGS frames");
  }

  /** `afterWork`: we have sent HEADERS or DATA since the last one. */
  ping(nowMs: number, afterWork: boolean): void {
    if (afterWork) this.#pings.refill();
    spend(this.#pings, nowMs, "PING frames");
  }

  emptyFrame(nowMs: number): void {
    spend(this.#emptyFrames, nowMs, "empty frames");
  }

  tinyWindowUpdate(nowMs: number): void {
    spend(this.#tinyWindowUpdates, nowMs, "tiny WINDOW_UPDATE frames");
  }

  uselessFrame(nowMs: number): void {
    spend(this.#uselessFrames, nowMs, "frames without effect");
  }
}

function spend(limit: RateLimit, nowMs: number, what: string): void {
  if (!limit.take(nowMs)) {
    throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, `too many ${what}`);
  }
}
