/**
 * Holds inference back on a worker while its shared-memory regions change. Operations may overlap: the
 * gate opens when the last of them is done.
 */

import { type WaitingCall, WaitList } from "./wait_list.ts";

export class OperationGate {
  readonly #waiting = new WaitList();
  #operations = 0;

  get isOpen(): boolean {
    return this.#operations === 0;
  }

  /** An operation begins; it ends when the result is disposed. */
  operation(): Disposable {
    this.#operations++;
    let isOver = false;
    return {
      [Symbol.dispose]: () => {
        if (isOver) return;
        isOver = true;
        if (--this.#operations === 0) this.#waiting.wakeAll();
      },
    };
  }

  /** Resolves when no operation is in progress. Rejects as `WaitList.wait` does. */
  async opened(call: WaitingCall, deadlineMs: number): Promise<void> {
    while (!this.isOpen) {
      await this.#waiting.wait(call, deadlineMs, "a shared-memory operation to end");
    }
  }
}
