/**
 * A worker's device memory, for metrics: as the allocator and the driver account for it on a GPU. A CPU
 * plugin keeps no account, and its device's memory is the host's; there the figures are the worker's own.
 */

import { memoryLimitBytes } from "../control_group.ts";
import type { DeviceMemoryReading } from "../metrics/mod.ts";
import type { Backend, DeviceMemory, ProcessMemory, WeightStore } from "../runtime/mod.ts";

export interface DeviceMemoryOptions {
  readonly backend: Pick<Backend, "platform" | "memory">;
  readonly weights: Pick<WeightStore, "account" | "budget" | "hostPoolBytes">;
  /** What the driver says of this process; `undefined` on a CPU. */
  readonly process: Pick<ProcessMemory, "bytes"> | undefined;
}

/** All figures of one moment. */
export async function readDeviceMemory(
  { backend, weights, process }: DeviceMemoryOptions,
): Promise<DeviceMemoryReading> {
  if (backend.platform === "cpu") return hostMemory(weights);
  // First, because the device may be closed while the driver is asked.
  const { inUseBytes, limitBytes, peakInUseBytes, poolBytes } = allocatorMemory(backend) ?? {};
  const processUsedBytes = await process?.bytes();
  return { inUseBytes, limitBytes, peakInUseBytes, poolBytes, processUsedBytes };
}

function allocatorMemory(backend: DeviceMemoryOptions["backend"]): DeviceMemory | undefined {
  try {
    return backend.memory();
  } catch {
    // Of a device that is lost: every request fails and is logged, and the other series are wanted now.
    return undefined;
  }
}

function hostMemory(
  { account, budget, hostPoolBytes }: DeviceMemoryOptions["weights"],
): DeviceMemoryReading {
  return {
    inUseBytes: account.inUseBytes,
    peakInUseBytes: account.peakBytes,
    // The size that the configuration gives the device, if it does.
    limitBytes: budget.arenaBytes > 0 ? budget.arenaBytes : memoryLimitBytes(),
    poolBytes: hostPoolBytes,
    processUsedBytes: Deno.memoryUsage().rss,
  };
}
