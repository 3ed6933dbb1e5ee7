/** The same call to several workers. */

import { messageOf, ServerError, UnavailableError } from "../errors.ts";
import type { Message } from "../transport/mod.ts";
import type { FleetWorker } from "./fleet_worker.ts";
import { failureOf } from "./worker_rpc.ts";

/** How one worker's part of a broadcast ended. */
export interface Part {
  readonly worker: FleetWorker;
  readonly message: Message | undefined;
  readonly error: ServerError | undefined;
  /** Whether the worker may have done it: only its own refusal says that it has not. */
  readonly mayBeDone: boolean;
}

export class FanOut {
  readonly #answered: (path: string, worker: FleetWorker, seconds: number) => void;

  /** @param answered told of every call that ended, however */
  constructor(answered: (path: string, worker: FleetWorker, seconds: number) => void) {
    this.#answered = answered;
  }

  /** Calls workers at the same time, and holds back inference on each while it is called. Never rejects. */
  gated(
    workers: readonly FleetWorker[],
    path: string,
    request: Message,
    deadlineMs: number,
  ): Promise<Part[]> {
    return Promise.all(workers.map(async (worker) => {
      using _operation = worker.operations.operation();
      return await this.call(worker, path, request, deadlineMs);
    }));
  }

  /** Calls one worker. Never rejects. */
  async call(
    worker: FleetWorker,
    path: string,
    request: Message,
    deadlineMs: number,
  ): Promise<Part> {
    const startMs = performance.now();
    let hasStatus = false;
    try {
      const { message } = await worker.ask(path, request, {
        deadlineMs,
        onTrailers: () => hasStatus = true,
      });
      return { worker, message, error: undefined, mayBeDone: true };
    } catch (thrown) {
      const error = thrown instanceof ServerError
        ? thrown
        : new UnavailableError(messageOf(thrown), { cause: thrown });
      const mayBeDone = failureOf(error, hasStatus, false) !== "answer";
      return { worker, message: undefined, error, mayBeDone };
    } finally {
      this.#answered(path, worker, (performance.now() - startMs) / 1000);
    }
  }
}
