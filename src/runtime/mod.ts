/**
 * Device runtimes: programs compiled, tensors moved, programs run, behind one `Backend` interface. PJRT
 * is the real one. What a model is, when it runs and which weights stay on the device is decided
 * elsewhere.
 */
export { PjrtError, type PjrtErrorCode } from "../../ffi/mod.ts";
export * from "./backend.ts";
export * from "./backends.ts";
export * from "./executable_cache.ts";
export * from "./mock_backend.ts";
export { openPjrtBackend, type PjrtBackendOptions } from "./pjrt/backend.ts";
export { UnsupportedProgramError } from "./pjrt/signature.ts";
