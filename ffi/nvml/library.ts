/** Functions of a library that may not be there. */

import { openPinnedLibrary } from "../libc/dynamic_library.ts";
import { NvmlError } from "./errors.ts";

/** Functions by name. */
type Symbols = Readonly<Record<string, Deno.ForeignFunction>>;

/** What calling them looks like. */
export type Functions<S extends Symbols> = {
  readonly [Name in keyof S]: Deno.UnsafeFnPointer<S[Name]>["call"];
};

/**
 * Loads a library for the rest of the process and finds its functions.
 * @throws {NvmlError} when it is not there, or lacks one of them
 */
export function loadFunctions<const S extends Symbols>(path: string, symbols: S): Functions<S> {
  let library;
  try {
    library = openPinnedLibrary(path);
  } catch (cause) {
    // The loader's message begins with the path.
    throw new NvmlError((cause as Error).message, undefined, { cause });
  }
  const entries = Object.entries(symbols).map(([name, signature]) => {
    const address = library.symbol(name);
    if (address === undefined) throw new NvmlError(`${path} has no ${name}`);
    const native = new Deno.UnsafeFnPointer(
      address as Deno.PointerObject<Deno.ForeignFunction>,
      signature,
    );
    return [name, native.call.bind(native)];
  });
  return Object.fromEntries(entries) as Functions<S>;
}
