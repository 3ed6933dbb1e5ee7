/**
 * Bounds the memory that hook code takes outside V8's heap, which no heap limit sees: the contents of
 * array buffers. Everything within a hook's reach that makes one is replaced by a version that looks at
 * what the thread holds and refuses, with a RangeError, to hand out more than the limit.
 *
 * The check comes after the allocation: pages that were never written cost nothing, and what is judged is
 * what was really made, whatever the arguments claimed.
 */

/** Looked at again after this much was handed out, so that small arrays stay cheap. */
const STRIDE_BYTES = 2 ** 20;

export interface AllocationLimits {
  readonly limitBytes: number;
  /** Bytes of array buffers the thread holds, garbage included. */
  readonly heldBytes: () => number;
  /** Frees garbage at once; called only when the limit seems reached. */
  readonly collect: () => void;
}

type AnyFunction = (...args: never[]) => unknown;
type TypedArrayConstructor = typeof Uint8Array;

const TYPED_ARRAYS = [
  "Uint8Array",
  "Uint8ClampedArray",
  "Int8Array",
  "Uint16Array",
  "Int16Array",
  "Uint32Array",
  "Int32Array",
  "BigUint64Array",
  "BigInt64Array",
  "Float16Array",
  "Float32Array",
  "Float64Array",
] as const;

/**
 * Replaces the constructors and methods that allocate, in this realm, for good.
 * @returns the check, for other functions that hand out buffers
 */
export function boundAllocations(limits: AllocationLimits): <T>(made: T) => T {
  const { limitBytes, heldBytes, collect } = limits;
  const { apply, construct, getPrototypeOf, setPrototypeOf, defineProperty } = Reflect;
  const OriginalBuffer = ArrayBuffer;
  const { isView } = ArrayBuffer;
  const abstract = getPrototypeOf(Uint8Array) as TypedArrayConstructor;
  const viewLength = Object.getOwnPropertyDescriptor(abstract.prototype, "byteLength")!.get!;
  const bufferLength = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, "byteLength")!.get!;
  let unchecked = 0;

  function refuseOver(bytes: number): void {
    if (heldBytes() + bytes <= limitBytes) return;
    collect();
    if (heldBytes() + bytes <= limitBytes) return;
    throw new RangeError(
      `Out of memory: the hooks of this model may use ${Math.round(limitBytes / 2 ** 20)} MiB`,
    );
  }

  function account<T>(made: T): T {
    unchecked += isView(made)
      ? apply(viewLength, made, []) as number
      : made instanceof OriginalBuffer
      ? apply(bufferLength, made, []) as number
      : STRIDE_BYTES;
    if (unchecked >= STRIDE_BYTES) {
      unchecked = 0;
      refuseOver(0);
    }
    return made;
  }

  function replace(owner: object, key: PropertyKey, guard: (original: AnyFunction) => AnyFunction) {
    const descriptor = Object.getOwnPropertyDescriptor(owner, key);
    if (typeof descriptor?.value !== "function") return;
    defineProperty(owner, key, { ...descriptor, value: guard(descriptor.value) });
  }

  /** The same method, its result accounted for. */
  const accounted = (original: AnyFunction): AnyFunction =>
    function (this: unknown, ...args: never[]) {
      return account(apply(original, this, args));
    };

  /** A constructor that passes for the original everywhere, `new x.constructor(n)` included. */
  function replaceConstructor(name: string, make: (original: AnyFunction) => AnyFunction): void {
    const scope = globalThis as unknown as Record<string, AnyFunction>;
    const original = scope[name] as AnyFunction & { prototype: object } | undefined;
    if (!original) return;
    const guarded = make(original);
    setPrototypeOf(guarded, getPrototypeOf(original));
    const own = Object.getOwnPropertyDescriptors(original) as Record<string, PropertyDescriptor>;
    for (const [key, descriptor] of Object.entries(own)) defineProperty(guarded, key, descriptor);
    const species = Object.getOwnPropertyDescriptor(original, Symbol.species);
    if (species) defineProperty(guarded, Symbol.species, species);
    defineProperty(original.prototype, "constructor", {
      value: guarded,
      writable: true,
      enumerable: false,
      configurable: true,
    });
    defineProperty(scope, name, {
      value: guarded,
      writable: true,
      enumerable: false,
      configurable: true,
    });
  }

  for (const name of TYPED_ARRAYS) {
    replaceConstructor(name, (original) => {
      const Original = original as unknown as TypedArrayConstructor;
      return function Guarded(first: never, second: never, third: never) {
        if (!new.target) throw new TypeError(`Constructor ${name} requires 'new'`);
        const made = new.target === Guarded as unknown
          ? new Original(first, second, third)
          : construct(Original, [first, second, third], new.target);
        return typeof first === "object" && first !== null && made.buffer === first
          ? made
          : account(made);
      };
    });
    replace((globalThis as unknown as Record<string, object>)[name] ?? {}, "fromBase64", accounted);
    replace((globalThis as unknown as Record<string, object>)[name] ?? {}, "fromHex", accounted);
  }
  replaceConstructor("ArrayBuffer", (original) =>
    function Guarded(length: never, options: never) {
      if (!new.target) throw new TypeError("Constructor ArrayBuffer requires 'new'");
      const target = new.target === Guarded as unknown ? original : new.target;
      return account(construct(original, [length, options], target));
    });
  replaceConstructor("SharedArrayBuffer", () =>
    function Guarded() {
      throw new TypeError("Hooks make no shared memory; a meta's run has call.scratch");
    });
  // These make arrays of their own kind without asking any constructor.
  for (const key of ["with", "toReversed", "toSorted"]) {
    replace(abstract.prototype, key, accounted);
  }
  // These write what they make, so they are judged by what they are asked for.
  for (const key of ["transfer", "transferToFixedLength", "resize"]) {
    replace(
      OriginalBuffer.prototype,
      key,
      (original) =>
        function (this: unknown, ...args: never[]) {
          const length = (args as unknown[])[0];
          if (length === undefined) return apply(original, this, []);
          if (typeof length !== "number") {
            throw new TypeError(`${key}: the length must be a number`);
          }
          refuseOver(Math.max(0, length - (apply(bufferLength, this, []) as number)));
          return apply(original, this, args);
        },
    );
  }
  replace(globalThis, "structuredClone", accounted);
  replace(TextEncoder.prototype, "encode", accounted);
  return account;
}
