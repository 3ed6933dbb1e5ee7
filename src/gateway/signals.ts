/** What ends the gateway. */

import type { ParentLink } from "../parent_link.ts";
import { nextStopSignal } from "../stop_signals.ts";

/**
 * Resolves with the first stop signal, or when the supervisor is gone. Disposing restores the default
 * behaviour of the signals.
 */
export function nextStop(
  link: ParentLink | undefined,
): { readonly reason: Promise<string> } & Disposable {
  const stop = nextStopSignal({ isSupervised: link !== undefined });
  const gone = link?.closed.then(() => SUPERVISOR_GONE);
  return {
    reason: gone === undefined ? stop.signal : Promise.race([stop.signal, gone]),
    [Symbol.dispose]: () => stop[Symbol.dispose](),
  };
}

/** The reason when nobody supervises this process any more. */
export const SUPERVISOR_GONE = "supervisor gone";
