/** Several threads that send a load, as one asker. */

import { ConfigError } from "../errors.ts";
import type { Logger } from "../log.ts";
import { assetUrl } from "../standalone.ts";
import type { Asked, Asker } from "./asker.ts";
import type { PreparedRequest } from "./load_model.ts";
import type { SendLimits } from "./senders.ts";
import type { LoadgenSettings } from "./settings.ts";
import type { FromThread, ToThread } from "./thread_messages.ts";

export interface LoadThreadsOptions {
  readonly settings: LoadgenSettings;
  readonly requests: readonly PreparedRequest[];
  /** The most requests at once, in all threads together. */
  readonly inFlight: number;
  readonly logger: Logger;
}

/** Longer than a thread waits for a server that does not answer any more. */
const END_WITHIN_MS = 5000;

/** Gives each request to the thread with the fewest in flight. Dispose it when nothing is. */
export class LoadThreads implements Asker, AsyncDisposable {
  readonly ways: number;
  readonly #threads: readonly LoadThread[];
  readonly #indexes: ReadonlyMap<PreparedRequest, number>;
  /** Whose end has been passed on. */
  readonly #signals = new WeakSet<AbortSignal>();

  private constructor(threads: readonly LoadThread[], ways: number, options: LoadThreadsOptions) {
    this.#threads = threads;
    this.ways = ways;
    this.#indexes = new Map(options.requests.map((request, index) => [request, index]));
  }

  /** Starts the threads. @throws {ConfigError} when one cannot work with these settings */
  static async open(options: LoadThreadsOptions): Promise<LoadThreads> {
    const { settings, requests, inFlight, logger } = options;
    const share = Math.ceil(inFlight / settings.threads);
    const threads = Array.from(
      { length: settings.threads },
      (_, index) => new LoadThread(`load:${index}`, (line) => logger.warn(line)),
    );
    try {
      const message = { type: "start", settings, requests, inFlight: share } as const;
      const [ways] = await Promise.all(threads.map((thread) => thread.start(message)));
      return new LoadThreads(threads, ways!, options);
    } catch (error) {
      await Promise.all(threads.map((thread) => thread.end()));
      throw error;
    }
  }

  ask(request: PreparedRequest, way: number, { deadlineMs, signal }: SendLimits): Promise<Asked> {
    if (!this.#signals.has(signal)) {
      this.#signals.add(signal);
      const cut = () => this.#threads.forEach((thread) => thread.cut());
      if (signal.aborted) cut();
      else signal.addEventListener("abort", cut, { once: true });
    }
    const thread = this.#threads.reduce((least, other) =>
      other.inFlight < least.inFlight ? other : least
    );
    return thread.ask(this.#indexes.get(request)!, way, deadlineMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.end()));
  }
}

/** One of them. States: new, started, ended. */
class LoadThread {
  readonly #worker: Worker;
  readonly #asked = new Map<number, PromiseWithResolvers<Asked>>();
  readonly #started = Promise.withResolvers<number>();
  readonly #ended = Promise.withResolvers<void>();
  #nextId = 0;

  constructor(name: string, log: (line: string) => void) {
    // It does what this thread would do, and may do what this thread may.
    this.#worker = new Worker(assetUrl("src/loadgen/load_thread.ts"), { type: "module", name });
    this.#worker.onmessage = ({ data }: MessageEvent<FromThread>) => this.#heard(data, log);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#lost(new Error(`a load thread ended: ${event.message}`));
    };
    // Who waits for a thread that is lost later on is told by what they wait for.
    this.#started.promise.catch(() => {});
  }

  get inFlight(): number {
    return this.#asked.size;
  }

  /** How many ways it has to the server. */
  start(message: Extract<ToThread, { type: "start" }>): Promise<number> {
    this.#tell(message);
    return this.#started.promise;
  }

  ask(request: number, way: number, deadlineMs: number): Promise<Asked> {
    const id = this.#nextId++;
    const asked = Promise.withResolvers<Asked>();
    this.#asked.set(id, asked);
    this.#tell({ type: "ask", id, request, way, deadlineMs });
    return asked.promise;
  }

  cut(): void {
    this.#tell({ type: "cut" });
  }

  async end(): Promise<void> {
    this.#tell({ type: "end" });
    const timer = setTimeout(() => this.#ended.resolve(), END_WITHIN_MS);
    await this.#ended.promise;
    clearTimeout(timer);
    this.#worker.terminate();
  }

  #tell(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  #heard(message: FromThread, log: (line: string) => void): void {
    switch (message.type) {
      case "started":
        return this.#started.resolve(message.ways);
      case "refused":
        return this.#started.reject(new ConfigError(message.reason));
      case "asked": {
        const { id, outcome, endEpochMs, isChecked } = message;
        return this.#take(id)?.resolve({
          outcome,
          endMs: endEpochMs - performance.timeOrigin,
          isChecked,
        });
      }
      case "failed":
        return this.#take(message.id)?.reject(new Error(`in a load thread: ${message.reason}`));
      case "log":
        return log(message.line);
      case "ended":
        return this.#ended.resolve();
    }
  }

  #take(id: number): PromiseWithResolvers<Asked> | undefined {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    return asked;
  }

  #lost(error: Error): void {
    this.#started.reject(error);
    this.#ended.resolve();
    for (const id of [...this.#asked.keys()]) this.#take(id)!.reject(error);
  }
}
