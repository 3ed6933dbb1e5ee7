/**
 * The signals that ask a process to stop, and what `nohup` and closed terminals mean for them.
 *
 * Deno leaves at SIGHUP as soon as a program listens to any signal, also where `nohup` had it ignored, so
 * SIGHUP always has a listener here.
 */

/** What asks for an orderly end. */
export const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP"] as const;

export type StopSignal = typeof STOP_SIGNALS[number];

/**
 * The same signal again within so many milliseconds is one request that came by two ways: `timeout` signals
 * its whole process group, and a launcher in it passes what it gets on to its child.
 */
const ECHO_MS = 100;

/**
 * Calls `listener` for every stop signal, but not for SIGHUP where the process was started with it ignored,
 * as by `nohup`: it goes on then. Disposing restores what the signals do otherwise.
 * @param now milliseconds of a clock that only goes forward
 */
export function onStopSignals(
  listener: (signal: StopSignal) => void,
  now: () => number = () => performance.now(),
): Disposable {
  const isHangupMeant = !isHangupIgnored();
  const listeners = STOP_SIGNALS.map((signal) => {
    let last = -Infinity;
    const onSignal = () => {
      const isEcho = now() - last < ECHO_MS;
      last = now();
      if (!isEcho && (signal !== "SIGHUP" || isHangupMeant)) listener(signal);
    };
    Deno.addSignalListener(signal, onSignal);
    return [signal, onSignal] as const;
  });
  return {
    [Symbol.dispose]() {
      for (const [signal, onSignal] of listeners) Deno.removeSignalListener(signal, onSignal);
    },
  };
}

/** Signals without a meaning here, which tools send to servers where they have one, to open logs anew say. */
const STRAY_SIGNALS = ["SIGUSR1", "SIGUSR2"] as const;

/**
 * Keeps such signals from ending the process, as they do where nobody listens; `onStray` is told what to
 * say about each. Called after `onStopSignals`, which can tell only before that what `nohup` has ignored.
 * Disposing lets them end it again.
 */
export function ignoreStraySignals(onStray: (message: string) => void): Disposable {
  const listeners = STRAY_SIGNALS.map((signal) => {
    const onSignal = () => onStray(`${signal} means nothing here and is ignored; SIGTERM stops`);
    Deno.addSignalListener(signal, onSignal);
    return [signal, onSignal] as const;
  });
  return {
    [Symbol.dispose]() {
      for (const [signal, onSignal] of listeners) Deno.removeSignalListener(signal, onSignal);
    },
  };
}

/**
 * Resolves with the first stop signal of a worker or gateway. A second one ends the process at once with
 * status 1, for whoever cannot wait for the drain; not SIGHUP, since a closed terminal says nothing of how
 * long anybody wants to wait. A supervised process leaves that, SIGINT and SIGHUP to its supervisor: what
 * a terminal or `timeout` sends to both must not cut the drain short.
 */
export function nextStopSignal(
  { isSupervised = false }: { readonly isSupervised?: boolean } = {},
): { readonly signal: Promise<StopSignal> } & Disposable {
  const { promise, resolve } = Promise.withResolvers<StopSignal>();
  let isStopping = false;
  const listeners = onStopSignals((signal) => {
    if (isSupervised && (signal !== "SIGTERM" || isStopping)) return;
    if (isStopping && signal !== "SIGHUP") Deno.exit(1);
    isStopping = true;
    resolve(signal);
  });
  return { signal: promise, [Symbol.dispose]: () => listeners[Symbol.dispose]() };
}

/** Signals that are ignored come as bits, the first for SIGHUP (proc_pid_status(5)). */
function isHangupIgnored(): boolean {
  try {
    const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1];
    return mask !== undefined && (Number.parseInt(mask.slice(-1), 16) & 1) === 1;
  } catch {
    return false;
  }
}
