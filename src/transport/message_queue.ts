/** Messages on their way from a transport to whoever iterates over them. */

import type { Message } from "./handler.ts";

type Result = IteratorResult<Message, undefined>;

const DONE: Result = { done: true, value: undefined };

/**
 * An async iterator fed from callbacks. `onTake` runs for each message as it leaves the queue, which is
 * when its flow-control credit is to be given back; nothing else bounds the queue.
 */
export class MessageQueue implements AsyncIterableIterator<Message, undefined> {
  #messages: Message[] = [];
  #waiting: { resolve: (result: Result) => void; reject: (error: unknown) => void }[] = [];
  #state: "open" | "ended" | "failed" | "discarding" = "open";
  #error: unknown;
  readonly #onTake: (message: Message) => void;

  constructor(onTake: (message: Message) => void) {
    this.#onTake = onTake;
  }

  /** Messages nobody has asked for yet. */
  get length(): number {
    return this.#messages.length;
  }

  push(message: Message): void {
    if (this.#state === "discarding") return this.#onTake(message);
    if (this.#state !== "open") return;
    const waiting = this.#waiting.shift();
    if (waiting === undefined) {
      this.#messages.push(message);
    } else {
      this.#onTake(message);
      waiting.resolve({ done: false, value: message });
    }
  }

  /** No more messages; those queued are still given out. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ended";
    for (const { resolve } of this.#waiting.splice(0)) resolve(DONE);
  }

  /** Those queued are still given out, then the iterator throws `error`, once. */
  fail(error: unknown): void {
    if (this.#state !== "open") return;
    this.#state = "failed";
    this.#error = error;
    const first = this.#waiting.shift();
    if (first !== undefined) {
      this.#state = "ended";
      first.reject(error);
      for (const { resolve } of this.#waiting.splice(0)) resolve(DONE);
    }
  }

  /** The iterator throws `error` at once; those queued are dropped. */
  abort(error: unknown): void {
    this.#messages.length = 0;
    if (this.#state === "ended") this.#state = "open";
    this.fail(error);
  }

  next(): Promise<Result> {
    const message = this.#messages.shift();
    if (message !== undefined) {
      this.#onTake(message);
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#state === "failed") {
      this.#state = "ended";
      return Promise.reject(this.#error);
    }
    if (this.#state !== "open") return Promise.resolve(DONE);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** The consumer has had enough: what is queued and what still comes is dropped as if it were taken. */
  return(): Promise<Result> {
    if (this.#state === "open") this.#state = "discarding";
    else this.#state = "ended";
    for (const message of this.#messages.splice(0)) this.#onTake(message);
    for (const { resolve } of this.#waiting.splice(0)) resolve(DONE);
    return Promise.resolve(DONE);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
