/**
 * ModelInfer: bytes in, bytes out. Only the model's name, the id and, where load is counted in items,
 * one tensor's shape are looked at.
 *
 * A request is tried on another worker when the one it was on says NOT_FOUND or UNAVAILABLE, or when
 * nothing came through: models keep no state, so that running one twice is safe. Every other status is
 * the answer.
 */

import {
  CancelledError,
  DeadlineExceededError,
  messageOf,
  NotFoundError,
  ServerError,
  UnavailableError,
} from "../errors.ts";
import type { Logger } from "../log.ts";
import { peekInferRequest, quoted } from "../protocol/mod.ts";
import {
  type BufferPool,
  type CallContext,
  errorOfStatus,
  type Message,
  type Metadata,
  type UnaryResponse,
} from "../transport/mod.ts";
import type { Admission } from "./admission.ts";
import type { FleetWorker } from "./fleet_worker.ts";
import { forwardedMetadata, passOn } from "./forwarded_metadata.ts";
import type { Reservation, Router } from "./routing/mod.ts";
import type { WorkerPool } from "./worker_pool.ts";
import { brokenConnection, failureOf } from "./worker_rpc.ts";

/** What the proxy knows of models that no worker can be asked for now. */
export interface ModelDirectory {
  /** Whether some worker has it, ready or not. */
  knows(model: string): boolean;
  /** Workers that have joined and not been heard of: one of them may have it. */
  unheard(): readonly string[];
  /** Why nobody serves it, for people. */
  explain(model: string): string;
  /** Looks at the fleet again; resolves when that is done, or was done just now. */
  refresh(): Promise<void>;
  /** A worker broke off: look at it now. */
  suspect(worker: FleetWorker): void;
}

/** Told of every ModelInfer that ended, for metrics. */
export interface InferProxyObserver {
  /** `model` is empty for a request that could not be read, and then `seconds` is `undefined`. */
  requestEnded(model: string, status: string, seconds: number | undefined): void;
  workerAnswered(worker: FleetWorker, seconds: number): void;
}

export interface InferProxyOptions {
  readonly pool: WorkerPool;
  readonly router: Router;
  readonly directory: ModelDirectory;
  readonly admission: Admission;
  readonly observer: InferProxyObserver;
  readonly logger: Logger;
  /** For requests whose client gave no deadline. */
  readonly requestTimeoutMs: number;
  /** Whether requests are taken at all yet, and if not, why. */
  readonly closedBecause: () => string | undefined;
}

/** One request on its way. */
interface Passage {
  readonly model: string;
  readonly id: string;
  readonly message: Message;
  readonly call: CallContext;
  readonly memory: BufferPool | undefined;
  /** On the `performance.now()` clock. */
  readonly deadlineMs: number;
}

/** How an attempt ended, when not with a response. */
interface FailedAttempt {
  readonly error: ServerError;
  /** What came with the worker's status. */
  readonly trailers?: Metadata | undefined;
  /** Another worker may be tried. */
  readonly isRetryable: boolean;
}

export class InferProxy {
  readonly #options: InferProxyOptions;

  constructor(options: InferProxyOptions) {
    this.#options = options;
  }

  /**
   * The handler of ModelInfer.
   * @param memory for large answers
   */
  async handle(message: Message, call: CallContext, memory?: BufferPool): Promise<Message> {
    const { admission, observer } = this.#options;
    const startMs = performance.now();
    admission.enter();
    let model = "";
    let status = "OK";
    try {
      const passage = this.#read(message, call, startMs, memory);
      model = passage.model;
      return await this.#pass(passage);
    } catch (error) {
      status = statusLabel(error);
      throw error;
    } finally {
      admission.leave();
      const seconds = (performance.now() - startMs) / 1000;
      observer.requestEnded(model, status, model === "" ? undefined : seconds);
    }
  }

  #read(
    message: Message,
    call: CallContext,
    startMs: number,
    memory: BufferPool | undefined,
  ): Passage {
    const peek = peekInferRequest(message, { isWhole: true });
    if (peek.modelName === "") {
      throw errorOfStatus("INVALID_ARGUMENT", "The request names no model");
    }
    const own = call.deadlineMs ?? startMs + this.#options.requestTimeoutMs;
    const budgetMs = peek.remainingBudgetMs;
    return {
      model: peek.modelName,
      id: peek.id,
      message,
      call,
      memory,
      deadlineMs: budgetMs === undefined ? own : Math.min(own, startMs + budgetMs),
    };
  }

  async #pass(passage: Passage): Promise<Message> {
    const { router, closedBecause } = this.#options;
    const closed = closedBecause();
    if (closed !== undefined) throw new UnavailableError(`The gateway is not ready: ${closed}`);
    router.arrived(passage.model);
    const items = this.#itemsOf(passage);
    const reservation = router.reserve(passage.model, items) ??
      await this.#reserveAfterRefresh(passage, items);
    try {
      return await this.#tryInTurn(passage, reservation);
    } finally {
      reservation.release();
    }
  }

  /** Rows of the request; 1 where nobody counts them, or they cannot be told. */
  #itemsOf({ model, message }: Passage): number {
    const axis = this.#options.router.batchAxisOf(model);
    if (axis === undefined || axis.input === "" || axis.axis < 1) return 1;
    const { shape } = peekInferRequest(message, { tensor: axis.input, isWhole: true });
    const items = shape?.[axis.axis - 1];
    return items !== undefined && Number.isSafeInteger(items) && items >= 1 ? items : 1;
  }

  async #reserveAfterRefresh({ model, id }: Passage, items: number): Promise<Reservation> {
    const { router, directory, logger } = this.#options;
    await directory.refresh();
    const reservation = router.reserve(model, items);
    if (reservation !== undefined) return reservation;
    if (directory.knows(model)) throw new UnavailableError(directory.explain(model));
    const unheard = directory.unheard();
    if (unheard.length > 0) {
      throw new UnavailableError(
        `Model ${quoted(model)} is on no worker that has answered; not heard of yet: ` +
          unheard.slice(0, 3).join(", "),
      );
    }
    logger.info("unknown model", { model: model.slice(0, 200), id: id.slice(0, 200) });
    throw new NotFoundError(`Model ${quoted(model)} was not found on any worker`);
  }

  async #tryInTurn(passage: Passage, reservation: Reservation): Promise<Message> {
    const { pool } = this.#options;
    const { call } = passage;
    let last: FailedAttempt | undefined;
    for (let turn = 0; turn === 0 || turn < reservation.workers.length; turn++) {
      const worker = pool.get(turn === 0 ? reservation.first : reservation.workers[turn]!);
      // It left between the choice and now.
      if (worker === undefined) continue;
      if (turn > 0) reservation.moveTo(worker.id);
      const outcome = await this.#attempt(worker, passage);
      if (!("isRetryable" in outcome)) {
        passOn(outcome.headers, () => call.responseHeaders);
        passOn(outcome.trailers, () => call.responseTrailers);
        if (outcome.loan !== undefined) call.lend?.(outcome.loan);
        return outcome.message;
      }
      last = outcome;
      if (!outcome.isRetryable || call.isAborted) break;
    }
    if (last?.trailers !== undefined) passOn(last.trailers, () => call.responseTrailers);
    throw last?.error ??
      new UnavailableError(`No worker with model ${quoted(passage.model)} is left`);
  }

  async #attempt(
    worker: FleetWorker,
    passage: Passage,
  ): Promise<UnaryResponse | FailedAttempt> {
    const { call, deadlineMs } = passage;
    try {
      while (true) {
        if (!worker.operations.isOpen) await worker.operations.opened(call, deadlineMs);
        if (!worker.slots.tryEnter()) await worker.slots.enter(call, deadlineMs);
        if (worker.operations.isOpen) break;
        // An operation began while this waited for a slot, and whoever waits must hold none.
        worker.slotLeft();
      }
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      return { error, isRetryable: error.status === "UNAVAILABLE" };
    }
    try {
      return await this.#call(worker, passage);
    } finally {
      worker.slotLeft();
    }
  }

  async #call(worker: FleetWorker, passage: Passage): Promise<UnaryResponse | FailedAttempt> {
    const { observer } = this.#options;
    const { message, call, memory, deadlineMs, model } = passage;
    const startMs = performance.now();
    if (startMs >= deadlineMs) {
      const error = new DeadlineExceededError(
        `The deadline passed before model ${quoted(model)} could be called`,
      );
      return { error, isRetryable: false };
    }
    let trailers: Metadata | undefined;
    try {
      const response = await worker.infer(call.path, message, {
        deadlineMs,
        parent: call,
        memory,
        metadata: forwardedMetadata(call.metadata),
        onTrailers: (received) => trailers = received,
      });
      observer.workerAnswered(worker, (performance.now() - startMs) / 1000);
      return response;
    } catch (error) {
      observer.workerAnswered(worker, (performance.now() - startMs) / 1000);
      if (!(error instanceof ServerError)) throw error;
      return this.#judge(worker, passage, error, trailers);
    }
  }

  #judge(
    worker: FleetWorker,
    { model, id, call }: Passage,
    error: ServerError,
    trailers: Metadata | undefined,
  ): FailedAttempt {
    const { directory, logger } = this.#options;
    switch (failureOf(error, trailers !== undefined, call.isAborted)) {
      case "local":
        return { error: withWorker(worker, error), isRetryable: false };
      case "transport":
        directory.suspect(worker);
        logger.warn("worker broke off", { model, worker: worker.name, id, error: error.message });
        return { error: brokenConnection(worker, error), isRetryable: true };
      case "answer": {
        const isRetryable = error.status === "NOT_FOUND" || error.status === "UNAVAILABLE";
        if (error.status === "NOT_FOUND") void directory.refresh();
        if (error.status === "UNAVAILABLE") directory.suspect(worker);
        logger.info("worker refused", { model, worker: worker.name, id, status: error.status });
        return { error: withWorker(worker, error), trailers, isRetryable };
      }
    }
  }
}

/** The worker's own status and words, with where they come from. */
function withWorker(worker: FleetWorker, error: ServerError): ServerError {
  // What our caller's own end is called stays as it is.
  if (error instanceof CancelledError) return error;
  return errorOfStatus(error.status, `Worker ${worker.id}: ${messageOf(error)}`);
}

/** A status as the metrics write it: `NOT_FOUND` is `NotFound`. */
export function statusLabel(error: unknown): string {
  const status = error instanceof ServerError ? error.status : "INTERNAL";
  return status.toLowerCase().replace(
    /(?:^|_)([a-z])/g,
    (_, letter: string) => letter.toUpperCase(),
  );
}
