/** What the tests of the scheduler share: a device that does as it is told, and work for it. */

import type { NamedTensor } from "../tensor/mod.ts";
import { ServerError } from "../errors.ts";
import type { DispatchRecord } from "./batch_run.ts";
import { fifo } from "./disciplines/fifo.ts";
import type { Work } from "./queue.ts";
import type { ScheduledModel } from "./scheduled_model.ts";
import { Scheduler } from "./scheduler.ts";

/** A device under the test's control: dispatches wait until released, on a clock that is set by hand. */
export class Device {
  nowMs = 0;
  readonly started: { model: string; size: number; values: number[] }[] = [];
  readonly #gates: (() => void)[] = [];
  isOpen = true;
  readonly #models = new Map<string, ScheduledModel>();

  /** The newest model made under a name. */
  named(name: string): ScheduledModel {
    return this.#models.get(name) ?? this.model(name);
  }

  model(name: string, options: Partial<ScheduledModel> & { costMs?: number } = {}): ScheduledModel {
    const model: ScheduledModel = {
      name,
      isCoalescable: true,
      maxRows: undefined,
      weight: 1,
      sizes: () => [1, 4],
      inputBatchAxes: [0],
      outputBatchAxes: [0],
      run: async ({ size, inputs }) => {
        const values = [...inputs[0]!.data];
        this.started.push({ model: name, size, values });
        if (!this.isOpen) await new Promise<void>((resolve) => this.#gates.push(resolve));
        this.nowMs += options.costMs ?? 1;
        if (values.includes(255)) throw new ServerError("INTERNAL", "bad row");
        const doubled = inputs[0]!.data.map((value) => value * 2);
        return {
          outputs: [{ ...inputs[0]!, name: "y", data: doubled }],
          stages: { input: 0, execute: (options.costMs ?? 1) / 1000, output: 0 },
        };
      },
      ...options,
    };
    this.#models.set(name, model);
    return model;
  }

  release(): void {
    this.#gates.shift()?.();
  }
}

/** A request of one row per value, `UINT8`. */
export function work(values: number[], options: Partial<Work> = {}): Work {
  const tensor: NamedTensor = {
    name: "x",
    datatype: "UINT8",
    shape: [values.length],
    data: new Uint8Array(values),
  };
  return {
    inputs: [tensor],
    rows: values.length,
    variantKey: "",
    deadlineMs: undefined,
    isAborted: () => false,
    ...options,
  };
}

/** A scheduler on the clock of `device`. */
export function scheduler(device: Device, options: {
  discipline?: typeof fifo;
  shedsByCost?: boolean;
  onDispatch?: (record: DispatchRecord) => void;
  batchWaitMs?: number;
} = {}): Scheduler {
  return new Scheduler({
    discipline: options.discipline ?? fifo,
    shedsByCost: options.shedsByCost ?? false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 4,
    now: () => device.nowMs,
    onDispatch: options.onDispatch,
    batchWaitMs: () => options.batchWaitMs ?? 0,
  });
}

/** How work ended: `OK` or its status. */
export async function statusOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "OK";
  } catch (error) {
    return error instanceof ServerError ? error.status : String(error);
  }
}

/** Lets everything go on that waits for nothing. */
export const settle = () => new Promise<void>((resolve) => setTimeout(resolve));
