/** Stop signals as promises. */

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * Resolves with the first stop signal. A second one ends the process at once with status 1, for whoever
 * cannot wait for the drain. A supervised process leaves that, and SIGINT, to its supervisor: what a
 * terminal or `timeout` sends to both must not cut the drain short. Disposing restores the default
 * behaviour of both signals.
 */
export function nextStopSignal(
  { isSupervised = false }: { readonly isSupervised?: boolean } = {},
): { readonly signal: Promise<Deno.Signal> } & Disposable {
  const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
  let isStopping = false;
  const listeners = STOP_SIGNALS.map((signal) => {
    const listener = () => {
      if (isSupervised && (signal === "SIGINT" || isStopping)) return;
      if (isStopping) Deno.exit(1);
      isStopping = true;
      resolve(signal);
    };
    Deno.addSignalListener(signal, listener);
    return [signal, listener] as const;
  });
  return {
    signal: promise,
    [Symbol.dispose]() {
      for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
    },
  };
}
