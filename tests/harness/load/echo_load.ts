/** Calls that go on and on, each with numbers of its own, whose answers are compared to the last bit. */

import type { InferenceClient } from "../../../src/client/mod.ts";
import { ServerError } from "../../../src/errors.ts";

export interface EchoLoadOptions {
  readonly inference: InferenceClient;
  /** A model with `x` FP32 [n, 3] and the same `y`. */
  readonly model: string;
  readonly callers: number;
  /** Of each call. */
  readonly timeoutMs: number;
}

/** What became of the calls so far. */
export interface EchoTally {
  readonly answered: number;
  readonly wrong: number;
  /** Calls by status, with one of the messages. */
  readonly failed: ReadonlyMap<string, { readonly count: number; readonly message: string }>;
}

export interface EchoLoad {
  readonly tally: EchoTally;
  /** Lets the calls in progress end. */
  stop(): Promise<EchoTally>;
}

/** Starts the callers; each has one call in progress at any time. */
export function startEchoLoad(options: EchoLoadOptions): EchoLoad {
  const failed = new Map<string, { count: number; message: string }>();
  const tally = { answered: 0, wrong: 0, failed };
  let isOver = false;
  const caller = async () => {
    while (!isOver) {
      const x = crypto.getRandomValues(new Uint8Array(12));
      // No NaN, of which there are many that mean the same.
      for (const at of [3, 7, 11]) x[at] = x[at]! & 0x3f;
      try {
        const { outputs } = await options.inference.infer({
          modelName: options.model,
          inputs: [{ name: "x", datatype: "FP32", shape: [1, 3], data: x }],
        }, { deadlineMs: performance.now() + options.timeoutMs });
        if (outputs[0]?.data.every((byte, at) => byte === x[at]) !== true) tally.wrong++;
        tally.answered++;
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
        const { count = 0 } = failed.get(error.status) ?? {};
        failed.set(error.status, { count: count + 1, message: error.message });
      }
    }
  };
  const callers = Array.from({ length: options.callers }, caller);
  return {
    tally,
    async stop() {
      isOver = true;
      await Promise.all(callers);
      return tally;
    },
  };
}
