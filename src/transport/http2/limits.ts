/**
 * Every limit that keeps one peer from hurting the process. Each names the attack it answers; the
 * defaults leave ordinary gRPC clients far away from them.
 */

/** A budget of `burst` events that fills up again by `perSecond`. */
export interface RateLimitOptions {
  readonly burst: number;
  readonly perSecond: number;
}

export interface Http2Limits {
  /** Streams the peer may have open at once; more are refused. Default 1024. */
  readonly maxConcurrentStreams: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE: names, values and 32 per field; over it the stream fails. Default 64 KiB. */
  readonly maxHeaderListBytes: number;
  /** Compressed bytes of one header block, however many frames it takes. Default 64 KiB. */
  readonly maxHeaderBlockBytes: number;
  /** CONTINUATION frames in one header block (CVE-2024-27316). Default 16. */
  readonly maxContinuationFrames: number;
  /** Parameters in one SETTINGS frame. Default 64. */
  readonly maxSettingsPerFrame: number;
  /**
   * Streams cut short by the peer, or by us for the peer's fault, soon after they began
   * (CVE-2023-44487 "rapid reset", CVE-2025-8671 "made you reset"). Each stream that completes gives
   * one back. Default 1000, 200/s.
   */
  readonly resets: RateLimitOptions;
  /** A reset of a stream older than this is ordinary cancellation and not counted. Default 500. */
  readonly rapidResetMs: number;
  /** Streams refused beyond `maxConcurrentStreams`. Default 10 000, 1000/s. */
  readonly refusedStreams: RateLimitOptions;
  /** SETTINGS frames (CVE-2019-9515). Default 100, 10/s. */
  readonly settings: RateLimitOptions;
  /**
   * PING frames with no HEADERS or DATA of ours in between (CVE-2019-9512); bandwidth probes, which
   * follow data, are not counted. Default 1000, 50/s.
   */
  readonly pings: RateLimitOptions;
  /** Empty DATA without END_STREAM and empty header fragments (CVE-2019-9518). Default 1000, 50/s. */
  readonly emptyFrames: RateLimitOptions;
  /**
   * WINDOW_UPDATE frames that grant fewer bytes than `tinyWindowBytes` (CVE-2019-9511 "data
   * dribble"). Each stream that completes gives some back: the clients of gRPC's C core, Python's among
   * them, grant the bytes of a small answer one by one. Default 10 000, 1000/s.
   */
  readonly tinyWindowUpdates: RateLimitOptions;
  /** Default 128. */
  readonly tinyWindowBytes: number;
  /** PRIORITY frames, unknown frames and frames for closed streams (CVE-2019-9513). Default 10 000, 1000/s. */
  readonly uselessFrames: RateLimitOptions;
  /** DATA waiting for window or socket on all streams together; a further stream is reset. Default 1 GiB. */
  readonly maxQueuedBytes: number;
  /** Finished frames waiting for the socket, after which nothing more is read. Default 1 MiB. */
  readonly maxOutboxBytes: number;
  /** Time for the preface and first SETTINGS, and for each header block, to arrive whole. Default 10 s. */
  readonly headerTimeoutMs: number;
  /** Time for the peer to acknowledge our SETTINGS. Default 30 s. */
  readonly settingsTimeoutMs: number;
  /**
   * A stream with DATA waiting must send `minSendBytes` in this time, and a socket with output waiting
   * must take some (CVE-2019-9517, slow readers). 0 turns it off. Default 60 s.
   */
  readonly sendTimeoutMs: number;
  /** Default 1024. */
  readonly minSendBytes: number;
  /** Informational (1xx) responses to one request. Default 16. */
  readonly maxInformational: number;
}

export const DEFAULT_LIMITS: Http2Limits = {
  maxConcurrentStreams: 1024,
  maxHeaderListBytes: 65_536,
  maxHeaderBlockBytes: 65_536,
  maxContinuationFrames: 16,
  maxSettingsPerFrame: 64,
  resets: { burst: 1000, perSecond: 200 },
  rapidResetMs: 500,
  refusedStreams: { burst: 10_000, perSecond: 1000 },
  settings: { burst: 100, perSecond: 10 },
  pings: { burst: 1000, perSecond: 50 },
  emptyFrames: { burst: 1000, perSecond: 50 },
  tinyWindowUpdates: { burst: 10_000, perSecond: 1000 },
  tinyWindowBytes: 128,
  uselessFrames: { burst: 10_000, perSecond: 1000 },
  maxQueuedBytes: 1 << 30,
  maxOutboxBytes: 1 << 20,
  headerTimeoutMs: 10_000,
  settingsTimeoutMs: 30_000,
  sendTimeoutMs: 60_000,
  minSendBytes: 1024,
  maxInformational: 16,
};

/** A token bucket. */
export class RateLimit {
  readonly #burst: number;
  readonly #perMs: number;
  #tokens: number;
  #at = 0;

  constructor(options: RateLimitOptions) {
    this.#burst = options.burst;
    this.#perMs = options.perSecond / 1000;
    this.#tokens = options.burst;
  }

  /** Takes one event off the budget; false when none is left. */
  take(nowMs: number): boolean {
    this.#tokens = Math.min(this.#burst, this.#tokens + (nowMs - this.#at) * this.#perMs);
    this.#at = nowMs;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  /** Gives events back. */
  restore(count: number): void {
    this.#tokens = Math.min(this.#burst, this.#tokens + count);
  }

  /** Gives everything back. */
  refill(): void {
    this.#tokens = this.#burst;
  }
}
