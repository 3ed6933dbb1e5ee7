/**
 * How many ModelInfer calls may be in progress. Only inference counts, so that an overloaded worker can
 * still be probed and controlled.
 */

import { ResourceExhaustedError } from "../errors.ts";

export class Admission {
  /** 0: no cap. */
  readonly max: number;
  #inFlight = 0;
  #shed = 0;

  constructor(max: number) {
    this.max = max;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Calls refused so far. */
  get shed(): number {
    return this.#shed;
  }

  /**
   * Takes a slot, given back when the result is disposed.
   * @throws {ResourceExhaustedError} when all are taken
   */
  enter(): Disposable {
    if (this.max > 0 && this.#inFlight >= this.max) {
      this.#shed++;
      throw new ResourceExhaustedError(
        `${this.max} requests are in progress, the most allowed (endpoints.max_concurrent_requests)`,
      );
    }
    this.#inFlight++;
    return this.#slot;
  }

  // One object serves every call: a slot has no state of its own.
  readonly #slot: Disposable = {
    [Symbol.dispose]: () => {
      this.#inFlight--;
    },
  };
}
