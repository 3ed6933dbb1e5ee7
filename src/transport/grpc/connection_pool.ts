/** The connections of one client to one target. */

import {
  CancelledError,
  messageOf,
  ResourceExhaustedError,
  ServerError,
  UnavailableError,
} from "../../errors.ts";
import { type DeadlineClock, systemClock, type Timer } from "../deadline.ts";
import type { Http2Connection } from "../http2/mod.ts";
import { Backoff, type BackoffOptions } from "./backoff.ts";

/** A call that waits for a connection. */
export interface Waiter {
  /** Wait through failures to connect, rather than fail with them. */
  readonly isPatient: boolean;
  /** There is one that takes a stream now. */
  onReady(connection: Http2Connection): void;
  onFailed(error: ServerError): void;
}

export interface PoolOptions {
  /** The target, for messages. */
  readonly name: string;
  /** Opens one connection. Rejects with an `UnavailableError`, in bounded time. */
  readonly connect: (signal: AbortSignal) => Promise<Http2Connection>;
  readonly maxConnections: number;
  /** Calls that may wait at once; more fail with RESOURCE_EXHAUSTED. */
  readonly maxWaiting: number;
  readonly backoff?: BackoffOptions;
  readonly clock?: DeadlineClock;
}

/**
 * Connects when a call needs it, keeps to one connection until that takes no more streams, opens
 * further ones up to a maximum, and after that lets calls wait. After a failure it waits with
 * exponential backoff, during which impatient calls fail at once. States of a connection: connecting,
 * open, no longer taking streams (full or going away), gone.
 */
export class ConnectionPool {
  readonly #options: PoolOptions;
  readonly #clock: DeadlineClock;
  readonly #backoff: Backoff;
  readonly #open = new Set<Http2Connection>();
  readonly #waiting = new Set<Waiter>();
  #connecting: AbortController | undefined;
  #retryAtMs = 0;
  #retryTimer: Timer | undefined;
  /** Why the last attempt failed; `undefined` when it did not. */
  #lastError: ServerError | undefined;
  #isClosed = false;
  /** `#serve` is about to run. */
  #isServing = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#backoff = new Backoff(options.backoff);
  }

  /** Connections in use, those going away included. */
  get size(): number {
    return this.#open.size;
  }

  /** An open connection that takes a stream now, if there is one and nobody is before you. */
  acquire(): Http2Connection | undefined {
    if (this.#waiting.size > 0) return undefined;
    return this.#available();
  }

  /** Calls back as soon as there is a connection, or none can be had. Never before it returns. */
  wait(waiter: Waiter): void {
    if (this.#isClosed) {
      queueMicrotask(() => waiter.onFailed(new CancelledError("The client is closed")));
    } else if (this.#waiting.size >= this.#options.maxWaiting) {
      const message = `${this.#waiting.size} calls are waiting for ${this.#options.name} already`;
      queueMicrotask(() => waiter.onFailed(new ResourceExhaustedError(message)));
    } else {
      this.#waiting.add(waiter);
      queueMicrotask(() => this.#serve());
    }
  }

  /** The waiter no longer waits. */
  leave(waiter: Waiter): void {
    this.#waiting.delete(waiter);
  }

  /** A connection may take streams again, or takes none any more. */
  released(): void {
    if (this.#waiting.size === 0 || this.#isServing) return;
    // Called from inside a connection, whose own bookkeeping comes first.
    this.#isServing = true;
    queueMicrotask(() => {
      this.#isServing = false;
      this.#serve();
    });
  }

  /** Fails all waiters and closes all connections, after their calls if `graceful`. */
  async close(graceful: boolean): Promise<void> {
    this.#isClosed = true;
    this.#connecting?.abort();
    if (this.#retryTimer !== undefined) this.#clock.clearTimer(this.#retryTimer);
    this.#failWaiting(new CancelledError("The client is closed"), () => true);
    const connections = [...this.#open];
    for (const connection of connections) {
      if (graceful) void connection.drain();
      else connection.destroy("The client is closed");
    }
    await Promise.all(connections.map((connection) => connection.closed));
  }

  #available(): Http2Connection | undefined {
    for (const connection of this.#open) if (connection.canOpen) return connection;
    return undefined;
  }

  #serve(): void {
    for (const waiter of this.#waiting) {
      const connection = this.#available();
      if (connection === undefined) break;
      this.#waiting.delete(waiter);
      waiter.onReady(connection);
    }
    if (this.#waiting.size > 0) this.#connectMore();
  }

  #connectMore(): void {
    if (this.#isClosed || this.#connecting !== undefined) return;
    if (this.#open.size >= this.#options.maxConnections) return;
    const waitMs = this.#retryAtMs - this.#clock.now();
    if (waitMs <= 0) {
      void this.#connect();
      return;
    }
    // With a connection alive a stream will come free; after a failure there is nothing to hope for.
    if (this.#open.size === 0) this.#failImpatient();
    if (this.#waiting.size === 0) return;
    this.#retryTimer ??= this.#clock.setTimer(() => {
      this.#retryTimer = undefined;
      this.#serve();
    }, Math.ceil(waitMs));
  }

  async #connect(): Promise<void> {
    const controller = new AbortController();
    this.#connecting = controller;
    try {
      const connection = await this.#options.connect(controller.signal);
      this.#connecting = undefined;
      if (this.#isClosed) connection.destroy("The client is closed");
      else this.#add(connection);
    } catch (error) {
      this.#connecting = undefined;
      this.#failed(error);
    }
    this.#serve();
  }

  #add(connection: Http2Connection): void {
    this.#open.add(connection);
    this.#lastError = undefined;
    if (connection.canOpen) {
      this.#backoff.reset();
      this.#retryAtMs = 0;
    } else {
      // The peer went away as soon as it was there; the next one may be asked, but not in a tight loop.
      this.#retryAtMs = this.#clock.now() + this.#backoff.next();
    }
    void connection.closed.then(() => {
      this.#open.delete(connection);
      if (this.#waiting.size > 0) this.#serve();
    });
  }

  #failed(error: unknown): void {
    if (this.#isClosed) return;
    this.#lastError = error instanceof ServerError
      ? error
      : new UnavailableError(messageOf(error), { cause: error });
    this.#retryAtMs = this.#clock.now() + this.#backoff.next();
    if (this.#open.size === 0) this.#failImpatient();
  }

  #failImpatient(): void {
    const error = this.#lastError;
    if (error !== undefined) this.#failWaiting(error, (waiter) => !waiter.isPatient);
  }

  #failWaiting(error: ServerError, which: (waiter: Waiter) => boolean): void {
    for (const waiter of [...this.#waiting]) {
      if (!which(waiter)) continue;
      this.#waiting.delete(waiter);
      waiter.onFailed(error);
    }
  }
}
