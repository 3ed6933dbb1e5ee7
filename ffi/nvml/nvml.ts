/** The management library, with devices and processes for handles and structs. */

import { allocate, cString } from "../pointer.ts";
import { Struct } from "../struct_layout.ts";
import { NVML_ERRORS, NvmlError } from "./errors.ts";
import { loadNvml, type NvmlFunctions } from "./functions.ts";
import {
  NVML_MEMORY_V2,
  nvmlMemory_v2_t,
  nvmlProcessInfo_v2_t,
  VALUE_NOT_AVAILABLE,
} from "./structs.ts";

/** A device's handle; valid as long as the process. */
export type NvmlDevice = bigint & { readonly __device: true };

/** A process with a CUDA context on a device. */
export interface ComputeProcess {
  /** In the driver's view: in a container that may be the host's. */
  readonly pid: number;
  /** `undefined` where the driver does not say. */
  readonly usedBytes: number | undefined;
}

/** Entries beyond those there were a moment ago. */
const SPARE_PROCESSES = 5;
const ATTEMPTS = 3;

/** The initialised library. It stays so: a process that has a device needs no end of it. */
export class Nvml {
  readonly #functions: NvmlFunctions;

  private constructor(functions: NvmlFunctions) {
    this.#functions = functions;
  }

  /**
   * Initialises the library, which may take a good part of a second.
   * @throws {NvmlError} where it is missing or the driver does not answer
   */
  static async open(functions: NvmlFunctions = loadNvml()): Promise<Nvml> {
    const nvml = new Nvml(functions);
    nvml.#check("nvmlInit_v2", await functions.nvmlInit_v2());
    return nvml;
  }

  /**
   * The GPU or MIG instance with a UUID, given without its prefix.
   * @throws {NvmlError}
   */
  async device(uuid: string): Promise<NvmlDevice> {
    const handle = new BigUint64Array(1);
    const find = (prefix: string) =>
      this.#functions.nvmlDeviceGetHandleByUUID(cString(`${prefix}-${uuid}`), handle);
    let code = await find("GPU");
    if (code === NVML_ERRORS.NOT_FOUND) code = await find("MIG");
    this.#check("nvmlDeviceGetHandleByUUID", code);
    return handle[0]! as NvmlDevice;
  }

  /** Every process that computes on the device, as far as the driver shows them. @throws {NvmlError} */
  async computeProcesses(device: NvmlDevice): Promise<ComputeProcess[]> {
    const count = new Uint32Array(1);
    const list = (infos: Uint8Array<ArrayBuffer>) =>
      this.#functions.nvmlDeviceGetComputeRunningProcesses_v2(device, count, infos);
    let capacity = SPARE_PROCESSES;
    for (let attempt = 1;; attempt++) {
      count[0] = capacity;
      const infos = allocate(capacity * nvmlProcessInfo_v2_t.size);
      const code = await list(infos);
      if (code === NVML_ERRORS.SUCCESS) return processes(infos, Math.min(count[0]!, capacity));
      if (code !== NVML_ERRORS.INSUFFICIENT_SIZE || attempt === ATTEMPTS) {
        this.#check("nvmlDeviceGetComputeRunningProcesses_v2", code);
      }
      capacity = count[0]! + SPARE_PROCESSES;
    }
  }

  /** What all processes have of the device's memory. @throws {NvmlError} */
  async usedBytes(device: NvmlDevice): Promise<number> {
    const memory = new Struct(nvmlMemory_v2_t, allocate(nvmlMemory_v2_t.size));
    memory.set("version", NVML_MEMORY_V2);
    const code = await this.#functions.nvmlDeviceGetMemoryInfo_v2(device, memory.bytes);
    this.#check("nvmlDeviceGetMemoryInfo_v2", code);
    return Number(memory.get("used"));
  }

  #check(call: string, code: number): void {
    if (code === NVML_ERRORS.SUCCESS) return;
    const text = this.#functions.nvmlErrorString(code);
    const reason = text === null ? "unknown error" : Deno.UnsafePointerView.getCString(text);
    throw new NvmlError(`${call}: ${reason} (${code})`, code);
  }
}

function processes(infos: Uint8Array<ArrayBuffer>, count: number): ComputeProcess[] {
  const { size } = nvmlProcessInfo_v2_t;
  return Array.from({ length: count }, (_, index) => {
    const info = new Struct(nvmlProcessInfo_v2_t, infos.subarray(index * size, (index + 1) * size));
    const used = info.get("usedGpuMemory");
    return {
      pid: info.get("pid"),
      usedBytes: used === VALUE_NOT_AVAILABLE ? undefined : Number(used),
    };
  });
}
