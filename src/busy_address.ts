/**
 * Listening where somebody else still listens. A node that was killed and started again finds its ports
 * held until the workers of its predecessor have left, which takes them some seconds.
 */

import { pause } from "./pause.ts";

/** How long orphans may hold a port: their own few seconds, and those until somebody kills them. */
export const BUSY_ADDRESS_SECONDS = 8;
/** Time between two attempts. */
const ATTEMPT_MS = 250;

/** What is tried, and for how long. */
export interface BusyAddressOptions {
  /** How long to go on while the address is in use; 0: one attempt. */
  readonly seconds: number;
  /** Ends the waiting: the next failure counts. */
  readonly signal: AbortSignal;
  /** The address was in use at the first attempt. */
  readonly onBusy: (error: unknown) => void;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
  /** Resolves after a time, or earlier when the signal is aborted; never rejects. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/**
 * Calls `listen` until it succeeds, fails for another reason than an address in use, or time is up.
 * @throws what `listen` threw last
 */
export async function whileBusy<T>(
  listen: () => T | Promise<T>,
  { seconds, signal, onBusy, now = () => performance.now(), sleep = pause }: BusyAddressOptions,
): Promise<T> {
  const endMs = now() + seconds * 1000;
  for (let attempt = 1;; attempt++) {
    try {
      return await listen();
    } catch (error) {
      if (!isAddressInUse(error) || signal.aborted || now() >= endMs) throw error;
      if (attempt === 1) onBusy(error);
      await sleep(ATTEMPT_MS, signal);
    }
  }
}

/** Whether an error, or what caused it, says that an address is in use. */
export function isAddressInUse(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof Deno.errors.AddrInUse) return true;
    // Node's way; grpc-js gives the code in the text alone.
    if ("code" in cause && cause.code === "EADDRINUSE") return true;
    if (/\bEADDRINUSE\b/.test(cause.message)) return true;
  }
  return false;
}
