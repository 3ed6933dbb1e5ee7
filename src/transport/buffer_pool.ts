/**
 * Memory for large messages, used again. A new array of a mebibyte is cleared, and V8 collects the whole
 * heap after every few dozen of them: with 1-MiB requests that was half of a server's processor time.
 *
 * Whoever takes a piece gives it back when nobody reads or writes it any more, or never: what is not
 * given back is collected like any other array. So an end that is not certain costs time, never bytes.
 */

/** What is smaller is cheaper to make than to lend. */
export const LEAST_LOAN_BYTES = 16 * 1024;
/** What is larger is rare, and too much to keep. */
export const MOST_LOAN_BYTES = 32 << 20;
const MAX_IDLE_BYTES = 64 << 20;
const POISON = 0xa5;

export interface BufferPoolOptions {
  /** Makes memory of at least `bytes`. Default: an array like any other. */
  readonly allocate?: (bytes: number) => Uint8Array<ArrayBuffer>;
  /** Memory kept while nobody has it, all sizes together. Default 64 MiB. */
  readonly maxIdleBytes?: number;
  /**
   * For tests: what is given back is overwritten, so that whoever still reads it reads nonsense, and
   * `take` throws where somebody wrote to it since. Default: whether the variable
   * `REACTANTSERVER_POISON` is 1.
   */
  readonly isPoisoning?: boolean;
}

/** A piece of memory that somebody has. States: lent, given back. */
export interface Loan {
  /** At least as long as was asked for. What it holds is of no use, and nobody's to see. */
  readonly memory: Uint8Array<ArrayBuffer>;
  /** Gives it back: nobody reads or writes it from here on. Again, it does nothing. */
  release(): void;
}

/** Lends memory by size, to one user at a time. */
export class BufferPool {
  readonly #allocate: (bytes: number) => Uint8Array<ArrayBuffer>;
  readonly #maxIdleBytes: number;
  readonly #isPoisoning: boolean;
  /** By size, those used last at the end; in each the piece given back last at the end. */
  readonly #idle = new Map<number, Uint8Array<ArrayBuffer>[]>();
  #idleBytes = 0;

  constructor(options: BufferPoolOptions = {}) {
    this.#allocate = options.allocate ?? ((bytes) => new Uint8Array(bytes));
    this.#maxIdleBytes = options.maxIdleBytes ?? MAX_IDLE_BYTES;
    this.#isPoisoning = options.isPoisoning ??
      Deno.env.get("REACTANTSERVER_POISON") === "1";
  }

  /** Memory that nobody has. */
  get idleBytes(): number {
    return this.#idleBytes;
  }

  /** Lends memory, new if it must be. `undefined`: of that length none is lent. */
  take(length: number): Loan | undefined {
    if (!isLent(length)) return undefined;
    return this.takeIdle(length) ?? new Lent(this, this.#allocate(sizeClass(length)));
  }

  /** Lends memory only where some is idle: that costs nothing, however little of it comes to be used. */
  takeIdle(length: number): Loan | undefined {
    if (!isLent(length)) return undefined;
    const size = sizeClass(length);
    const pieces = this.#idle.get(size);
    const memory = pieces?.pop();
    if (memory === undefined) return undefined;
    this.#idleBytes -= size;
    this.#idle.delete(size);
    if (pieces!.length > 0) this.#idle.set(size, pieces!);
    if (this.#isPoisoning) checkPoison(memory);
    return new Lent(this, memory);
  }

  /** For `Loan.release` alone. */
  giveBack(memory: Uint8Array<ArrayBuffer>): void {
    const size = memory.length;
    // Detached, because it was handed to another thread: it is that thread's now.
    if (size === 0 || size > this.#maxIdleBytes) return;
    if (this.#isPoisoning) memory.fill(POISON);
    const pieces = this.#idle.get(size) ?? [];
    pieces.push(memory);
    this.#idle.delete(size);
    this.#idle.set(size, pieces);
    this.#idleBytes += size;
    while (this.#idleBytes > this.#maxIdleBytes) this.#forgetOldest();
  }

  #forgetOldest(): void {
    const [size, pieces] = this.#idle.entries().next().value!;
    pieces.shift();
    if (pieces.length === 0) this.#idle.delete(size);
    this.#idleBytes -= size;
  }
}

class Lent implements Loan {
  readonly #pool: BufferPool;
  #memory: Uint8Array<ArrayBuffer> | undefined;

  constructor(pool: BufferPool, memory: Uint8Array<ArrayBuffer>) {
    this.#pool = pool;
    this.#memory = memory;
  }

  get memory(): Uint8Array<ArrayBuffer> {
    if (this.#memory === undefined) throw new Error("This memory was given back");
    return this.#memory;
  }

  release(): void {
    const memory = this.#memory;
    this.#memory = undefined;
    if (memory !== undefined) this.#pool.giveBack(memory);
  }
}

function isLent(length: number): boolean {
  return length >= LEAST_LOAN_BYTES && length <= MOST_LOAN_BYTES;
}

/** Four sizes between one power of two and the next: at most a quarter more than was asked for. */
function sizeClass(length: number): number {
  const step = 1 << (29 - Math.clz32(length));
  return Math.ceil(length / step) * step;
}

function checkPoison(memory: Uint8Array): void {
  for (let at = 0; at < memory.length; at++) {
    if (memory[at] !== POISON) throw new Error(`Memory was written to at ${at} after its release`);
  }
}
