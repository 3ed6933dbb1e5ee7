/** The fuzzer's random numbers. */

import { Random as Numbers } from "../../src/protocol/testing/random.ts";

/** The same numbers for the same seed, everywhere. */
export class Random extends Numbers {
  /** True once in so many times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }
}
