/**
 * How much of a GPU's memory this process has, in all: the allocator's pool and what lies outside of it,
 * which only the driver knows. Asked of NVIDIA's management library.
 */

import { type ComputeProcess, cudaDeviceUuid, Nvml, type NvmlDevice } from "../../ffi/nvml/mod.ts";
import { messageOf } from "../errors.ts";
import type { Logger } from "../log.ts";

/** How long whoever asks waits: a driver in trouble may take for ever. */
const ANSWER_WITHIN_MS = 1000;

/** What is needed of the management library. */
export type ProcessList = Pick<Nvml, "computeProcesses" | "usedBytes">;

/** A device as the management library knows it. */
export interface MonitoredDevice {
  readonly nvml: ProcessList;
  readonly device: NvmlDevice;
}

export interface ProcessMemoryOptions {
  /** Finds the device; begun at once, in the background. */
  readonly find: () => Promise<MonitoredDevice>;
  readonly logger: Logger;
  /** This process. */
  readonly pid?: number;
  readonly answerWithinMs?: number;
}

/** Asks for the memory of one process on one device. Says once why it cannot, if it cannot. */
export class ProcessMemory {
  readonly #options: Required<ProcessMemoryOptions>;
  readonly #found: Promise<MonitoredDevice | undefined>;
  #asking: Promise<number | undefined> | undefined;
  #hasWarned = false;

  constructor(options: ProcessMemoryOptions) {
    this.#options = { pid: Deno.pid, answerWithinMs: ANSWER_WITHIN_MS, ...options };
    this.#found = this.#attempt(options.find);
  }

  /** Bytes now; `undefined` where the driver does not tell, or not soon. Never rejects. */
  async bytes(): Promise<number | undefined> {
    this.#asking ??= this.#ask().finally(() => this.#asking = undefined);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), this.#options.answerWithinMs);
    });
    try {
      return await Promise.race([this.#asking, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #ask(): Promise<number | undefined> {
    const found = await this.#found;
    return found && await this.#attempt(() => processBytes(found, this.#options.pid));
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (!this.#hasWarned) {
        this.#options.logger.warn(
          "what this process has of the device's memory cannot be told by the driver",
          { reason: messageOf(error) },
        );
      }
      this.#hasWarned = true;
      return undefined;
    }
  }
}

/**
 * The device that a CUDA ordinal of this process is.
 * @throws {NvmlError} where the driver's libraries are missing or do not answer
 */
export async function findDevice(deviceOrdinal: number): Promise<MonitoredDevice> {
  const nvml = await Nvml.open();
  return { nvml, device: await nvml.device(cudaDeviceUuid(deviceOrdinal)) };
}

/**
 * The memory of one process, which has a context on the device. In a container the driver may know it by
 * the host's number (NVIDIA/nvidia-docker#1483), or by its own but with nothing to its name
 * (NVIDIA/open-gpu-kernel-modules#614). One that is alone is found all the same; and all that is in use is
 * its. Among several it is not guessed at.
 */
async function processBytes(
  { nvml, device }: MonitoredDevice,
  pid: number,
): Promise<number | undefined> {
  const processes = await nvml.computeProcesses(device);
  const [only] = processes.length === 1 ? processes : [];
  const own = processes.find((process) => process.pid === pid) ?? only;
  if (isKnown(own)) return own.usedBytes;
  return only && await nvml.usedBytes(device);
}

/** A process with a context has some memory: 0 is a driver that does not know. */
function isKnown(
  process: ComputeProcess | undefined,
): process is ComputeProcess & { readonly usedBytes: number } {
  return process?.usedBytes !== undefined && process.usedBytes > 0;
}
