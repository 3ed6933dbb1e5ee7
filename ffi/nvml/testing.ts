/** A management library in JavaScript and one in C, for tests. */

import { join } from "node:path";
import { cString } from "../pointer.ts";
import { Struct } from "../struct_layout.ts";
import { NVML_ERRORS } from "./errors.ts";
import type { NvmlFunctions } from "./functions.ts";
import { NVML_MEMORY_V2, nvmlMemory_v2_t, nvmlProcessInfo_v2_t } from "./structs.ts";

/** What the driver would know. */
export interface FakeDriver {
  /** What `nvmlInit_v2` returns. */
  initCode: number;
  /** Of the one device, with its prefix. */
  readonly uuid: string;
  /** Processes on it. `used` as the library has it. */
  processes: readonly (readonly [pid: number, used: bigint])[];
  readonly usedBytes: bigint;
  /** Called by each listing, before it counts. */
  onList?: () => void;
}

const HANDLE = 0x1234_5678_9abcn;
const REASON = cString("so it is");

/** A function table over a driver that is made up. */
export function fakeNvml(driver: FakeDriver): NvmlFunctions {
  // What is passed here are always views.
  const view = (parameter: unknown) => {
    const { buffer, byteOffset, byteLength } = parameter as Uint8Array<ArrayBuffer>;
    return new DataView(buffer, byteOffset, byteLength);
  };
  const text = (parameter: unknown) =>
    new TextDecoder().decode(parameter as Uint8Array<ArrayBuffer>).slice(0, -1);
  const { offsets, size } = nvmlProcessInfo_v2_t;
  return {
    nvmlInit_v2: () => Promise.resolve(driver.initCode),
    nvmlDeviceGetHandleByUUID: (uuid, handle) => {
      if (text(uuid) !== driver.uuid) return Promise.resolve(NVML_ERRORS.NOT_FOUND);
      view(handle).setBigUint64(0, HANDLE, true);
      return Promise.resolve(NVML_ERRORS.SUCCESS);
    },
    nvmlDeviceGetComputeRunningProcesses_v2: (device, count, infos) => {
      if (device !== HANDLE) return Promise.resolve(2);
      driver.onList?.();
      const { processes } = driver;
      const capacity = view(count).getUint32(0, true);
      view(count).setUint32(0, processes.length, true);
      if (processes.length > capacity) return Promise.resolve(NVML_ERRORS.INSUFFICIENT_SIZE);
      processes.forEach(([pid, used], index) => {
        view(infos).setUint32(index * size + offsets.pid, pid, true);
        view(infos).setBigUint64(index * size + offsets.usedGpuMemory, used, true);
      });
      return Promise.resolve(NVML_ERRORS.SUCCESS);
    },
    nvmlDeviceGetMemoryInfo_v2: (_device, memory) => {
      const struct = new Struct(nvmlMemory_v2_t, memory as Uint8Array<ArrayBuffer>);
      // ARGUMENT_VERSION_MISMATCH
      if (struct.get("version") !== NVML_MEMORY_V2) return Promise.resolve(25);
      struct.set("used", driver.usedBytes);
      return Promise.resolve(NVML_ERRORS.SUCCESS);
    },
    nvmlErrorString: () => Deno.UnsafePointer.of(REASON),
  };
}

/** Struct declarations as in `nvml.h`, and one device with three processes on it. */
const SOURCE = `
#include <string.h>
typedef struct {
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId;
  unsigned int computeInstanceId;
} nvmlProcessInfo_t;
typedef struct {
  unsigned int version;
  unsigned long long total, reserved, free, used;
} nvmlMemory_v2_t;
static int initialised, device;
int nvmlInit_v2(void) { initialised = 1; return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
  if (!initialised) return 1;
  if (strcmp(uuid, "MIG-00010203-0405-0607-0809-0a0b0c0d0e0f") != 0) return 6;
  *handle = &device;
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void *handle, unsigned *count, nvmlProcessInfo_t *infos) {
  if (handle != &device) return 2;
  unsigned capacity = *count;
  *count = 3;
  if (capacity < 3) return 7;
  for (unsigned i = 0; i < 3; i++)
    infos[i] = (nvmlProcessInfo_t){100 + i, i == 1 ? -1 : (i + 1) * 5000000000ull, i, -1};
  return 0;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, nvmlMemory_v2_t *memory) {
  if (handle != &device) return 2;
  if (memory->version != (unsigned)(sizeof *memory | (2 << 24))) return 25;
  *memory = (nvmlMemory_v2_t){memory->version, 80000000000ull, 1, 2, 70000000000ull};
  return 0;
}
const char *nvmlErrorString(int code) { return code == 25 ? "Version Mismatch" : "Some Error"; }
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal + 7; return ordinal > 1 ? 101 : 0; }
int cuDeviceGetUuid_v2(unsigned char uuid[16], int device) {
  for (int i = 0; i < 16; i++) uuid[i] = device == 8 ? i : 0xff;
  return 0;
}
`;

/** Builds the library in C. @returns why not, where there is no compiler */
export async function buildFakeLibrary(folder: string): Promise<{ path: string } | string> {
  const source = join(folder, "fake_nvml.c");
  const path = join(folder, "libfake_nvml.so");
  await Deno.writeTextFile(source, SOURCE);
  try {
    const { success, stderr } = await new Deno.Command("cc", {
      args: ["-shared", "-fPIC", "-o", path, source],
    }).output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return { path };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no C compiler";
    throw error;
  }
}
