/**
 * The scheduler alone: 64 closed-loop callers and a run function that answers at once with tensors made
 * beforehand, so that all the processor time there is goes into queueing, choosing, assembling, cutting
 * apart and promises.
 */

import process from "node:process";
import { DISCIPLINES, type ScheduledModel, Scheduler } from "../../src/scheduler/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { partOf } from "./statistics.ts";

export interface SchedulerCase {
  /** Models admitted. */
  readonly models: number;
  /** Models that requests go to, in turn. */
  readonly busy: number;
  readonly sizes: readonly number[];
  readonly discipline: keyof typeof DISCIPLINES;
  /** How much of the usual number of requests is sent. */
  readonly share: number;
}

const CALLERS = 64;
const REQUESTS = 60_000;
const WARM_UP = 15_000;
/** Elements of one row, as FP32. */
const WIDTH = 64;

function tensor(name: string, rows: number): NamedTensor {
  return {
    name,
    datatype: "FP32",
    shape: [rows, WIDTH],
    data: new Uint8Array(rows * WIDTH * 4),
  };
}

function model(name: string, sizes: readonly number[]): ScheduledModel {
  const outputs = new Map(sizes.map((size) => [size, [tensor("y", size)]]));
  return {
    name,
    isCoalescable: true,
    maxRows: undefined,
    weight: 1,
    sizes: () => sizes,
    inputBatchAxes: [0],
    outputBatchAxes: [0],
    run: ({ size }) =>
      Promise.resolve({
        outputs: outputs.get(size)!,
        stages: { input: 0, execute: 0, output: 0 },
      }),
  };
}

/** Processor time per request, in microseconds, of this whole process. */
export async function schedulerCost(options: SchedulerCase): Promise<number> {
  const scheduler = new Scheduler({
    discipline: DISCIPLINES[options.discipline],
    shedsByCost: options.discipline === "edf",
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 1024,
  });
  const models = Array.from(
    { length: options.models },
    (_, index) => model(`model${index}`, options.sizes),
  );
  for (const each of models) scheduler.admit(each);
  const work = {
    inputs: [tensor("x", 1)],
    rows: 1,
    variantKey: "",
    deadlineMs: undefined,
    isAborted: () => false,
  };
  let sent = 0;
  const send = async (count: number) => {
    sent = 0;
    await Promise.all(Array.from({ length: CALLERS }, async () => {
      while (sent < count) await scheduler.submit(models[sent++ % options.busy]!, work);
    }));
  };
  const requests = partOf(REQUESTS, options.share);
  await send(partOf(WARM_UP, options.share));
  const before = process.cpuUsage();
  await send(requests);
  const { user, system } = process.cpuUsage(before);
  await scheduler.shutdown(0);
  return (user + system) / requests;
}
