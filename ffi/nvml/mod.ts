/**
 * The part of NVIDIA's management library, and of its CUDA driver, that says how much of a GPU's memory
 * each process has. Both come with the driver; where they are missing, so is the GPU. Nothing here
 * changes a device.
 */
export { cudaDeviceUuid } from "./cuda_driver.ts";
export { NVML_ERRORS, NvmlError } from "./errors.ts";
export { loadNvml, type NvmlFunctions } from "./functions.ts";
export { type ComputeProcess, Nvml, type NvmlDevice } from "./nvml.ts";
