/** The state of a packing pass: what every worker has been given so far. */

import type { Replicas } from "../../config/mod.ts";
import type { WorkerId } from "../fleet.ts";

/** A model to be placed. */
export interface PackModel {
  readonly name: string;
  /** Arrival rate times cost: devices that it would keep busy. */
  readonly utilization: number;
  readonly weightBytes: number;
  readonly replicas: Replicas;
}

/** A worker that can be given models. */
export interface PackWorker {
  readonly worker: WorkerId;
  /** Weight memory it may fill; 0 or less: unconstrained. */
  readonly budgetBytes: number;
}

/** What a pass planned for one worker. */
export interface PackedWorker {
  readonly worker: WorkerId;
  /** Sum of the utilisations placed on it; 1 is a device that is always busy. */
  readonly compute: number;
  readonly weightBytes: number;
  /** 0: unconstrained. */
  readonly budgetBytes: number;
  readonly isOversubscribed: boolean;
}

/** Models on workers, with the load this puts on each. Workers are named by index, in sorted order. */
export class Assignment {
  readonly workers: readonly PackWorker[];
  readonly models: readonly PackModel[];
  readonly #compute: number[];
  readonly #bytes: number[];
  readonly #counts: number[];
  readonly #indices: ReadonlyMap<WorkerId, number>;
  readonly #places = new Map<PackModel, readonly number[]>();

  constructor(workers: readonly PackWorker[], models: readonly PackModel[]) {
    this.workers = workers.toSorted((a, b) => a.worker < b.worker ? -1 : 1);
    this.models = models;
    this.#compute = this.workers.map(() => 0);
    this.#bytes = this.workers.map(() => 0);
    this.#counts = this.workers.map(() => 0);
    this.#indices = new Map(this.workers.map(({ worker }, index) => [worker, index]));
  }

  /** -1 when the worker is not one of these. */
  indexOf(worker: WorkerId): number {
    return this.#indices.get(worker) ?? -1;
  }

  placesOf(model: PackModel): readonly number[] {
    return this.#places.get(model) ?? [];
  }

  /** The models on a worker, in no particular order. */
  modelsOn(index: number): PackModel[] {
    return this.models.filter((model) => this.placesOf(model).includes(index));
  }

  /** Puts a model on these workers, and nowhere else. */
  assign(model: PackModel, places: readonly number[]): void {
    this.#add(model, this.placesOf(model), -1);
    this.#places.set(model, places);
    this.#add(model, places, 1);
  }

  /** How full a worker would be with this more: the larger of its compute and its memory. */
  pressure(index: number, compute: number, bytes: number): number {
    const { budgetBytes } = this.workers[index]!;
    const memory = budgetBytes > 0 ? (this.#bytes[index]! + bytes) / budgetBytes : 0;
    return Math.max(this.#compute[index]! + compute, memory);
  }

  /**
   * Which of two workers under equal pressure has less: bytes, then models, then the name decides. Without
   * budgets and before any demand is known this is what spreads the models out.
   */
  compareHeld(a: number, b: number): number {
    return this.#bytes[a]! - this.#bytes[b]! || this.#counts[a]! - this.#counts[b]! || a - b;
  }

  /** Whether a worker has room for this much more. */
  fits(index: number, bytes: number): boolean {
    return this.freeBytes(index) >= bytes;
  }

  /** Bytes left of a worker's budget; negative when it is overfilled. */
  freeBytes(index: number): number {
    const { budgetBytes } = this.workers[index]!;
    return budgetBytes > 0 ? budgetBytes - this.#bytes[index]! : Infinity;
  }

  /** Bytes beyond the budgets, over all workers. */
  overflowBytes(): number {
    return this.workers.reduce((sum, _, index) => sum + Math.max(0, -this.freeBytes(index)), 0);
  }

  placement(): Map<string, readonly WorkerId[]> {
    return new Map(
      [...this.#places].map(([model, places]) => [
        model.name,
        places.toSorted((a, b) => a - b).map((index) => this.workers[index]!.worker),
      ]),
    );
  }

  packedWorkers(): PackedWorker[] {
    return this.workers.map(({ worker, budgetBytes }, index) => ({
      worker,
      compute: this.#compute[index]!,
      weightBytes: this.#bytes[index]!,
      budgetBytes: Math.max(0, budgetBytes),
      isOversubscribed: this.freeBytes(index) < 0,
    }));
  }

  #add(model: PackModel, places: readonly number[], sign: 1 | -1): void {
    for (const index of places) {
      this.#compute[index]! += sign * model.utilization / places.length;
      this.#bytes[index]! += sign * model.weightBytes;
      this.#counts[index]! += sign;
    }
  }
}
