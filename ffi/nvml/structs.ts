/** Structs of `nvml.h`, with its names. They have not changed since the functions that take them came. */

import { defineStruct, type FieldKind } from "../struct_layout.ts";

const unsignedInt: FieldKind<number> = {
  c: "unsigned int",
  size: 4,
  align: 4,
  read: (view, offset) => view.getUint32(offset, true),
  write: (view, offset, value) => view.setUint32(offset, value, true),
};

/** Not a number in JavaScript: `NVML_VALUE_NOT_AVAILABLE` is 2^64 - 1. */
const unsignedLongLong: FieldKind<bigint> = {
  c: "unsigned long long",
  size: 8,
  align: 8,
  read: (view, offset) => view.getBigUint64(offset, true),
  write: (view, offset, value) => view.setBigUint64(offset, value, true),
};

/** `NVML_VALUE_NOT_AVAILABLE` as an `unsigned long long`. */
export const VALUE_NOT_AVAILABLE = 2n ** 64n - 1n;

/** One process with a context on the device. */
export const nvmlProcessInfo_v2_t = defineStruct("nvmlProcessInfo_v2_t", {
  pid: unsignedInt,
  usedGpuMemory: unsignedLongLong,
  gpuInstanceId: unsignedInt,
  computeInstanceId: unsignedInt,
});

/** A device's memory. `used` is without what the driver keeps for itself, which is `reserved`. */
export const nvmlMemory_v2_t = defineStruct("nvmlMemory_v2_t", {
  version: unsignedInt,
  total: unsignedLongLong,
  reserved: unsignedLongLong,
  free: unsignedLongLong,
  used: unsignedLongLong,
});

/** What `version` must be: `NVML_STRUCT_VERSION(Memory, 2)`, the size and the version's number. */
export const NVML_MEMORY_V2 = nvmlMemory_v2_t.size | (2 << 24);
