/** When a child that ended is started again. It has no clock: the caller measures the uptime. */

/** A run this long counts as stable and clears the record. */
export const STABLE_SECONDS = 60;
/** Longest wait between two starts. */
export const MAX_DELAY_SECONDS = 30;

/** What to do about a child that ended. */
export type RestartDecision =
  | { readonly action: "restart"; readonly delaySeconds: number; readonly failures: number }
  | { readonly action: "give up"; readonly failures: number };

/** The record of one child. */
export class RestartPolicy {
  readonly #maxRestarts: number;
  #failures = 0;

  /** @param maxRestarts restarts in a row without a stable run before giving up; 0: never */
  constructor(maxRestarts: number) {
    this.#maxRestarts = maxRestarts;
  }

  /** The child ended, or (with an uptime of 0) could not be started. */
  ended(uptimeSeconds: number): RestartDecision {
    if (uptimeSeconds >= STABLE_SECONDS) this.#failures = 0;
    const failures = ++this.#failures;
    if (this.#maxRestarts > 0 && failures > this.#maxRestarts) {
      return { action: "give up", failures };
    }
    return {
      action: "restart",
      delaySeconds: Math.min(2 ** (failures - 1), MAX_DELAY_SECONDS),
      failures,
    };
  }
}
