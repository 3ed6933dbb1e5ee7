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

/** Requests of one run that may wait for an answer at the same time. */
const MAX_WAITING = 256;

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
  #waitingCount = 0;
  #hasScratch = false;

  constructor(id: number, post: Post) {
    this.#id = id;
    this.#post = post;
    const call = (model: string, inputs: NamedTensor[]) => this.#callModel(model, inputs);
    this.call = Object.assign(call, { scratch: (sizes: number[]) => this.#scratch(sizes) });
  }

  /** The request whose failure this error is, if it is one. */
  sequenceOf(error: unknown): number | undefined {
    const sequence: unknown = error instanceof Error ? this.#failures.get(error) : undefined;
    return typeof sequence === "number" ? sequence : undefined;
  }

  /** Settles a request of this run; answers to another run are dropped. */
  answer(message: ToHookWorker & { type: "answer" }): void {
    if (message.id !== this.#id) return;
    const waiting = this.#waiting.get(message.sequence);
    if (!waiting) return;
    this.#waiting.delete(message.sequence);
    this.#waitingCount--;
    if (message.error === undefined) return waiting.resolve(message);
    const error = new Error(message.error);
    this.#failures.set(error, message.sequence);
    waiting.reject(error);
  }

  async #callModel(model: string, inputs: NamedTensor[]): Promise<NamedTensor[]> {
    checkText(model, "call: the model");
    // The run still owns its tensors: what is not shared is copied rather than taken from it.
    const { tensors, transfer } = packTensors(inputs, { copy: true });
    const answer = await this.#request((sequence) =>
      this.#post({ type: "subcall", id: this.#id, sequence, model, inputs: tensors }, transfer)
    );
    return [...answer.outputs!];
  }

  async #scratch(byteLengths: number[]): Promise<Uint8Array[]> {
    if (!isArray(byteLengths)) throw new TypeError("call.scratch takes a list of sizes in bytes");
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
      this.#post({ type: "scratch", id: this.#id, sequence, bytes: toNumber(bytes) }, [])
    );
    return byteLengths.map((length, index) =>
      new Uint8Array(answer.buffer!, offsets[index]!, length)
    );
  }

  #request(send: (sequence: number) => void): Promise<ToHookWorker & { type: "answer" }> {
    if (this.#waitingCount >= MAX_WAITING) {
      throw new RangeError(`call: more than ${MAX_WAITING} calls of one run at the same time`);
    }
    const sequence = this.#sequence++;
    this.#waitingCount++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(sequence, { resolve, reject });
      try {
        send(sequence);
      } catch (error) {
        this.#waitingCount--;
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
 *
 * The other side has to build whatever is sent, so everything but the bytes is bounded here. The hook may
 * have replaced the methods of arrays and strings: none is called, each value is read once and only its
 * type is trusted.
 */
export function packTensors(
  tensors: readonly NamedTensor[],
  { copy = false } = {},
): { tensors: NamedTensor[]; transfer: Transferable[] } {
  const packed: NamedTensor[] = [];
  const transfer: Transferable[] = [];
  // What is no list is the pool's to refuse, without building it.
  if (!isArray(tensors)) throw new TypeError("gave no list of tensors");
  const count = bounded(tensors.length, MAX_TENSORS, "tensors");
  for (let index = 0; index < count; index++) {
    const tensor = tensors[index];
    if (typeof tensor !== "object" || tensor === null) {
      throw new TypeError(`gave no tensor at ${index}`);
    }
    const { name, datatype, shape: extents, data } = tensor;
    checkText(name, "a tensor's name");
    checkText(datatype, "a tensor's datatype");
    const shape: number[] = [];
    if (!isArray(extents)) throw new TypeError("a tensor's shape must be a list");
    const rank = bounded(extents.length, MAX_RANK, "extents");
    for (let axis = 0; axis < rank; axis++) append(shape, axis, toNumber(extents[axis]));
    if (!isView(data)) throw new TypeError("a tensor's data must be a Uint8Array");
    const bytes = asBytes(data);
    const buffer = apply(bufferOf, bytes, []) as ArrayBufferLike;
    const length = apply(byteLengthOf, bytes, []) as number;
    let own = bytes;
    if (!isShared(buffer)) {
      const isWhole = !copy && length === apply(bufferBytes, buffer, []) &&
        !includes(transfer, buffer);
      if (!isWhole) {
        own = new Bytes(length);
        apply(setBytes, own, [bytes]);
      }
      append(transfer, transfer.length, apply(bufferOf, own, []));
    }
    append(packed, index, { name, datatype, shape, data: own });
  }
  return { tensors: packed, transfer };
}

const MAX_TENSORS = 1024;
const MAX_RANK = 32;
const MAX_TEXT = 1024;

// Taken before the hook file runs, so that it cannot replace them.
const { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
const { isArray } = Array;
const { isView } = ArrayBuffer;
const Bytes = Uint8Array;
const anyArray = getPrototypeOf(Bytes.prototype) as object;
const getter = (owner: object, key: string) => getOwnPropertyDescriptor(owner, key)!.get!;
const bufferOf = getter(anyArray, "buffer");
const byteLengthOf = getter(anyArray, "byteLength");
const byteOffsetOf = getter(anyArray, "byteOffset");
const viewBufferOf = getter(DataView.prototype, "buffer");
const viewLengthOf = getter(DataView.prototype, "byteLength");
const viewOffsetOf = getter(DataView.prototype, "byteOffset");
const bufferBytes = getter(ArrayBuffer.prototype, "byteLength");
const sharedBytes = getter(SharedArrayBuffer.prototype, "byteLength");
const setBytes = Bytes.prototype.set;

function append(list: unknown[], at: number, value: unknown): void {
  defineProperty(list, at, { value, writable: true, enumerable: true, configurable: true });
}

function includes(list: readonly unknown[], value: unknown): boolean {
  for (let index = 0; index < list.length; index++) if (list[index] === value) return true;
  return false;
}

function bounded(count: unknown, limit: number, what: string): number {
  if (typeof count === "number" && count <= limit) return count;
  throw new RangeError(`more than ${limit} ${what}`);
}

function checkText(value: unknown, what: string): void {
  if (typeof value === "string" && value.length <= MAX_TEXT) return;
  throw new TypeError(`${what} must be a string of at most ${MAX_TEXT} characters`);
}

/** A number as it is; anything else as one that no shape may have. */
function toNumber(value: unknown): number {
  return typeof value === "number" ? value : NaN;
}

function asBytes(view: ArrayBufferView): Uint8Array {
  const isTyped = getPrototypeOf(view) !== DataView.prototype;
  const [buffer, offset, length] = isTyped
    ? [bufferOf, byteOffsetOf, byteLengthOf]
    : [viewBufferOf, viewOffsetOf, viewLengthOf];
  return new Bytes(
    apply(buffer, view, []) as ArrayBuffer,
    apply(offset, view, []) as number,
    apply(length, view, []) as number,
  );
}

function isShared(buffer: ArrayBufferLike): boolean {
  try {
    apply(sharedBytes, buffer, []);
    return true;
  } catch {
    return false;
  }
}
