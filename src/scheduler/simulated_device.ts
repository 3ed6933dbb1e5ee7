/** A device on a virtual clock, for tests of this folder: copies in, computing and copies out. */

import { setImmediate } from "node:timers/promises";
import type { NamedTensor } from "../tensor/mod.ts";
import type { DispatchInputs, RunOptions, RunOutcome, ScheduledModel } from "./scheduled_model.ts";

/** A dispatch as it reached the device. */
export interface Started {
  readonly model: string;
  readonly size: number;
  /** The first byte of each row, padding included. */
  readonly rows: readonly number[];
  readonly atMs: number;
}

/** Milliseconds. */
export interface Timing {
  readonly copyIn: number;
  readonly compute: number;
  readonly copyOut: number;
}

/** One engine each for copies in, computing, and copies out. */
export class SimulatedDevice {
  nowMs = 0;
  readonly started: Started[] = [];
  /** Dispatches with memory on the device, staged ones included: now, and at most. */
  present = 0;
  mostPresent = 0;
  /** When each engine was busy. */
  readonly busy: Record<"copyIn" | "compute" | "copyOut", [fromMs: number, toMs: number][]> = {
    copyIn: [],
    compute: [],
    copyOut: [],
  };
  /** Copies that are still to fail, before they begin or on their way. */
  failsToStage: ("at once" | "later")[] = [];
  #events: { readonly atMs: number; readonly happen: () => unknown }[] = [];

  /** Lets something happen at a time, and nothing else until that has. */
  at(atMs: number, happen: () => unknown): void {
    const after = this.#events.findIndex((event) => event.atMs > atMs);
    this.#events.splice(after < 0 ? this.#events.length : after, 0, { atMs, happen });
  }

  /** Settles at a time. */
  until(atMs: number): Promise<void> {
    return new Promise((resolve) => this.at(atMs, resolve));
  }

  /** Milliseconds in which an engine copied while the device computed. */
  overlapMs(engine: "copyIn" | "copyOut"): number {
    let sum = 0;
    for (const [from, to] of this.busy[engine]) {
      for (const [start, end] of this.busy.compute) {
        sum += Math.max(0, Math.min(to, end) - Math.max(from, start));
      }
    }
    return sum;
  }

  /** Keeps an engine busy, from a time on at the earliest. @returns until when */
  #occupy(engine: keyof SimulatedDevice["busy"], fromMs: number, ms: number): number {
    const start = Math.max(fromMs, this.busy[engine].at(-1)?.[1] ?? 0);
    this.busy[engine].push([start, start + ms]);
    return start + ms;
  }

  /** Lets everything happen, one event after the other. */
  async drain(): Promise<void> {
    for (;;) {
      await setImmediate();
      const event = this.#events.shift();
      if (!event) return;
      this.nowMs = Math.max(this.nowMs, event.atMs);
      await event.happen();
    }
  }

  /**
   * A model that gives back its inputs.
   * @param timing of a dispatch; `isApart`: somebody is told when it is computed, before copies out
   * @param fails whether a dispatch fails when it has been computed
   */
  model(
    name: string,
    options: {
      readonly sizes: readonly number[];
      readonly weight?: number;
      readonly timing: (dispatch: DispatchInputs, isApart: boolean) => Timing;
      readonly fails?: (rows: readonly number[]) => boolean;
      /** Whether its outputs then fail to be copied. */
      readonly failsToLand?: (rows: readonly number[]) => boolean;
      readonly isReady?: () => boolean;
    },
  ): ScheduledModel {
    const { sizes, weight = 1, timing, fails, failsToLand, isReady } = options;
    const enter = () => this.mostPresent = Math.max(this.mostPresent, ++this.present);
    const copyIn = (dispatch: DispatchInputs) =>
      this.#occupy("copyIn", this.nowMs, timing(dispatch, false).copyIn);
    const compute = async (
      dispatch: DispatchInputs,
      fromMs: number,
      { onExecuted }: RunOptions,
    ): Promise<RunOutcome> => {
      const { size, inputs } = dispatch;
      const rows = [...inputs[0]!.data];
      this.started.push({ model: model.name, size, rows, atMs: this.nowMs });
      const { copyIn, compute, copyOut } = timing(dispatch, onExecuted !== undefined);
      try {
        await this.until(this.#occupy("compute", fromMs, compute));
        if (fails?.(rows)) throw new Error("computed in vain");
        onExecuted?.();
        if (copyOut > 0) await this.until(this.#occupy("copyOut", this.nowMs, copyOut));
        if (failsToLand?.(rows)) throw new Error("copied in vain");
        const outputs = inputs.map((input) => ({ ...input, data: input.data.slice() }));
        const stages = { input: copyIn, execute: compute, output: copyOut };
        return { outputs, stages };
      } finally {
        this.present--;
      }
    };
    const model: ScheduledModel = {
      name,
      isCoalescable: sizes.length > 1,
      maxRows: undefined,
      weight,
      sizes: () => sizes,
      inputBatchAxes: [0],
      outputBatchAxes: [0],
      isReady,
      run: async (dispatch) => {
        if (dispatch.after) await dispatch.after;
        enter();
        return await compute(dispatch, copyIn(dispatch), dispatch);
      },
      stage: (dispatch) => {
        const failure = this.failsToStage.shift();
        if (failure === "at once") throw new Error("not now");
        enter();
        let isSettled = false;
        const copied = this.until(copyIn(dispatch)).then(() => {
          isSettled = true;
          return !failure;
        });
        const leave = () => this.present--;
        return {
          copied,
          run: async (options) => {
            if (await copied) return await compute(dispatch, this.nowMs, options);
            leave();
            return await model.run({ ...dispatch, ...options });
          },
          release: () => isSettled ? leave() : void copied.then(leave),
        };
      },
    };
    return model;
  }
}

/** A tensor [rows, 1] whose rows are all `value`. */
export function rowsOf(value: number, rows: number): NamedTensor {
  return {
    name: "x",
    datatype: "UINT8",
    shape: [rows, 1],
    data: new Uint8Array(rows).fill(value),
  };
}
