/** A worker's weight store as its configuration and its device want it. */

import { releaseFreeMemory } from "../../ffi/libc/mod.ts";
import type { Origins, ServerConfig } from "../config/mod.ts";
import { groupMemoryBytes, groupMemoryUsed } from "../control_group.ts";
import type { Logger } from "../log.ts";
import { type Arena, type Backend, MemoryRoom, WeightStore } from "../runtime/mod.ts";
import type { Scheduler } from "../scheduler/mod.ts";

export interface DeviceWeightsOptions {
  readonly config: ServerConfig;
  /** Where each setting came from, for warnings. */
  readonly origins: Origins;
  readonly backend: Backend;
  readonly scheduler: Scheduler;
  readonly logger: Logger;
}

/** Settings that say how weights come and go, which without a budget they do not. */
const NEED_BUDGET = [
  "runtime.shared_host_weights",
  "runtime.shared_host_weights_mode",
  "runtime.weight_cache_wiggle_fraction",
  "scheduler.compaction_interval",
];

/** Opens the store, and warns of settings that have no effect on this device or need a second look. */
export function openWeightStore(options: DeviceWeightsOptions): WeightStore {
  const { config, backend, scheduler, logger } = options;
  const { runtime } = config;
  const store = new WeightStore({
    backend,
    logger,
    arena: arenaOf(config, backend),
    fraction: runtime.weightCacheFraction,
    wiggle: runtime.weightCacheWiggleFraction,
    isExternallyManaged: config.modelControlMode === "explicit",
    sharedMode: runtime.sharedHostWeights
      ? Number.parseInt(runtime.sharedHostWeightsMode, 8)
      : undefined,
    room: roomOf(config),
    onChange: () => scheduler.wake(),
  });
  if (!store.hasCache) warnWithoutBudget(options);
  else if (
    runtime.sharedHostWeights && (Number.parseInt(runtime.sharedHostWeightsMode, 8) & 0o002)
  ) {
    logger.warn("every user of this machine may write to the shared weights", {
      mode: runtime.sharedHostWeightsMode,
      remedy: 'set runtime.shared_host_weights_mode to "660"',
    });
  }
  if (runtime.deviceMemoryBytes > 0 && backend.platform !== "cpu") {
    warnIneffective(options, "runtime.device_memory_bytes", "the device says how much it has");
  }
  return store;
}

/**
 * Compacts device memory between dispatches, every so many loads.
 * @returns to be called after every dispatch
 */
export function automaticCompaction(
  { interval, store, scheduler, logger }: {
    /** Loads; 0: never. */
    interval: number;
    store: WeightStore;
    scheduler: Scheduler;
    logger: Logger;
  },
): () => void {
  if (interval === 0 || !store.hasCache) return () => {};
  let loadsBefore = 0;
  return () => {
    const { loads } = store.reading()!;
    if (loads - loadsBefore < interval) return;
    loadsBefore = loads;
    scheduler.runExclusive(() => store.compact()).catch((error) => {
      logger.warn("device memory could not be compacted", { error });
    });
  };
}

function arenaOf({ runtime }: ServerConfig, backend: Backend): Arena | undefined {
  const limitBytes = backend.memory()?.limitBytes;
  if (limitBytes !== undefined) return { bytes: limitBytes, from: "limit of the device allocator" };
  const { deviceMemoryBytes, memFraction } = runtime;
  if (deviceMemoryBytes === 0 || backend.platform !== "cpu") return undefined;
  return {
    bytes: Math.floor(memFraction * deviceMemoryBytes),
    from: `${memFraction} of the ${deviceMemoryBytes} bytes of runtime.device_memory_bytes`,
  };
}

/** Of the control group around this process, if there is one that bounds it. */
function roomOf({ runtime: { memFraction } }: ServerConfig): MemoryRoom | undefined {
  const groupBytes = groupMemoryBytes();
  if (groupBytes === undefined) return undefined;
  return new MemoryRoom({
    limitBytes: Math.floor(memFraction * groupBytes),
    from: `runtime.mem_fraction, ${memFraction}, of what the control group allows`,
    usedBytes: () => groupMemoryUsed(),
    release: releaseFreeMemory,
  });
}

function warnWithoutBudget(options: DeviceWeightsOptions): void {
  const { config } = options;
  const instead = config.runtime.weightCacheFraction === 0
    ? "all weights stay on the device, because runtime.weight_cache_fraction is 0"
    : "all weights stay on the device, which does not say how much memory it has; " +
      "runtime.device_memory_bytes gives a CPU device a budget";
  const settings = config.runtime.weightCacheFraction === 0
    ? NEED_BUDGET
    : ["runtime.weight_cache_fraction", ...NEED_BUDGET];
  for (const setting of settings) warnIneffective(options, setting, instead);
  const warn = (setting: string, given: string) =>
    options.logger.warn("a setting has no effect", { setting, given, instead });
  if (config.modelControlMode === "explicit") warn("model_control_mode", "explicit");
  for (const [model, { residency }] of config.scheduler.models) {
    if (residency === undefined || residency === "device") continue;
    warn(`scheduler.models.${model}.residency`, residency);
  }
}

function warnIneffective(
  { origins, logger }: DeviceWeightsOptions,
  setting: string,
  instead: string,
): void {
  const origin = origins.get(setting);
  if (origin === undefined || origin.source === "default") return;
  logger.warn("a setting has no effect", { setting, given: origin.name, instead });
}
