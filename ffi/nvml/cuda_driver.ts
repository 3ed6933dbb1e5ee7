/**
 * Which physical device a CUDA ordinal is. Only the CUDA driver of this process knows: its ordinals follow
 * `CUDA_VISIBLE_DEVICES` and `CUDA_DEVICE_ORDER`, the management library's indices follow neither.
 */

import { NvmlError } from "./errors.ts";
import { loadFunctions } from "./library.ts";

const SYMBOLS = {
  cuInit: { parameters: ["u32"], result: "i32" },
  cuDeviceGet: { parameters: ["buffer", "i32"], result: "i32" },
  // Of a MIG instance its own, where the function without a version gives that of the whole GPU.
  cuDeviceGetUuid_v2: { parameters: ["buffer", "i32"], result: "i32" },
} as const;

const LIBRARY = "libcuda.so.1";

/**
 * The UUID of a device, in the usual notation and without `GPU-` or `MIG-` before it. To be called when
 * the plugin has initialised the driver: the first time takes long.
 * @throws {NvmlError} where there is no driver, or no such device
 */
export function cudaDeviceUuid(ordinal: number, path: string = LIBRARY): string {
  const cuda = loadFunctions(path, SYMBOLS);
  const check = (call: string, code: number) => {
    if (code !== 0) throw new NvmlError(`${call} failed with CUresult ${code}`, code);
  };
  check("cuInit", cuda.cuInit(0));
  const device = new Int32Array(1);
  check("cuDeviceGet", cuda.cuDeviceGet(device, ordinal));
  const uuid = new Uint8Array(16);
  check("cuDeviceGetUuid_v2", cuda.cuDeviceGetUuid_v2(uuid, device[0]!));
  return uuid.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
