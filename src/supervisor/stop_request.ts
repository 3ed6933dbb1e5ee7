/** What asks a node to stop. */

const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

/** The first and the second request. Disposing restores what the signals do otherwise. */
export interface StopRequest extends Disposable {
  /** The first signal: leave, but finish what was begun. */
  readonly first: Promise<Deno.Signal>;
  /** The second, of those that somebody sends on purpose: leave now. */
  readonly second: Promise<Deno.Signal>;
}

/** Listens for stop signals. */
export function listenForStop(): StopRequest {
  const first = Promise.withResolvers<Deno.Signal>();
  const second = Promise.withResolvers<Deno.Signal>();
  let isAsked = false;
  const signals = STOP_SIGNALS.filter((signal) => signal !== "SIGHUP" || !isHangupIgnored());
  const listeners = signals.map((signal) => {
    const listener = () => {
      if (!isAsked) first.resolve(signal);
      // A terminal that is closed meanwhile says nothing about how long anybody wants to wait.
      else if (signal !== "SIGHUP") second.resolve(signal);
      isAsked = true;
    };
    Deno.addSignalListener(signal, listener);
    return [signal, listener] as const;
  });
  return {
    first: first.promise,
    second: second.promise,
    [Symbol.dispose]() {
      for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
    },
  };
}

/** `nohup` starts a program with SIGHUP ignored, and it is to stay that way. */
function isHangupIgnored(): boolean {
  try {
    const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1];
    return mask !== undefined && (Number.parseInt(mask.slice(-1), 16) & 1) === 1;
  } catch {
    return false;
  }
}
