/** The ways a request can go. */

import {
  ModelHandle,
  NO_RETRIES,
  type ServerConnection,
  SharedMemoryPool,
  SharedMemoryRoute,
  stagedLength,
} from "../client/mod.ts";
import type { Logger } from "../log.ts";
import type { NamedTensor } from "../tensor/mod.ts";
import type { PreparedRequest } from "./load_model.ts";

/** Limits of one call. */
export interface SendLimits {
  /** From now. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/** One way to a server. */
export interface Sender {
  /** Runs a request once; rejects with the `ServerError` it ended with. */
  send(request: PreparedRequest, limits: SendLimits): Promise<readonly NamedTensor[]>;
}

/** Tensors in the message, which was encoded beforehand. */
export function wireSender({ inference }: ServerConnection): Sender {
  return {
    async send({ message }, { deadlineMs, signal }) {
      const options = { deadlineMs: performance.now() + deadlineMs, signal };
      return (await inference.inferMessage(message, options)).outputs;
    },
  };
}

export interface SharedMemorySenderOptions {
  readonly connection: ServerConnection;
  readonly requests: readonly PreparedRequest[];
  /** Requests staged at once, at most. */
  readonly slots: number;
  readonly stagesOutputs: boolean;
  readonly logger: Logger;
}

/** The least slots a pool gets, however few requests are in flight. */
const MIN_SLOTS = 8;

/** Tensors in a pool of this process. A server that does not see the pool is an error of each call. */
export class SharedMemorySender implements Sender, AsyncDisposable {
  readonly #connection: ServerConnection;
  readonly #stagesOutputs: boolean;
  readonly #pool: SharedMemoryPool;
  readonly #route: SharedMemoryRoute;

  constructor({ connection, requests, slots, stagesOutputs, logger }: SharedMemorySenderOptions) {
    const largest = Math.max(
      1,
      ...requests.map(({ inputs, outputs }) =>
        stagedLength(inputs, stagesOutputs ? outputs : undefined)
      ),
    );
    const count = Math.max(MIN_SLOTS, slots);
    this.#connection = connection;
    this.#stagesOutputs = stagesOutputs;
    // Slots are rounded down to their alignment, and sizes are multiples of it already.
    this.#pool = new SharedMemoryPool({
      slots: count,
      byteLength: count * Math.max(64, largest),
      baseName: "loadgen",
      // The server may run as another user.
      mode: 0o666,
    });
    const { inference } = connection;
    this.#route = new SharedMemoryRoute({ inference, pool: this.#pool, mode: "on", logger });
  }

  async send(
    request: PreparedRequest,
    { deadlineMs, signal }: SendLimits,
  ): Promise<readonly NamedTensor[]> {
    const handle = new ModelHandle({
      inference: this.#connection.inference,
      name: request.model,
      deadlineMs,
      retry: NO_RETRIES,
      memory: this.#route,
    });
    const outputs = this.#stagesOutputs ? request.outputs : undefined;
    return (await handle.infer({ inputs: request.inputs, outputs, signal })).outputs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#route[Symbol.asyncDispose]();
    this.#pool[Symbol.dispose]();
  }
}
