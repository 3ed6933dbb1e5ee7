/** How many ModelInfer calls may be in progress in the gateway; the rest is refused at once. */

import { ResourceExhaustedError } from "../errors.ts";

export class Admission {
  readonly #max: () => number;
  #inFlight = 0;
  #shed = 0;

  /** @param max the cap at this moment; 0: none */
  constructor(max: () => number) {
    this.#max = max;
  }

  /** 0: no cap. */
  get max(): number {
    return this.#max();
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** Calls refused so far. */
  get shed(): number {
    return this.#shed;
  }

  /**
   * Takes a place, to be given back with `leave`.
   * @throws {ResourceExhaustedError} when all are taken
   */
  enter(): void {
    const max = this.#max();
    if (max > 0 && this.#inFlight >= max) {
      this.#shed++;
      throw new ResourceExhaustedError(
        `${max} requests are in progress, the most allowed ` +
          "(grpc.max_concurrent_requests_per_worker times the workers)",
      );
    }
    this.#inFlight++;
  }

  leave(): void {
    this.#inFlight--;
  }
}
