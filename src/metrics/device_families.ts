/**
 * Series of a worker's device. On a GPU memory is what the allocator and the driver say; on a CPU, which
 * keeps no account and computes in the host's memory, what the worker itself gives out.
 */

import { ComputedFamily, single } from "./family.ts";
import type { MetricsRegistry } from "./registry.ts";
import type { DeviceMemoryReading, WorkerReadings } from "./worker_readings.ts";

/** Adds the families of device memory, and of what is held on the device. */
export function addDeviceFamilies(registry: MetricsRegistry, readings: WorkerReadings): void {
  for (const [figure, help, read] of DEVICE_MEMORY) {
    const value = () => {
      const memory = readings.deviceMemory();
      return memory === undefined ? undefined : read(memory);
    };
    const name = `worker_device_memory_${figure}_bytes`;
    registry.add(new ComputedFamily("gauge", { name, help }, single(value)));
  }
  registry.add(
    new ComputedFamily("gauge", {
      name: "worker_native_handles",
      help: "Handles of the device runtime that are alive.",
      labels: ["kind"],
    }, () => Object.entries(readings.nativeHandles()).map(([kind, count]) => [[kind], count])),
  );
}

const DEVICE_MEMORY: readonly (readonly [
  figure: string,
  help: string,
  read: (memory: DeviceMemoryReading) => number | undefined,
])[] = [
  [
    "in_use",
    "Device memory in use, by its allocator; on a CPU weights and what dispatches in progress need.",
    (memory) => memory.inUseBytes,
  ],
  [
    "limit",
    "What the allocator may use; on a CPU the size it is given, else what this process may have.",
    (memory) => memory.limitBytes,
  ],
  [
    "free",
    "The limit less what is in use.",
    ({ limitBytes, inUseBytes }) => least0(limitBytes, inUseBytes),
  ],
  ["peak_in_use", "Most device memory in use at once so far.", (memory) => memory.peakInUseBytes],
  ["pool", "Device memory the allocator holds, in use or not.", (memory) => memory.poolBytes],
  [
    "process_used",
    "All device memory of this process, by the driver; on a CPU its resident memory.",
    (memory) => memory.processUsedBytes,
  ],
  [
    "out_of_pool",
    "What the process has beyond the limit: contexts and command buffers on a GPU.",
    ({ processUsedBytes, limitBytes }) => least0(processUsedBytes, limitBytes),
  ],
];

/** A difference, but never less than 0; nothing where a side of it is not known. */
function least0(whole: number | undefined, part: number | undefined): number | undefined {
  return whole === undefined || part === undefined ? undefined : Math.max(0, whole - part);
}
