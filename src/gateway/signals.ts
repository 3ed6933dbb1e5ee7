/** What ends the gateway. */

import type { ParentLink } from "../parent_link.ts";

const STOP_SIGNALS = ["SIGTERM", "SIGINT"] as const;

/**
 * Resolves with the first stop signal, or when the supervisor is gone. A second signal ends the process
 * at once. Under a supervisor that and SIGINT are left to it: what a terminal or `timeout` sends to both
 * must not cut the drain short. Disposing restores the default behaviour of both signals.
 */
export function nextStop(
  link: ParentLink | undefined,
): { readonly reason: Promise<string> } & Disposable {
  const { promise, resolve } = Promise.withResolvers<string>();
  let isStopping = false;
  const listeners = STOP_SIGNALS.map((signal) => {
    const listener = () => {
      if (link !== undefined && (signal === "SIGINT" || isStopping)) return;
      if (isStopping) Deno.exit(1);
      isStopping = true;
      resolve(signal);
    };
    Deno.addSignalListener(signal, listener);
    return [signal, listener] as const;
  });
  void link?.closed.then(() => resolve(SUPERVISOR_GONE));
  return {
    reason: promise,
    [Symbol.dispose]() {
      for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
    },
  };
}

/** The reason when nobody supervises this process any more. */
export const SUPERVISOR_GONE = "supervisor gone";
