/** Device memory as far as we give it out, for devices that keep no account of their own. */

/** Bytes taken now and at most; where their owners say so, which is all it knows. */
export class DeviceAccount {
  #inUseBytes = 0;
  #peakBytes = 0;

  /** Taken now. */
  get inUseBytes(): number {
    return this.#inUseBytes;
  }

  /** The most that was taken at once. */
  get peakBytes(): number {
    return this.#peakBytes;
  }

  take(bytes: number): void {
    this.#inUseBytes += bytes;
    if (this.#inUseBytes > this.#peakBytes) this.#peakBytes = this.#inUseBytes;
  }

  give(bytes: number): void {
    this.#inUseBytes -= bytes;
  }
}
