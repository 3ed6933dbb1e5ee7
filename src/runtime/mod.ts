/**
 * Device runtimes: programs compiled, tensors moved, programs run, behind one `Backend` interface. PJRT
 * is the real one. `weights/` keeps weights in host and device memory, under a budget. What a model is
 * and when it runs is decided elsewhere.
 */
export { PjrtError, type PjrtErrorCode } from "../../ffi/mod.ts";
export * from "./backend.ts";
export * from "./backends.ts";
export * from "./compiler_choices.ts";
export * from "./executable_cache.ts";
export type { DeviceAccount } from "./device_account.ts";
export * from "./mock_backend.ts";
export { type ProbedNumerics, probeNumerics } from "./numerics_probe.ts";
export { openPjrtBackend, type PjrtBackendOptions } from "./pjrt/backend.ts";
export { UnsupportedProgramError } from "./pjrt/signature.ts";
export {
  findDevice,
  type MonitoredDevice,
  type ProcessList,
  ProcessMemory,
  type ProcessMemoryOptions,
} from "./process_memory.ts";
export * from "./weights/mod.ts";
