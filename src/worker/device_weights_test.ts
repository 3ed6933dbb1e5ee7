import assert from "node:assert/strict";
import { resolveServerConfig } from "../config/mod.ts";
import { Logger } from "../log.ts";
import { type DeviceMemory, MockBackend, type WeightStore } from "../runtime/mod.ts";
import { DISCIPLINES, Scheduler } from "../scheduler/mod.ts";
import { automaticCompaction, openWeightStore } from "./device_weights.ts";

function schedulerOf(): Scheduler {
  return new Scheduler({
    discipline: DISCIPLINES.fifo,
    shedsByCost: false,
    parameters: { recencyPenaltyCap: 0.25, coalescingDiscount: 0.1 },
    halfLifeSeconds: 30,
    costAlpha: 0.2,
    maxQueueDepth: 4,
  });
}

/** A store as variables and a device make it, and what was warned of. */
function open(
  variables: Record<string, string>,
  device: { platform?: string; memory?: DeviceMemory } = {},
): { store: WeightStore; warnings: Record<string, unknown>[] } {
  const environment = Object.fromEntries(
    Object.entries(variables).map(([name, value]) => [`INFERENCE_SERVER_${name}`, value]),
  );
  const { config, origins } = resolveServerConfig({ environment });
  const warnings: Record<string, unknown>[] = [];
  const store = openWeightStore({
    config,
    origins,
    backend: new MockBackend({
      programs: {},
      platform: device.platform,
      memory: () => device.memory,
    }),
    scheduler: schedulerOf(),
    logger: new Logger({ format: "json", write: (line) => warnings.push(JSON.parse(line)) }),
  });
  return { store, warnings };
}

Deno.test("openWeightStore() has no budget on a device that does not say what it has", () => {
  const { store, warnings } = open({});
  assert.equal(store.hasCache, false);
  assert.deepEqual(warnings, []);
});

Deno.test("openWeightStore() warns of settings that need a budget where there is none", () => {
  const { store, warnings } = open({
    RUNTIME_SHARED_HOST_WEIGHTS: "true",
    RUNTIME_WEIGHT_CACHE_FRACTION: "0.5",
    SCHEDULER_COMPACTION_INTERVAL: "3",
    MODEL_CONTROL_MODE: "explicit",
  });
  assert.equal(store.isExternallyManaged, false);
  assert.deepEqual(warnings.map(({ setting }) => setting), [
    "runtime.weight_cache_fraction",
    "runtime.shared_host_weights",
    "scheduler.compaction_interval",
    "model_control_mode",
  ]);
  assert.match(String(warnings[0]!.instead), /runtime.device_memory_bytes gives a CPU device/);
});

Deno.test("openWeightStore() takes the arena from the allocator, else from the configuration", () => {
  const memory = { inUseBytes: 0, limitBytes: 5000, peakInUseBytes: 0, poolBytes: 0 };
  const gpu = open({ RUNTIME_DEVICE_MEMORY_BYTES: "9" }, { platform: "cuda", memory });
  assert.equal(gpu.store.budget.arenaBytes, 5000);
  assert.deepEqual(gpu.warnings.map(({ setting }) => setting), ["runtime.device_memory_bytes"]);
  const cpu = open({
    RUNTIME_DEVICE_MEMORY_BYTES: "1000",
    RUNTIME_MEM_FRACTION: "0.5",
    MODEL_CONTROL_MODE: "explicit",
  });
  assert.deepEqual(
    [cpu.store.budget.arenaBytes, cpu.store.budget.poolBytes, cpu.store.isExternallyManaged],
    [500, 450, true],
  );
  const off = open({ RUNTIME_DEVICE_MEMORY_BYTES: "1000", RUNTIME_WEIGHT_CACHE_FRACTION: "0" });
  assert.equal(off.store.hasCache, false);
});

Deno.test("openWeightStore() warns of shared weights that everyone may write to", () => {
  const shared = { RUNTIME_DEVICE_MEMORY_BYTES: "1000", RUNTIME_SHARED_HOST_WEIGHTS: "true" };
  assert.match(String(open(shared).warnings[0]!.remedy), /"660"/);
  assert.deepEqual(open({ ...shared, RUNTIME_SHARED_HOST_WEIGHTS_MODE: "660" }).warnings, []);
});

Deno.test("automaticCompaction() compacts once per so many loads, between dispatches", async () => {
  const state = { loads: 0, compactions: 0 };
  const store = {
    hasCache: true,
    reading: () => ({ loads: state.loads }),
    compact: () => Promise.resolve(state.compactions++),
  } as unknown as WeightStore;
  const scheduler = schedulerOf();
  const logger = new Logger({ write: () => {} });
  const dispatched = automaticCompaction({ interval: 3, store, scheduler, logger });
  const after = async (loads: number) => {
    state.loads = loads;
    dispatched();
    await scheduler.runExclusive(() => Promise.resolve());
    return state.compactions;
  };
  assert.deepEqual(
    [await after(2), await after(3), await after(5), await after(7), await after(7)],
    [0, 1, 1, 2, 2],
  );
  automaticCompaction({ interval: 0, store, scheduler, logger })();
  assert.equal(await after(9), 2);
});
