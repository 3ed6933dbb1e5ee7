/**
 * Keeps SIGBUS from ending the process. A mapping of memory that others can make shorter has no page to
 * read any more behind the new end, and a page in a full file system cannot be had at all: touching either
 * raises SIGBUS, in whichever thread touches it, XLA's own included. Ranges announced here get zeroed
 * memory from the faulting page on instead, and are marked as torn, so that whoever computed on them
 * can throw the result away. The handler is `reactant_guard` in `ffi/native/machine_code.ts`; faults
 * elsewhere keep the handler they had.
 */

import { MAX_SLOTS, native, SLOT_BYTES, STATE } from "../native/mod.ts";
import { allocate } from "../pointer.ts";
import { lastError } from "./errno.ts";
import { libc } from "./symbols.ts";

const SIGBUS = 7;
const PAGE_BYTES = 4096n;
const SLOT_WORDS = SLOT_BYTES / 8;

/** glibc's `struct sigaction` on x86-64: handler, mask of 1024 bits, flags, restorer. */
const SIGACTION_BYTES = 152;
const SIGACTION_FLAGS_OFFSET = 136;
const SA_SIGINFO = 0x4;
const SA_ONSTACK = 0x0800_0000;
const SA_RESTART = 0x1000_0000;
const SA_NODEFER = 0x4000_0000;

/** A range that may be touched whatever happens to the file behind it. States: announced, disposed. */
export interface GuardedRange extends Disposable {
  /** Whether some of the file's memory was missing when it was touched. It stays so. */
  readonly isTorn: boolean;
}

class BusGuard {
  /** The handler's state, see `STATE`. */
  readonly #words: BigUint64Array;
  /** The same memory, for what is asked often: a 64-bit word would be a new object each time. */
  readonly #halves: Uint32Array;
  readonly #freeSlots: number[] = [];
  #count = 0;

  constructor(guard: { readonly handler: bigint; readonly state: bigint }) {
    const state = Deno.UnsafePointer.create(guard.state)!;
    const bytes = STATE.slots + MAX_SLOTS * SLOT_BYTES;
    const memory = Deno.UnsafePointerView.getArrayBuffer(state, bytes);
    this.#words = new BigUint64Array(memory);
    this.#halves = new Uint32Array(memory);
    const action = new DataView(allocate(SIGACTION_BYTES).buffer);
    const flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER;
    action.setBigUint64(0, guard.handler, true);
    action.setInt32(SIGACTION_FLAGS_OFFSET, flags, true);
    const previous = new DataView(allocate(SIGACTION_BYTES).buffer);
    const bytesOf = (view: DataView) => new Uint8Array(view.buffer as ArrayBuffer);
    // Asked first, so that the handler never runs without knowing whom to pass a fault on to.
    if (libc().sigaction(SIGBUS, null, bytesOf(previous)) !== 0) {
      throw lastError("sigaction", "SIGBUS");
    }
    this.#words[STATE.previous / 8] = previous.getBigUint64(0, true);
    if (libc().sigaction(SIGBUS, bytesOf(action), null) !== 0) {
      throw lastError("sigaction", "SIGBUS");
    }
  }

  announce(address: bigint, byteLength: number): GuardedRange | undefined {
    const slot = this.#freeSlots.pop() ?? (this.#count < MAX_SLOTS ? this.#count++ : undefined);
    if (slot === undefined) return undefined;
    const words = this.#words;
    const [start, end, torn] = [0, 1, 2].map((field) =>
      STATE.slots / 8 + slot * SLOT_WORDS + field
    ) as [
      number,
      number,
      number,
    ];
    const pages = (BigInt(byteLength) + PAGE_BYTES - 1n) / PAGE_BYTES;
    words[torn] = 0n;
    words[start] = address;
    words[end] = address + pages * PAGE_BYTES;
    words[STATE.count / 8] = BigInt(this.#count);
    const [halves, mark] = [this.#halves, 2 * torn];
    const freeSlots = this.#freeSlots;
    let isAnnounced = true;
    let wasTorn = false;
    return {
      get isTorn() {
        return isAnnounced ? halves[mark] !== 0 : wasTorn;
      },
      [Symbol.dispose]() {
        if (!isAnnounced) return;
        wasTorn = halves[mark] !== 0;
        isAnnounced = false;
        words[end] = 0n;
        words[start] = 0n;
        freeSlots.push(slot);
      },
    };
  }
}

let installed: BusGuard | undefined;

/**
 * Announces mapped memory, which must stay mapped until the range is disposed; native code must not touch
 * it after that. `undefined` where this process cannot guard (no machine code for it) or no more
 * (`MAX_SLOTS` ranges): such memory must be touched by system calls only.
 * @param address of the mapping's first page
 * @throws {SystemCallError} when the handler cannot be installed
 */
export function guardRange(address: bigint, byteLength: number): GuardedRange | undefined {
  const { guard } = native();
  if (guard === undefined || byteLength === 0) return undefined;
  installed ??= new BusGuard(guard);
  return installed.announce(address, byteLength);
}
