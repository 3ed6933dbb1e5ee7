/**
 * The functions of `libnvidia-ml.so.1` that are called here. Each asks the kernel's driver, which may take
 * milliseconds, so all of them leave the thread. Device handles are pointers, passed as numbers.
 */

import { type Functions, loadFunctions } from "./library.ts";

const SYMBOLS = {
  nvmlInit_v2: { parameters: [], result: "i32", nonblocking: true },
  nvmlDeviceGetHandleByUUID: {
    parameters: ["buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  // Not the third version: that has the same struct, except in drivers 535.43 to 535.86, where it is longer,
  // and is missing in 535.98 (XuehaiPan/nvitop#79, #89).
  nvmlDeviceGetComputeRunningProcesses_v2: {
    parameters: ["usize", "buffer", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  nvmlDeviceGetMemoryInfo_v2: {
    parameters: ["usize", "buffer"],
    result: "i32",
    nonblocking: true,
  },
  nvmlErrorString: { parameters: ["i32"], result: "pointer" },
} as const;

/** The function table; a test may have its own. */
export type NvmlFunctions = Functions<typeof SYMBOLS>;

/** As the driver installs it, and containers get it with the capability `utility`. */
const LIBRARY = "libnvidia-ml.so.1";

/**
 * The functions of this machine's library.
 * @throws {NvmlError} where there is none, or one from before 2022 (driver 510)
 */
export function loadNvml(path: string = LIBRARY): NvmlFunctions {
  return loadFunctions(path, SYMBOLS);
}
