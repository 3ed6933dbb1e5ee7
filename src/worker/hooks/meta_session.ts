/** The pool's side of one `run`: answers what it asks for, and gives back everything it took. */

import { InternalError, InvalidArgumentError, messageOf, ServerError } from "../../errors.ts";
import type { NamedTensor } from "../../tensor/mod.ts";
import { checkTensors } from "./checks.ts";
import type { FromHookWorker, ToHookWorker } from "./messages.ts";

/** Working memory on loan; disposing it gives it back. */
export interface Scratch extends Disposable {
  readonly buffer: SharedArrayBuffer;
}

/** What a `run` may ask for. Both reject with the error that is to end the request. */
export interface MetaServices {
  /** Infers with another model. The tensors' contents have been checked, their fit has not. */
  callModel(model: string, inputs: NamedTensor[]): Promise<NamedTensor[]>;
  /** Lends zeroed memory. */
  scratch(bytes: number): Promise<Scratch>;
}

type Ask = FromHookWorker & { type: "subcall" | "scratch" };

/** Requests one run may make: a runaway loop ends here. */
const MAX_REQUESTS = 100_000;

export class MetaSession implements Disposable {
  readonly #id: number;
  readonly #services: MetaServices;
  readonly #post: (message: ToHookWorker, transfer: Transferable[]) => void;
  readonly #failures = new Map<number, unknown>();
  readonly #scratches: Scratch[] = [];
  #requests = 0;
  #isOpen = true;

  constructor(
    id: number,
    services: MetaServices,
    post: (message: ToHookWorker, transfer: Transferable[]) => void,
  ) {
    this.#id = id;
    this.#services = services;
    this.#post = post;
  }

  /** Answers a request of the run, in its own time. */
  receive(ask: Ask): void {
    const { sequence } = ask;
    if (typeof sequence !== "number" || ++this.#requests > MAX_REQUESTS) return;
    const answering = ask.type === "subcall" ? this.#callModel(ask) : this.#lend(ask);
    answering.catch((error: unknown) => {
      this.#failures.set(sequence, error);
      const message = error instanceof ServerError ? error.message : `failed: ${messageOf(error)}`;
      this.#answer({ sequence, error: message }, []);
    });
  }

  /** The error of a request that failed, for a run that let it through. */
  failure(sequence: unknown): unknown {
    return typeof sequence === "number" ? this.#failures.get(sequence) : undefined;
  }

  [Symbol.dispose](): void {
    this.#isOpen = false;
    for (const scratch of this.#scratches.splice(0)) scratch[Symbol.dispose]();
  }

  async #callModel({ sequence, model, inputs }: Ask & { type: "subcall" }): Promise<void> {
    if (typeof model !== "string") throw new InternalError("call(model, inputs): model is no name");
    let tensors: NamedTensor[];
    try {
      tensors = checkTensors(inputs);
    } catch (error) {
      throw new InvalidArgumentError(`call(${JSON.stringify(model)}) got ${messageOf(error)}`);
    }
    const outputs = await this.#services.callModel(model, tensors);
    // Outputs are cut from the dispatch: what is a view of a larger buffer is copied to travel alone.
    const transfer = new Set<ArrayBuffer>();
    const own = outputs.map(({ name, datatype, shape, data }) => {
      const isWhole = data.byteLength === data.buffer.byteLength &&
        !transfer.has(data.buffer as ArrayBuffer);
      const bytes = isWhole ? data : data.slice();
      transfer.add(bytes.buffer as ArrayBuffer);
      return { name, datatype, shape: [...shape], data: bytes };
    });
    this.#answer({ sequence, outputs: own }, [...transfer]);
  }

  async #lend({ sequence, bytes }: Ask & { type: "scratch" }): Promise<void> {
    if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0) {
      throw new InternalError("call.scratch: the sizes are no numbers of bytes");
    }
    const scratch = await this.#services.scratch(bytes);
    if (!this.#isOpen) {
      scratch[Symbol.dispose]();
      return;
    }
    this.#scratches.push(scratch);
    this.#answer({ sequence, buffer: scratch.buffer }, []);
  }

  #answer(
    answer: Omit<ToHookWorker & { type: "answer" }, "type" | "id">,
    transfer: Transferable[],
  ): void {
    if (this.#isOpen) this.#post({ type: "answer", id: this.#id, ...answer }, transfer);
  }
}
