/** The workers there are: who joins, who leaves, and when a worker that left is really gone. */

import type { WorkerId } from "./fleet.ts";
import { FleetWorker, type Member, type WorkerClientOptions } from "./fleet_worker.ts";

export interface WorkerPoolOptions {
  readonly client: WorkerClientOptions;
  /** How long calls on a worker that leaves may take to finish. */
  readonly drainMs: number;
  readonly onJoined?: (worker: FleetWorker) => void;
  /** It gets no new requests; some may still be in progress. */
  readonly onLeft?: (worker: FleetWorker) => void;
  /** It has none left. */
  readonly onGone?: (worker: FleetWorker) => void;
  /** A worker that stays has another name now; this was its name. */
  readonly onRenamed?: (name: string) => void;
}

export class WorkerPool {
  readonly #options: WorkerPoolOptions;
  readonly #workers = new Map<WorkerId, FleetWorker>();
  readonly #leaving = new Set<Promise<void>>();

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
  }

  /** Workers of the fleet, in the order of their membership; those that leave are no longer in it. */
  get workers(): readonly FleetWorker[] {
    return [...this.#workers.values()];
  }

  get size(): number {
    return this.#workers.size;
  }

  get(id: WorkerId): FleetWorker | undefined {
    return this.#workers.get(id);
  }

  /** Makes these the members: new ones join, those no longer named leave, the others stay as they are. */
  setMembers(members: readonly Member[]): void {
    const wanted = new Map(members.map((member) => [member.id, member]));
    for (const [id, worker] of [...this.#workers]) {
      if (wanted.has(id)) continue;
      this.#workers.delete(id);
      const gone = worker.leave(this.#options.drainMs);
      this.#leaving.add(gone);
      void gone.finally(() => {
        this.#leaving.delete(gone);
        this.#options.onGone?.(worker);
      });
      this.#options.onLeft?.(worker);
    }
    const before = new Map(this.#workers);
    this.#workers.clear();
    const joined: FleetWorker[] = [];
    const oldNames: string[] = [];
    for (const [id, member] of wanted) {
      let worker = before.get(id);
      if (worker === undefined) joined.push(worker = new FleetWorker(member, this.#options.client));
      else {
        if (worker.name !== member.name) oldNames.push(worker.name);
        worker.describe(member);
      }
      this.#workers.set(id, worker);
    }
    for (const name of oldNames) this.#options.onRenamed?.(name);
    for (const worker of joined) this.#options.onJoined?.(worker);
  }

  /** Closes every connection at once; resolves when all are closed, also those of workers that left. */
  async close(): Promise<void> {
    const workers = this.workers;
    this.#workers.clear();
    await Promise.all([...workers.map((worker) => worker.leave(0)), ...this.#leaving]);
  }
}
