/** The C library functions we call. It is opened on first use and shared by everything here. */

const SYMBOLS = {
  __errno_location: { parameters: [], result: "pointer" },
  _exit: { parameters: ["i32"], result: "void" },
  close: { parameters: ["i32"], result: "i32" },
  dlerror: { parameters: [], result: "pointer" },
  dlopen: { parameters: ["buffer", "i32"], result: "pointer" },
  dlsym: { parameters: ["pointer", "buffer"], result: "pointer" },
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  fstat: { parameters: ["i32", "buffer"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  // Declared with a fixed third argument: variadic integers travel in the same registers here.
  open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  sched_getaffinity: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  sched_setaffinity: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  shm_open: { parameters: ["buffer", "i32", "u32"], result: "i32" },
  sigaction: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  shm_unlink: { parameters: ["buffer"], result: "i32" },
} as const;

/** Functions that leave the thread. */
const NONBLOCKING = {
  // Walks through all that was ever allocated.
  malloc_trim: { parameters: ["usize"], result: "i32", nonblocking: true },
  // Gigabytes take a while, and the first touch of each page more so.
  memcpy: { parameters: ["pointer", "pointer", "usize"], result: "pointer", nonblocking: true },
  // Returns the error number instead of leaving it in errno, which would be another thread's.
  posix_fallocate: { parameters: ["i32", "i64", "i64"], result: "i32", nonblocking: true },
} as const;

type Nonblocking = typeof NONBLOCKING;

export type Libc =
  & Deno.StaticForeignLibraryInterface<typeof SYMBOLS>
  & { readonly [Name in keyof Nonblocking]: Deno.UnsafeFnPointer<Nonblocking[Name]>["call"] };

let functions: Libc | undefined;

/** The C library of this process. */
export function libc(): Libc {
  functions ??= lookUp();
  return functions;
}

/**
 * Looks the functions up and closes Deno's handle again: the library itself stays, every process has it,
 * and no test is told that it leaks a library because it was the first to need one. Blocking functions
 * stay callable then, by V8 itself (see `ffi/native`); nonblocking ones are called by their addresses.
 */
function lookUp(): Libc {
  const names = Object.keys(NONBLOCKING) as (keyof Nonblocking)[];
  const addresses = Object.fromEntries(names.map((name) => [name, { type: "pointer" } as const]));
  const blocking = Deno.dlopen("libc.so.6", SYMBOLS);
  const nonblocking = Deno.dlopen("libc.so.6", addresses);
  const calls = names.map((name) => {
    const address = nonblocking.symbols[name] as Deno.PointerObject<Deno.ForeignFunction>;
    const native = new Deno.UnsafeFnPointer(address, NONBLOCKING[name] as Deno.ForeignFunction);
    return [name, native.call.bind(native)];
  });
  blocking.close();
  nonblocking.close();
  return { ...blocking.symbols, ...Object.fromEntries(calls) } as unknown as Libc;
}
