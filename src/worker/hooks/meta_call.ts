/**
 * The `call` function of a meta model's `run`, on the hook worker's side: requests go to the pool as
 * messages, answers come back by sequence number.
 *
 * Tensors in shared memory (`call.scratch`) pass by reference in both directions. Others are handed over
 * when they own their buffer and copied when they do not; nothing is ever serialized.
 */

import type { NamedTensor } from "../../tensor/mod.ts";
import type { FromHookWorker, ToHookWorker } from "./messages.ts";

type Post = (message: FromHookWorker, transfer: Transferable[]) => void;

/** Scratch buffers start at multiples of this, so that every typed array fits. */
const SCRATCH_ALIGNMENT = 64;

/** What authors are given: see `api.d.ts`. */
export interface CallFunction {
  (model: string, inputs: NamedTensor[]): Promise<NamedTensor[]>;
  /** Zeroed buffers of these sizes in bytes; once per run. */
  scratch(byteLengths: number[]): Promise<Uint8Array[]>;
}

interface Waiting {
  resolve(answer: ToHookWorker & { type: "answer" }): void;
  reject(error: Error): void;
}

/** One run in progress. */
export class MetaCall {
  readonly call: CallFunction;
  readonly #id: number;
  readonly #post: Post;
  readonly #waiting = new Map<number, Waiting>();
  readonly #failures = new WeakMap<Error, number>();
  #sequence = 0;
  #hasScratch = false;

  constructor(id: number, post: Post) {
    this.#id = id;
    this.#post = post;
    const call = (model: string, inputs: NamedTensor[]) => this.#callModel(model, inputs);
    this.call = Object.assign(call, { scratch: (sizes: number[]) => this.#scratch(sizes) });
  }

  /** The request whose failure this error is, if it is one. */
  sequenceOf(error: unknown): number | undefined {
    return error instanceof Error ? this.#failures.get(error) : undefined;
  }

  /** Settles a request of this run; answers to another run are dropped. */
  answer(message: ToHookWorker & { type: "answer" }): void {
    if (message.id !== this.#id) return;
    const waiting = this.#waiting.get(message.sequence);
    if (!waiting) return;
    this.#waiting.delete(message.sequence);
    if (message.error === undefined) return waiting.resolve(message);
    const error = new Error(message.error);
    this.#failures.set(error, message.sequence);
    waiting.reject(error);
  }

  async #callModel(model: string, inputs: NamedTensor[]): Promise<NamedTensor[]> {
    // The run still owns its tensors: what is not shared is copied rather than taken from it.
    const { tensors, transfer } = packTensors(inputs, { copy: true });
    const answer = await this.#request((sequence) =>
      this.#post({ type: "subcall", id: this.#id, sequence, model, inputs: tensors }, transfer)
    );
    return [...answer.outputs!];
  }

  async #scratch(byteLengths: number[]): Promise<Uint8Array[]> {
    if (this.#hasScratch) throw new Error("call.scratch may be used once per run");
    this.#hasScratch = true;
    let bytes = 0;
    const offsets = byteLengths.map((length) => {
      if (!Number.isSafeInteger(length) || length < 0) {
        throw new RangeError(`call.scratch: a size must be a whole number of bytes, got ${length}`);
      }
      const offset = bytes;
      bytes += Math.ceil(length / SCRATCH_ALIGNMENT) * SCRATCH_ALIGNMENT;
      return offset;
    });
    const answer = await this.#request((sequence) =>
      this.#post({ type: "scratch", id: this.#id, sequence, bytes }, [])
    );
    return byteLengths.map((length, index) =>
      new Uint8Array(answer.buffer!, offsets[index]!, length)
    );
  }

  #request(send: (sequence: number) => void): Promise<ToHookWorker & { type: "answer" }> {
    const sequence = this.#sequence++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(sequence, { resolve, reject });
      try {
        send(sequence);
      } catch (error) {
        this.#waiting.delete(sequence);
        reject(error);
      }
    });
  }
}

/**
 * Tensors as they are sent. Shared memory goes by reference. A view that covers its whole buffer is
 * handed over (or copied, when the sender goes on using it); any other view is copied, since sending it
 * would send the whole buffer.
 */
export function packTensors(
  tensors: readonly NamedTensor[],
  { copy = false } = {},
): { tensors: NamedTensor[]; transfer: Transferable[] } {
  const transfer = new Set<ArrayBuffer>();
  const packed = tensors.map(({ name, datatype, shape, data }) => {
    if (!ArrayBuffer.isView(data)) throw new TypeError("a tensor's data must be a Uint8Array");
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (data.buffer instanceof SharedArrayBuffer) return { name, datatype, shape, data: bytes };
    const isWhole = bytes.byteLength === bytes.buffer.byteLength;
    const own = isWhole && !copy && !transfer.has(bytes.buffer as ArrayBuffer)
      ? bytes
      : bytes.slice();
    transfer.add(own.buffer as ArrayBuffer);
    return { name, datatype, shape, data: own };
  });
  return { tensors: packed, transfer: [...transfer] };
}
