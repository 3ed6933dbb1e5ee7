/** How a connection is set up; everything has a default. */

import { DEFAULT_LIMITS, type Http2Limits } from "./limits.ts";
import { MAX_INT31, MAX_MAX_FRAME_BYTES, MIN_MAX_FRAME_BYTES } from "./frames.ts";
import { DEFAULT_TABLE_BYTES } from "./hpack_table.ts";

/** Time, as a parameter, so that tests need not wait. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
  /** Calls `callback` every `ms` until the returned function is called. */
  every(ms: number, callback: () => void): () => void;
}

/** The process's own clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => performance.now(),
  every: (ms, callback) => {
    const id = setInterval(callback, ms);
    Deno.unrefTimer(id);
    return () => clearInterval(id);
  },
};

export interface Http2Options {
  /** Remote address, for logs. Default "unknown". */
  readonly peer?: string;
  readonly limits?: Partial<Http2Limits>;
  /** What one stream may have received and not consumed. Default 32 MiB. */
  readonly streamWindowBytes?: number;
  /** What all streams together may have received and not consumed. Default 128 MiB. */
  readonly connectionWindowBytes?: number;
  /** SETTINGS_MAX_FRAME_SIZE: frames are passed on in pieces, so large ones cost no memory. Default 1 MiB. */
  readonly maxFrameBytes?: number;
  /** Size of the HPACK table, ours and the largest we keep for the peer. Default 4096. */
  readonly headerTableBytes?: number;
  /** A PING goes out when nothing has arrived for this long. 0: never. Default 120 s for a server, 0 for a client. */
  readonly keepaliveIntervalMs?: number;
  /** The connection is dead when nothing arrives for this long after that PING. Default 20 s. */
  readonly keepaliveTimeoutMs?: number;
  /** A connection with no stream for this long is drained. 0: never. Default 30 min for a server, 0 for a client. */
  readonly idleTimeoutMs?: number;
  /** How often the timeouts are looked at. Default 1 s. */
  readonly tickMs?: number;
  readonly clock?: Clock;
  /** Told of an exception thrown by a callback of the layer above: a defect. Its stream is reset. */
  readonly onError?: (error: unknown) => void;
  /** Client side: `canOpen` or `activeStreams` may have changed. Not called from within `open`. */
  readonly onAvailabilityChange?: () => void;
}

/** Options with every default filled in. */
export type ResolvedOptions =
  & Required<Omit<Http2Options, "limits">>
  & { readonly limits: Http2Limits };

/** Fills in the defaults and keeps sizes within what the protocol can express. */
export function resolveOptions(options: Http2Options, isServer: boolean): ResolvedOptions {
  return {
    peer: options.peer ?? "unknown",
    limits: { ...DEFAULT_LIMITS, ...options.limits },
    streamWindowBytes: clamp(options.streamWindowBytes ?? 32 << 20, 1, MAX_INT31),
    connectionWindowBytes: clamp(options.connectionWindowBytes ?? 128 << 20, 65_535, MAX_INT31),
    maxFrameBytes: clamp(
      options.maxFrameBytes ?? 1 << 20,
      MIN_MAX_FRAME_BYTES,
      MAX_MAX_FRAME_BYTES,
    ),
    headerTableBytes: clamp(options.headerTableBytes ?? DEFAULT_TABLE_BYTES, 0, 1 << 20),
    keepaliveIntervalMs: options.keepaliveIntervalMs ?? (isServer ? 120_000 : 0),
    keepaliveTimeoutMs: options.keepaliveTimeoutMs ?? 20_000,
    idleTimeoutMs: options.idleTimeoutMs ?? (isServer ? 30 * 60_000 : 0),
    tickMs: options.tickMs ?? 1000,
    clock: options.clock ?? systemClock,
    onError: options.onError ?? (() => {}),
    onAvailabilityChange: options.onAvailabilityChange ?? (() => {}),
  };
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}
