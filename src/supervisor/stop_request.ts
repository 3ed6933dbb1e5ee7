/** What asks a node to stop. */

import { onStopSignals, type StopSignal } from "../stop_signals.ts";

/** The first and the second request. Disposing restores what the signals do otherwise. */
export interface StopRequest extends Disposable {
  /** The first signal: leave, but finish what was begun. */
  readonly first: Promise<StopSignal>;
  /** The second, of those that somebody sends on purpose: leave now. */
  readonly second: Promise<StopSignal>;
}

/** Listens for stop signals. @param now see `onStopSignals` */
export function listenForStop(now?: () => number): StopRequest {
  const first = Promise.withResolvers<StopSignal>();
  const second = Promise.withResolvers<StopSignal>();
  let isAsked = false;
  const listeners = onStopSignals((signal) => {
    if (!isAsked) first.resolve(signal);
    // A terminal that is closed meanwhile says nothing about how long anybody wants to wait.
    else if (signal !== "SIGHUP") second.resolve(signal);
    isAsked = true;
  }, now);
  return {
    first: first.promise,
    second: second.promise,
    [Symbol.dispose]: () => listeners[Symbol.dispose](),
  };
}
