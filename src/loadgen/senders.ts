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
  /** Whether a request's outputs have the sizes that were worked out for them; known after its first answer. */
  readonly #hasKnownOutputs = new Map<PreparedRequest, boolean>();

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
    const isKnown = this.#hasKnownOutputs.get(request);
    const outputs = this.#stagesOutputs && isKnown ? request.outputs : undefined;
    const answer = await handle.infer({ inputs: request.inputs, outputs, signal });
    // An axis that metadata leave open need not be that of rows, and then the answer decides how long it is.
    if (isKnown === undefined) {
      this.#hasKnownOutputs.set(request, hasSizes(answer.outputs, request.outputs));
    }
    return answer.outputs;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#route[Symbol.asyncDispose]();
    } finally {
      this.#pool[Symbol.dispose]();
    }
  }
}

/** Whether these outputs are all there and as large as worked out. */
function hasSizes(outputs: readonly NamedTensor[], sizes: PreparedRequest["outputs"]): boolean {
  return sizes !== undefined &&
    sizes.every(({ name, byteSize }) =>
      outputs.find((output) => output.name === name)?.data.length === byteSize
    );
}
