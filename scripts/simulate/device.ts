/** One simulated worker: a device that runs one dispatch at a time and holds only so many weights. */

import type { ModelReport } from "../../src/gateway/fleet.ts";
import type { Reservation } from "../../src/gateway/routing/mod.ts";
import type { SimulatedModel } from "./workload.ts";

/** Requests that wait per model at most; as a worker's own default. */
const MAX_QUEUE_DEPTH = 1024;

/** A request on its way. */
export interface SimulatedRequest {
  readonly model: number;
  readonly rows: number;
  readonly arrivedAt: number;
  readonly reservation: Reservation;
  /** Whether a dispatch has taken it. */
  isTaken: boolean;
}

interface Queue {
  readonly waiting: SimulatedRequest[];
  head: number;
}

interface Counters {
  computeSeconds: number;
  requests: number;
  rows: number;
}

/** What a dispatch is made of. */
export interface Dispatch {
  readonly requests: readonly SimulatedRequest[];
  readonly endsAt: number;
}

export interface DeviceOptions {
  readonly models: readonly SimulatedModel[];
  readonly budgetBytes: number;
  /** Host to device, bytes per second. */
  readonly loadBytesPerSecond: number;
}

/** First in, first out by the oldest request; what waits for the same model goes along, up to its batch. */
export class Device {
  readonly counters: Counters[];
  /** Since the start: busy seconds, dispatches, loads of weights, bytes of them. */
  busySeconds = 0;
  dispatches = 0;
  loads = 0;
  loadedBytes = 0;
  isBusy = false;
  readonly #options: DeviceOptions;
  readonly #queues = new Map<number, Queue>();
  /** Everything that waits, in the order of arrival; what was taken along is still in it. */
  readonly #order: Queue = { waiting: [], head: 0 };
  /** Least recently used first. */
  readonly #resident = new Set<number>();
  #residentBytes = 0;

  constructor(options: DeviceOptions) {
    this.#options = options;
    this.counters = options.models.map(() => ({ computeSeconds: 0, requests: 0, rows: 0 }));
  }

  /** `false` when the model's queue is full. */
  enqueue(request: SimulatedRequest): boolean {
    let queue = this.#queues.get(request.model);
    if (queue === undefined) this.#queues.set(request.model, queue = { waiting: [], head: 0 });
    if (queue.waiting.length - queue.head >= MAX_QUEUE_DEPTH) return false;
    queue.waiting.push(request);
    this.#order.waiting.push(request);
    return true;
  }

  /** Starts the next dispatch; `undefined` when nothing waits. */
  start(now: number): Dispatch | undefined {
    const index = this.#oldest();
    if (index === undefined) return undefined;
    const model = this.#options.models[index]!;
    const { requests, rows } = this.#take(index, model.maxBatchSize);
    const seconds = model.dispatchSeconds + rows * model.rowSeconds;
    const loading = this.#makeResident(index);
    const counters = this.counters[index]!;
    counters.computeSeconds += seconds;
    counters.requests += requests.length;
    counters.rows += rows;
    this.busySeconds += seconds + loading;
    this.dispatches++;
    this.isBusy = true;
    return { requests, endsAt: now + seconds + loading };
  }

  report(): ModelReport[] {
    return this.#options.models.map((model, index) => ({
      name: model.name,
      weightBytes: model.weightBytes,
      ...this.counters[index]!,
      maxBatchSize: model.maxBatchSize,
      batchInput: "x",
      batchAxis: 1,
    }));
  }

  #oldest(): number | undefined {
    const order = this.#order;
    while (order.waiting[order.head]?.isTaken === true) order.head++;
    const model = order.waiting[order.head]?.model;
    trim(order);
    return model;
  }

  #take(index: number, maxRows: number): { requests: SimulatedRequest[]; rows: number } {
    const queue = this.#queues.get(index)!;
    const requests: SimulatedRequest[] = [];
    let rows = 0;
    while (queue.head < queue.waiting.length) {
      const request = queue.waiting[queue.head]!;
      if (requests.length > 0 && rows + request.rows > maxRows) break;
      request.isTaken = true;
      requests.push(request);
      rows += request.rows;
      queue.head++;
    }
    if (queue.head === queue.waiting.length) this.#queues.delete(index);
    else trim(queue);
    return { requests, rows };
  }

  /** Seconds until the weights are on the device. */
  #makeResident(index: number): number {
    const { models, budgetBytes, loadBytesPerSecond } = this.#options;
    if (this.#resident.delete(index)) {
      this.#resident.add(index);
      return 0;
    }
    const { weightBytes } = models[index]!;
    for (const other of this.#resident) {
      if (this.#residentBytes + weightBytes <= budgetBytes) break;
      this.#resident.delete(other);
      this.#residentBytes -= models[other]!.weightBytes;
    }
    this.#resident.add(index);
    this.#residentBytes += weightBytes;
    this.loads++;
    this.loadedBytes += weightBytes;
    return weightBytes / loadBytesPerSecond;
  }
}

/** Lets go of what has been taken from the front, once that is worth the copying. */
function trim(queue: Queue): void {
  if (queue.head <= MAX_QUEUE_DEPTH || queue.head * 2 < queue.waiting.length) return;
  queue.waiting.splice(0, queue.head);
  queue.head = 0;
}
