/**
 * What is left of a bounded amount of host memory. Weights that would not fit are refused before they are
 * brought in, because beyond a control group's limit nothing fails in an orderly way: the kernel kills.
 */

import { ResourceExhaustedError } from "../../errors.ts";

export interface MemoryRoomOptions {
  /** Bytes that everything together may come to. */
  readonly limitBytes: number;
  /** Where the figure comes from, for messages. */
  readonly from: string;
  /** Bytes in use now, by everything that the limit is for; `undefined`: it cannot be told. */
  readonly usedBytes: () => number | undefined;
  /** Gives back what is in use for nothing, before anyone is refused. */
  readonly release?: () => Promise<void>;
}

export class MemoryRoom {
  readonly #options: MemoryRoomOptions;
  /** Promised to those who are at it, part of which shows as used already. */
  #claimedBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(options: MemoryRoomOptions) {
    this.#options = options;
  }

  /**
   * Sets room aside for weights that are about to be brought in; to be disposed when they are, and so
   * show as used. Where it is tight, others who are at it are waited for.
   * @param scratchBytes what has to be left beside them, for copies on their way and for dispatches
   * @throws {ResourceExhaustedError} when there is no room and nobody is at it
   */
  async claim(model: string, bytes: number, scratchBytes = 0): Promise<Disposable> {
    const { limitBytes, from, usedBytes, release } = this.#options;
    let hasReleased = release === undefined;
    for (;;) {
      const leftBytes = limitBytes - (usedBytes() ?? 0) - this.#claimedBytes;
      if (bytes + scratchBytes <= leftBytes) break;
      if (!hasReleased) {
        hasReleased = true;
        await release!();
        continue;
      }
      if (this.#claimedBytes === 0) {
        const scratch = scratchBytes > 0
          ? `, ${mebibytes(scratchBytes)} more to bring them in and for dispatches`
          : "";
        throw new ResourceExhaustedError(
          `The weights of model ${JSON.stringify(model)} take ${mebibytes(bytes)} of memory` +
            `${scratch}, and ${mebibytes(Math.max(0, leftBytes))} are left of ` +
            `${mebibytes(limitBytes)} (${from}); give the container more, or serve fewer models`,
        );
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#claimedBytes += bytes;
    let isHeld = true;
    return {
      [Symbol.dispose]: () => {
        if (!isHeld) return;
        isHeld = false;
        this.#claimedBytes -= bytes;
        for (const wake of this.#waiting.splice(0)) wake();
      },
    };
  }
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
