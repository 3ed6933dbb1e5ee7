/** Memory that clients and servers of one machine both see, cut into slots for requests. */

import { statfsSync } from "node:fs";
import { createSharedMemory, type SharedMemory, unlinkSharedMemory } from "../../ffi/libc/mod.ts";
import { InvalidArgumentError, messageOf, ResourceExhaustedError } from "../errors.ts";
import { SlotAllocator, type SlotRun, type WaitLimits } from "./slots.ts";

export interface SharedMemoryPoolOptions {
  /** In all; each slot gets an equal share, rounded down to whole alignments. Default 256 MiB. */
  readonly byteLength?: number;
  /** Requests that can be staged at once. Default 8. */
  readonly slots?: number;
  /** Part of the object's name. Default `reactant`. */
  readonly baseName?: string;
  /** Permission bits of the object: a server under another user needs more than the default `0o600`. */
  readonly mode?: number;
}

/** Every tensor in a slot begins at a multiple of this: a cache line. */
export const SLOT_ALIGNMENT = 64;

/** A run of slots, and its bytes. Give it back by disposing it, once nobody reads or writes it. */
export interface StagingArea extends Disposable {
  /** Where it begins in the region. */
  readonly offset: number;
  /** A view of the memory itself: what a server writes shows up here. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * One POSIX shared-memory object. Servers are told about it by a `SharedMemoryRoute`. Disposing unmaps
 * and removes it; areas that are still out must not be touched after that.
 */
export class SharedMemoryPool implements Disposable {
  /** Name of the object, as servers open it: `/shm-{base}-{pid}-{16 hex digits}`. */
  readonly key: string;
  /** Name of the region, as requests refer to it: the key without its slash. */
  readonly region: string;
  readonly slotBytes: number;
  readonly #slots: SlotAllocator;
  readonly #memory: SharedMemory;
  #isDisposed = false;

  /** @throws {SystemCallError | ResourceExhaustedError} when the object cannot be made, or not so large */
  constructor(options: SharedMemoryPoolOptions = {}) {
    const { byteLength = 2 ** 28, slots = 8, baseName = "reactant", mode } = options;
    const share = Math.floor(byteLength / slots);
    this.slotBytes = share - share % SLOT_ALIGNMENT;
    if (!Number.isInteger(slots) || slots < 1 || this.slotBytes < SLOT_ALIGNMENT) {
      throw new InvalidArgumentError(
        `A pool of ${byteLength} bytes cannot have ${slots} slots of ${SLOT_ALIGNMENT} bytes or more`,
      );
    }
    if (!/^[A-Za-z0-9_.-]{1,128}$/.test(baseName)) {
      throw new InvalidArgumentError(
        `${
          JSON.stringify(baseName)
        } cannot be part of an object's name: use letters, digits, _ . -`,
      );
    }
    const random = crypto.getRandomValues(new Uint8Array(8)).toHex();
    this.region = `shm-${baseName}-${Deno.pid}-${random}`;
    this.key = `/${this.region}`;
    this.#slots = new SlotAllocator(slots);
    this.#memory = createSharedMemory(this.key, { byteLength: slots * this.slotBytes, mode });
    try {
      claimPages(this.key, this.byteLength);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes of the whole region. */
  get byteLength(): number {
    return this.#slots.size * this.slotBytes;
  }

  get slots(): number {
    return this.#slots.size;
  }

  /** How many slots `byteLength` bytes take. */
  slotsFor(byteLength: number): number {
    return Math.max(1, Math.ceil(byteLength / this.slotBytes));
  }

  /**
   * Room for `byteLength` bytes, in the order of asking. Contents are whatever was there before.
   * @throws {InvalidArgumentError} at once when the whole pool is smaller
   * @throws {DeadlineExceededError | CancelledError} when the wait takes too long, or its signal ends it
   */
  async acquire(byteLength: number, limits: WaitLimits = {}): Promise<StagingArea> {
    const count = this.slotsFor(byteLength);
    if (count > this.#slots.size) {
      throw new InvalidArgumentError(
        `${byteLength} bytes do not fit the shared-memory pool of ${this.#slots.size} slots of ` +
          `${this.slotBytes} bytes; make it larger`,
      );
    }
    const run: SlotRun = await this.#slots.acquire(count, limits);
    const offset = run.first * this.slotBytes;
    return {
      offset,
      bytes: this.#memory.bytes(offset, count * this.slotBytes),
      [Symbol.dispose]: () => run[Symbol.dispose](),
    };
  }

  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#memory[Symbol.dispose]();
    unlinkSharedMemory(this.key);
  }
}

/** Where Linux shows shared memory objects as files. */
const OBJECTS_FOLDER = "/dev/shm";
const CHUNK_BYTES = 2 ** 20;

/**
 * Takes all of an object's memory now. An object has a size before it has pages, and touching a page that
 * cannot be had ends the process with SIGBUS; writing through a file fails in an orderly way instead.
 */
function claimPages(key: string, byteLength: number): void {
  try {
    const { bavail, bsize } = statfsSync(OBJECTS_FOLDER);
    // Filling what is left before that shows would take it from everybody else.
    if (byteLength > bavail * bsize) throw new Error(`${bavail * bsize} are left`);
    using file = Deno.openSync(`${OBJECTS_FOLDER}${key}`, { write: true });
    const zeros = new Uint8Array(CHUNK_BYTES);
    for (let left = byteLength; left > 0;) {
      left -= file.writeSync(zeros.subarray(0, Math.min(left, CHUNK_BYTES)));
    }
  } catch (error) {
    throw new ResourceExhaustedError(
      `There are no ${byteLength} bytes of shared memory to be had in ${OBJECTS_FOLDER}: ` +
        `${messageOf(error)}; give it more room (--shm-size in a container)`,
      { cause: error },
    );
  }
}

/** `byteLength` rounded up so that what follows is aligned. */
export function alignedLength(byteLength: number): number {
  return Math.ceil(byteLength / SLOT_ALIGNMENT) * SLOT_ALIGNMENT;
}
