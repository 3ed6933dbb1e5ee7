/** How many calls may be in progress on one worker; more wait in order, up to a bound. */

import { ResourceExhaustedError, type ServerError } from "../errors.ts";
import { type WaitingCall, WaitList } from "./wait_list.ts";

export interface StreamSlotsOptions {
  /** Of what, for messages; asked for each, since a worker may get another name. */
  readonly name: () => string;
  readonly limit: number;
  readonly maxWaiting: number;
}

export class StreamSlots {
  readonly #options: StreamSlotsOptions;
  readonly #waiting = new WaitList();
  #inUse = 0;

  constructor(options: StreamSlotsOptions) {
    this.#options = options;
  }

  /** Calls in progress. */
  get inUse(): number {
    return this.#inUse;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Takes a slot if one is free. */
  tryEnter(): boolean {
    if (this.#inUse >= this.#options.limit) return false;
    this.#inUse++;
    return true;
  }

  /**
   * Waits for a slot and takes it. Rejects with `ResourceExhaustedError` when too many wait already, and
   * as `WaitList.wait` does.
   */
  async enter(call: WaitingCall, deadlineMs: number): Promise<void> {
    if (this.tryEnter()) return;
    const { name, limit, maxWaiting } = this.#options;
    if (this.#waiting.size >= maxWaiting) {
      throw new ResourceExhaustedError(
        `${limit} calls are in progress on worker ${name()} and ${maxWaiting} wait, the most allowed`,
      );
    }
    await this.#waiting.wait(call, deadlineMs, `one of ${limit} streams of worker ${name()}`);
  }

  /** Gives a slot back: to the next in line, without becoming free in between. */
  leave(): void {
    if (!this.#waiting.wakeOne()) this.#inUse--;
  }

  /** Turns away everybody who waits. */
  failWaiting(error: ServerError): void {
    this.#waiting.failAll(error);
  }
}
