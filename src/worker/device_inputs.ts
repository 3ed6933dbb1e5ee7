/** A dispatch's inputs, copied to the device before it is certain that the dispatch runs. */

import type { Backend, DeviceAccount, DeviceBuffer, HostTensor } from "../runtime/mod.ts";
import { byteLengthOf } from "../tensor/mod.ts";

/** States: copying, there (or failed), disposed. Disposing is safe in each; what was copied is freed. */
export class DeviceInputs implements Disposable {
  /** Settles when the host's memory is not read any more; whether all is on the device. Never rejects. */
  readonly copied: Promise<boolean>;
  /** Of the device's memory, in use until this is disposed. */
  readonly byteLength: number;
  readonly #account: DeviceAccount;
  #buffers: readonly DeviceBuffer[] = [];
  #seconds = 0;
  #isDisposed = false;

  /** @param account where the device's memory is booked as taken, until disposed */
  constructor(backend: Backend, inputs: readonly HostTensor[], account: DeviceAccount) {
    this.#account = account;
    this.byteLength = inputs.reduce((sum, spec) => sum + byteLengthOf(spec), 0);
    account.take(this.byteLength);
    this.copied = this.#copy(backend, inputs);
  }

  /** In program order. Empty unless `copied` has said that they are there. */
  get buffers(): readonly DeviceBuffer[] {
    return this.#buffers;
  }

  /** How long copying took. */
  get seconds(): number {
    return this.#seconds;
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    void this.copied.then(() => {
      for (const buffer of this.#buffers) buffer[Symbol.dispose]();
      this.#account.give(this.byteLength);
    });
  }

  async #copy(backend: Backend, inputs: readonly HostTensor[]): Promise<boolean> {
    const startMs = performance.now();
    // All settle, so that a failure leaves nothing behind that still reads or is not freed.
    const results = await Promise.allSettled(
      inputs.map((input) => backend.upload(input, input.data)),
    );
    this.#seconds = (performance.now() - startMs) / 1000;
    const buffers = results.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
    if (buffers.length === inputs.length) {
      this.#buffers = buffers;
      return true;
    }
    for (const buffer of buffers) buffer[Symbol.dispose]();
    return false;
  }
}
