/**
 * Calls of native functions by address, as cheap as of exported ones. `Deno.UnsafeFnPointer` takes 2.4
 * microseconds a call, because it reads its definition anew each time; an exported symbol takes 0.06,
 * because V8 calls it directly. PJRT hands out addresses and exports one symbol. So a library of our own
 * is loaded whose only work is to pass a call on (see `machine_code.ts`); it is written into memory, not
 * into a file. On other machines than x86-64, or where memory may not be run, Deno's slower way serves.
 */

import {
  assembleText,
  MAX_SLOTS,
  ROUTINES,
  SLOT_BYTES,
  STATE,
  STATE_OFFSET,
  TEXT_OFFSET,
} from "./machine_code.ts";
import { writeImage } from "./image.ts";

/** Native functions by address. */
export interface Native {
  /** Whether the library is there; if not, why. */
  readonly kind: "direct" | { readonly missing: string };
  /** `function(args)`: a C function of one pointer that returns a pointer. */
  call(target: Deno.PointerObject, args: Uint8Array<ArrayBuffer>): Deno.PointerValue;
  /** The address of a view's first byte; it must not be empty. */
  address(view: ArrayBufferView<ArrayBuffer>): bigint;
  /** The SIGBUS handler and its state, where the library is there. */
  readonly guard: { readonly handler: bigint; readonly state: bigint } | undefined;
}

const CALL = { parameters: ["buffer"], result: "pointer" } as const;

const STATE_SYMBOL = "reactant_state";

const SYMBOLS = {
  reactant_address: { parameters: ["buffer"], result: "u64" },
  reactant_call: { parameters: ["pointer", "buffer"], result: "pointer" },
  reactant_guard: { type: "pointer" },
  reactant_state: { type: "pointer" },
} as const;

const LIBC = {
  close: { parameters: ["i32"], result: "i32" },
  dlopen: { parameters: ["buffer", "i32"], result: "pointer" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
} as const;

const MFD_CLOEXEC = 1;
const RTLD_NOW = 2;
const RTLD_NODELETE = 0x1000;

let loaded: Native | undefined;

/** The functions of this process; the library is loaded when first asked for. */
export function native(): Native {
  loaded ??= load();
  return loaded;
}

/** What a process without the library uses. Public for the tests that compare both. */
export function withoutLibrary(missing: string): Native {
  const functions = new Map<Deno.PointerObject, Deno.UnsafeFnPointer<typeof CALL>>();
  return {
    kind: { missing },
    call: (target, args) => {
      let known = functions.get(target);
      if (known === undefined) {
        known = new Deno.UnsafeFnPointer(target as Deno.PointerObject<typeof CALL>, CALL);
        functions.set(target, known);
      }
      return known.call(args);
    },
    address: (view) =>
      Deno.UnsafePointer.value(Deno.UnsafePointer.of(view as Uint8Array<ArrayBuffer>)),
    guard: undefined,
  };
}

function load(): Native {
  if (Deno.build.arch !== "x86_64" || Deno.build.os !== "linux") {
    return withoutLibrary(`no machine code for ${Deno.build.arch} ${Deno.build.os}`);
  }
  try {
    const library = openImage();
    const { reactant_address, reactant_call, reactant_guard, reactant_state } = library.symbols;
    // The library stays (it is pinned), and with it what was looked up in it; only Deno's handle goes,
    // so that no test is told that it leaks a library because it was the first to need one.
    library.close();
    return {
      kind: "direct",
      call: reactant_call as Native["call"],
      address: reactant_address as Native["address"],
      guard: {
        handler: Deno.UnsafePointer.value(reactant_guard),
        state: Deno.UnsafePointer.value(reactant_state),
      },
    };
  } catch (error) {
    return withoutLibrary(error instanceof Error ? error.message : String(error));
  }
}

function openImage(): Deno.DynamicLibrary<typeof SYMBOLS> {
  const image = writeImage({
    text: assembleText(),
    textOffset: TEXT_OFFSET,
    dataEnd: STATE_OFFSET + STATE.slots + MAX_SLOTS * SLOT_BYTES,
    symbols: new Map([
      ...ROUTINES.map(({ name, offset }): [string, number] => [name, TEXT_OFFSET + offset]),
      [STATE_SYMBOL, STATE_OFFSET],
    ]),
  });
  const libc = Deno.dlopen("libc.so.6", LIBC);
  try {
    const text = (value: string) => new TextEncoder().encode(`${value}\0`);
    const file = libc.symbols.memfd_create(text("reactant"), MFD_CLOEXEC);
    if (file < 0) throw new Error("memfd_create failed");
    try {
      const written = libc.symbols.write(file, image, BigInt(image.length));
      if (Number(written) !== image.length) throw new Error("the library cannot be written");
      const path = `/proc/self/fd/${file}`;
      const library = Deno.dlopen(path, SYMBOLS);
      // Deno unloads its libraries at exit, when a signal handler in this one may still be needed.
      if (libc.symbols.dlopen(text(path), RTLD_NOW | RTLD_NODELETE) === null) {
        library.close();
        throw new Error("the library cannot be pinned");
      }
      return library;
    } finally {
      libc.symbols.close(file);
    }
  } finally {
    libc.close();
  }
}
