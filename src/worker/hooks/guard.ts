/**
 * Runs hook code so that it ends. Ending a worker does not stop JavaScript that is running in it (Deno
 * 2.8.3 only asks it to leave when it next waits), so a loop would keep its processor for good. What does
 * stop it is the time limit of a `node:vm` script: each entry into hook code is one run of such a script,
 * and so is what the hook goes on to do after an `await`, because the microtasks are run inside too.
 */

import { Script } from "node:vm";

export interface Guard {
  /** Runs `work` and its microtasks at once; only for callers that are no microtask themselves. */
  run(work: () => void): void;
  /** The same, soon. */
  schedule(work: () => void): void;
}

export interface GuardOptions {
  /** Asked at each entry. */
  readonly budgetMs: () => number;
  readonly onTimeout: () => void;
  /** Told of what `work` throws, still inside: looking at a thrown value may run hook code. */
  readonly onError: (error: unknown) => void;
}

const ENTRY = "__enter";
/** The pool is to notice first, since it knows the request. */
const MARGIN_MS = 20;

/** Must be made before the realm is sealed. */
export function makeGuard({ budgetMs, onTimeout, onError }: GuardOptions): Guard {
  const runMicrotasks = findRunMicrotasks();
  const script = new Script(`${ENTRY}()`);
  const runScript = script.runInThisContext.bind(script);
  const immediate = globalThis.setImmediate;
  const { ceil, max } = Math;
  let entry: (() => void) | undefined;
  Object.defineProperty(globalThis, ENTRY, {
    value: () => {
      const work = entry;
      entry = undefined;
      if (!work) return;
      try {
        work();
      } catch (error) {
        onError(error);
      }
      runMicrotasks();
    },
  });
  const run = (work: () => void) => {
    entry = work;
    try {
      runScript({ timeout: max(1, ceil(budgetMs())) + MARGIN_MS, displayErrors: false });
    } catch (error) {
      if ((error as { code?: unknown })?.code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
      onTimeout();
    }
  };
  return { run, schedule: (work) => void immediate(() => run(work)) };
}

/** Deno's own; without it what follows an `await` would not be bounded. */
function findRunMicrotasks(): () => void {
  const { internal } = Deno as unknown as { internal: symbol };
  const { core } = (Deno as unknown as Record<symbol, { core: { runMicrotasks(): void } }>)[
    internal
  ]!;
  return core.runMicrotasks;
}
