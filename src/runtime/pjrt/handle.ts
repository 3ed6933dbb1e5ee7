/**
 * Ownership of native objects. Every PJRT object we hold is counted in one `HandleTable` from the call
 * that made it to the call that frees it, so a leak shows as a number that does not return to zero.
 */

import type { Address } from "../../../ffi/mod.ts";

/** What is counted, by name: PJRT's own words. A program is one of each kind of executable. */
export type HandleKind = "client" | "buffer" | "executable" | "loaded_executable" | "event";

/** The live handles of one client, by kind. */
export class HandleTable {
  readonly #counts: Record<HandleKind, number> = {
    client: 0,
    buffer: 0,
    executable: 0,
    loaded_executable: 0,
    event: 0,
  };
  readonly #owned = new Set<Handle<string>>();

  /** Counts an object that the caller frees itself, within one operation; `-1` when it has. */
  count(kind: HandleKind, change: 1 | -1): void {
    this.#counts[kind] += change;
  }

  /** Takes ownership of a native object; `destroy` frees it. */
  own<Name extends string>(
    kind: HandleKind,
    address: Address<Name>,
    destroy: (address: Address<Name>) => void,
  ): Handle<Name> {
    const handle: Handle<Name> = new Handle(kind, address, () => {
      this.#owned.delete(handle as unknown as Handle<string>);
      this.#counts[kind]--;
      destroy(address);
    });
    this.#owned.add(handle as unknown as Handle<string>);
    this.#counts[kind]++;
    return handle;
  }

  /** How many objects of each kind are alive. */
  live(): Readonly<Record<HandleKind, number>> {
    return { ...this.#counts };
  }

  /** Disposes every owned handle that is left, newest first. */
  disposeAll(): void {
    for (const handle of [...this.#owned].reverse()) handle[Symbol.dispose]();
  }
}

/**
 * One owned native object. States: live, disposed while borrowed (freed by the last `release`), freed.
 */
export class Handle<Name extends string> implements Disposable {
  readonly #kind: HandleKind;
  readonly #address: Address<Name>;
  readonly #free: () => void;
  #borrowers = 0;
  #isDisposed = false;

  constructor(kind: HandleKind, address: Address<Name>, free: () => void) {
    this.#kind = kind;
    this.#address = address;
    this.#free = free;
  }

  get isDisposed(): boolean {
    return this.#isDisposed;
  }

  /**
   * The address, for a call that ends with `release`: until then the object is not freed.
   * @throws {TypeError} after dispose
   */
  borrow(): Address<Name> {
    if (this.#isDisposed) throw new TypeError(`this ${this.#kind} has been disposed`);
    this.#borrowers++;
    return this.#address;
  }

  /** Ends one `borrow`. */
  release(): void {
    this.#borrowers--;
    if (this.#isDisposed && this.#borrowers === 0) this.#free();
  }

  /** Frees the object, now or when the last borrower releases it. */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#borrowers === 0) this.#free();
  }
}
