/** Shared libraries that stay loaded until the process ends. */

import { cString } from "../pointer.ts";
import { libc } from "./symbols.ts";

const RTLD_NOW = 2;
const RTLD_NODELETE = 0x1000;

/** A loaded library; there is deliberately no way to unload it. */
export interface PinnedLibrary {
  /** The address of an exported symbol, or `undefined` when the library has none of that name. */
  symbol(name: string): Deno.PointerObject | undefined;
}

/**
 * Loads a library for the rest of the process. `Deno.dlopen` unloads its libraries when the process
 * leaves, before the C++ destructors inside them run: XLA's plugins crash on that (measured with
 * xla-cpu-pjrt 0.0.1: a segmentation fault at every exit, none with RTLD_NODELETE).
 * @throws {Error} with the dynamic loader's own message
 */
export function openPinnedLibrary(path: string): PinnedLibrary {
  const handle = libc().dlopen(cString(path), RTLD_NOW | RTLD_NODELETE);
  if (handle === null) throw new Error(loaderMessage());
  return {
    symbol: (name) => libc().dlsym(handle, cString(name)) ?? undefined,
  };
}

function loaderMessage(): string {
  const message = libc().dlerror();
  return message === null ? "unknown error" : Deno.UnsafePointerView.getCString(message);
}
