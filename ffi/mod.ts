/**
 * Native code from Deno, with no C of our own: addresses, struct layouts and errors here, the PJRT C API
 * in `pjrt/`, the C library in `libc/`. Nothing in this folder knows what the server does.
 */
export * from "./errors.ts";
export * from "./pjrt/mod.ts";
export * from "./pointer.ts";
export * from "./struct_layout.ts";
