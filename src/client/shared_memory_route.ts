/** Whether requests to one server may go through shared memory, and what to do when it forgets. */

import { FailedPreconditionError, messageOf, ServerError } from "../errors.ts";
import { type Logger, silentLogger } from "../log.ts";
import { GRPCInferenceService } from "../protocol/mod.ts";
import type { InferenceClient } from "./model.ts";
import type { SharedMemoryPool } from "./shared_memory_pool.ts";

/**
 * `auto`: when the server shares this machine's memory. `on`: always; a server elsewhere is an error.
 * `off`: never.
 */
export type SharedMemoryMode = "auto" | "on" | "off";

export interface SharedMemoryRouteOptions {
  readonly inference: InferenceClient;
  readonly pool: SharedMemoryPool;
  readonly mode?: SharedMemoryMode;
  /** Time between attempts to win a server back that lost the memory; 0 or less: never. Default 60 s. */
  readonly reprobeMs?: number;
  readonly logger?: Logger;
}

/** For every call this makes. */
const CALL_LIMIT_MS = 3000;
const METHODS = GRPCInferenceService.method;

/**
 * The way to one server. States: unknown, then `shared` or `inline`; `latched` when a server that shared
 * memory could not be registered with again, until a probe in the background succeeds. Dispose it
 * before its pool; it does not own the pool.
 */
export class SharedMemoryRoute implements AsyncDisposable {
  readonly #inference: InferenceClient;
  readonly #pool: SharedMemoryPool;
  readonly #mode: SharedMemoryMode;
  readonly #reprobeMs: number;
  readonly #logger: Logger;
  readonly #abort = new AbortController();
  #state: "unknown" | "shared" | "inline" | "latched" = "unknown";
  #deciding: Promise<void> | undefined;
  #recovering: Promise<boolean> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #generation = 0;
  /** Whether a server, or one of several behind a gateway, may have the region. */
  #mayBeRegistered = false;

  constructor(options: SharedMemoryRouteOptions) {
    this.#inference = options.inference;
    this.#pool = options.pool;
    this.#mode = options.mode ?? "auto";
    this.#reprobeMs = options.reprobeMs ?? 60_000;
    this.#logger = options.logger ?? silentLogger;
  }

  get pool(): SharedMemoryPool {
    return this.#pool;
  }

  /** Counts registrations: a request that fails names the one it was made under. */
  get generation(): number {
    return this.#generation;
  }

  /**
   * Whether the next request may refer to the pool. The first caller asks the server, others wait for
   * the same answer.
   * @throws {FailedPreconditionError} in mode `on` when the server sees another memory
   * @throws {ServerError} when the server cannot be asked
   */
  async isUsable(): Promise<boolean> {
    if (this.#mode === "off") return false;
    if (this.#state === "unknown") {
      this.#deciding ??= this.#decide().finally(() => this.#deciding = undefined);
      await this.#deciding;
    }
    return this.#state === "shared";
  }

  /**
   * Registers again after a request that was made under `generation` met a server that did not know the
   * region. Concurrent failures share one registration.
   * @returns whether the request may be tried again through memory; if not, it goes inline from now on
   */
  recover(generation: number): Promise<boolean> {
    if (this.#state !== "shared") return Promise.resolve(false);
    if (generation !== this.#generation) return Promise.resolve(true);
    this.#recovering ??= this.#registerAgain().finally(() => this.#recovering = undefined);
    return this.#recovering;
  }

  /** Sends everything inline until a probe succeeds: registering did not help. */
  latch(reason: unknown): void {
    if (this.#state !== "shared") return;
    this.#state = "latched";
    this.#logger.warn("Shared memory is not used until the server takes it again", {
      region: this.#pool.region,
      reason: messageOf(reason),
    });
    this.#scheduleProbe();
  }

  /** Takes the region back from the server, quietly, and stops probing. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer);
    // A probe in progress is given up, not waited for.
    this.#abort.abort();
    this.#state = "inline";
    // Also after a call that was cut off, or that only one of several servers answered: what a server has
    // mapped it keeps, though the object has lost its name.
    if (this.#mayBeRegistered) await this.#unregister();
  }

  async #decide(): Promise<void> {
    const isSame = await this.#isSame();
    if (isSame === false && this.#mode === "on") {
      throw new FailedPreconditionError(
        "The server does not see this process's shared memory: run it in the same IPC namespace, " +
          "or send tensors in the message",
      );
    }
    // Without the question a server may still have the memory; only `on` tries.
    if (isSame === false || (isSame === undefined && this.#mode === "auto")) {
      this.#state = "inline";
      return;
    }
    await this.#register();
    this.#state = "shared";
  }

  /** `undefined`: the server does not know the question. */
  async #isSame(): Promise<boolean | undefined> {
    try {
      const request = { name: this.#pool.key };
      return (await this.#inference.call(METHODS.isSameIPCNamespace, request, this.#limits())).same;
    } catch (error) {
      if (error instanceof ServerError && error.status === "UNIMPLEMENTED") return undefined;
      throw error;
    }
  }

  async #register(): Promise<void> {
    await this.#unregister();
    const { region, key, byteLength } = this.#pool;
    this.#mayBeRegistered = true;
    await this.#inference.call(METHODS.systemSharedMemoryRegister, {
      name: region,
      key,
      offset: 0n,
      byteSize: BigInt(byteLength),
    }, this.#limits());
    this.#generation++;
  }

  async #unregister(): Promise<void> {
    const request = { name: this.#pool.region };
    const limits = { deadlineMs: performance.now() + CALL_LIMIT_MS };
    // Only to clear what may be left; a server that is gone has nothing left.
    await this.#inference.call(METHODS.systemSharedMemoryUnregister, request, limits).catch(
      () => {},
    );
  }

  async #registerAgain(): Promise<boolean> {
    try {
      await this.#register();
      return true;
    } catch (error) {
      this.latch(error);
      return false;
    }
  }

  #scheduleProbe(): void {
    if (this.#reprobeMs <= 0 || this.#abort.signal.aborted) return;
    this.#timer = setTimeout(() => void this.#probe(), this.#reprobeMs);
    // A client that has nothing else to do may leave.
    Deno.unrefTimer(this.#timer);
  }

  async #probe(): Promise<void> {
    try {
      if (await this.#isSame() === true) {
        await this.#register();
        if (this.#state === "latched") this.#state = "shared";
        return;
      }
    } catch (error) {
      this.#logger.debug("The server did not take shared memory back", {
        reason: messageOf(error),
      });
    }
    this.#scheduleProbe();
  }

  #limits() {
    return { deadlineMs: performance.now() + CALL_LIMIT_MS, signal: this.#abort.signal };
  }
}
