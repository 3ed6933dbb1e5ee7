/** Calls by address and a handler for SIGBUS: the parts of `ffi` that need machine code. */
export { MAX_SLOTS, SLOT_BYTES, STATE } from "./machine_code.ts";
export { type Native, native, withoutLibrary } from "./native.ts";
