/** The one-shot "this call is over" of a call, which becomes an `AbortSignal` only when asked for. */

import type { ServerError } from "../errors.ts";

/** Holds the reason, tells listeners, and makes the signal on first use. */
export class AbortSource {
  #reason: ServerError | undefined;
  #controller: AbortController | undefined;
  #listeners: ((reason: ServerError) => void)[] | undefined;

  get reason(): ServerError | undefined {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#reason !== undefined) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  onAbort(listener: (reason: ServerError) => void): void {
    if (this.#reason !== undefined) listener(this.#reason);
    else (this.#listeners ??= []).push(listener);
  }

  /** The first reason counts. */
  abort(reason: ServerError): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    const listeners = this.#listeners;
    this.#listeners = undefined;
    if (listeners !== undefined) { for (const listener of listeners) listener(reason); }
    this.#controller?.abort(reason);
  }
}
