/** Trying again: which failures are worth it, how long to wait, and when to stop. */

import { CancelledError, messageOf, ServerError } from "../errors.ts";

/** When calls are tried again. */
export interface RetryPolicy {
  readonly isEnabled: boolean;
  readonly initialBackoffMs: number;
  /** Each wait may be this many times as long as the one before. */
  readonly factor: number;
  /** No attempt is made with less time than this left. */
  readonly minimumBudgetMs: number;
  /** Also after UNAVAILABLE, not only after RESOURCE_EXHAUSTED. */
  readonly retriesUnavailable: boolean;
}

export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  isEnabled: true,
  initialBackoffMs: 1000,
  factor: 2,
  minimumBudgetMs: 50,
  retriesUnavailable: true,
};

/** One attempt per call. */
export const NO_RETRIES: RetryPolicy = { ...DEFAULT_RETRY_POLICY, isEnabled: false };

/** Time and chance; a test brings its own. */
export interface RetryClock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Rejects with a `CancelledError` when the signal ends it. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
  /** Uniform in [0, 1). */
  random(): number;
}

export const systemRetryClock: RetryClock = {
  now: () => performance.now(),
  sleep: (milliseconds, signal) =>
    new Promise((resolve, reject) => {
      const over = () => {
        clearTimeout(timer);
        reject(new CancelledError(`The call was cancelled: ${messageOf(signal!.reason)}`));
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", over);
        resolve();
      }, milliseconds);
      signal?.addEventListener("abort", over, { once: true });
      if (signal?.aborted) over();
    }),
  random: () => Math.random(),
};

export interface RetryOptions {
  readonly policy: RetryPolicy;
  /** For all attempts and waits together; 0 or less: no limit, and so one attempt only. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
  readonly clock?: RetryClock;
}

/**
 * Runs `attempt` until it succeeds, fails for good, or what is left of the time does not cover another
 * wait. Waits are drawn between nothing and the current backoff, so that many clients of one
 * overloaded server do not come back together. Throws what the last attempt threw.
 *
 * @param attempt is given the milliseconds that are left, `undefined` without a deadline
 */
export async function withRetries<T>(
  attempt: (budgetMs: number | undefined) => Promise<T>,
  { policy, deadlineMs, signal, clock = systemRetryClock }: RetryOptions,
): Promise<T> {
  if (deadlineMs <= 0) return await attempt(undefined);
  const endMs = clock.now() + deadlineMs;
  for (let backoffMs = policy.initialBackoffMs;; backoffMs *= policy.factor) {
    try {
      return await attempt(endMs - clock.now());
    } catch (error) {
      if (!isWorthRetrying(error, policy)) throw error;
      const waitMs = clock.random() * backoffMs;
      if (clock.now() + waitMs >= endMs - policy.minimumBudgetMs) throw error;
      await clock.sleep(waitMs, signal);
    }
  }
}

/**
 * Whether a server does not know the shared-memory region a request refers to: it was restarted, say.
 * Behind a gateway the status may be another one, so the wording counts as well.
 */
export function isStaleRegistration(error: unknown): boolean {
  return error instanceof ServerError && (error.status === "FAILED_PRECONDITION" ||
    error.message.includes("unregistered shared memory region"));
}

function isWorthRetrying(error: unknown, policy: RetryPolicy): boolean {
  if (!policy.isEnabled || !(error instanceof ServerError) || isStaleRegistration(error)) {
    return false;
  }
  return error.status === "RESOURCE_EXHAUSTED" ||
    (policy.retriesUnavailable && error.status === "UNAVAILABLE");
}
