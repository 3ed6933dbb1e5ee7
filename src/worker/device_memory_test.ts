import assert from "node:assert/strict";
import { memoryLimitBytes } from "../control_group.ts";
import type { DeviceMemory, WeightStore } from "../runtime/mod.ts";
import { readDeviceMemory } from "./device_memory.ts";

function weightsOf(arenaBytes: number): Pick<WeightStore, "account" | "budget" | "hostPoolBytes"> {
  return {
    account: { inUseBytes: 30, peakBytes: 40 },
    budget: { arenaBytes },
    hostPoolBytes: arenaBytes > 0 ? 50 : undefined,
  } as unknown as Pick<WeightStore, "account" | "budget" | "hostPoolBytes">;
}

Deno.test("a CPU's device memory is what the worker gives out, of the size it is configured to have", async () => {
  const backend = { platform: "cpu", memory: () => undefined };
  const { processUsedBytes, ...figures } = await readDeviceMemory({
    backend,
    weights: weightsOf(100),
    process: undefined,
  });
  assert.deepEqual(figures, {
    inUseBytes: 30,
    peakInUseBytes: 40,
    limitBytes: 100,
    poolBytes: 50,
  });
  const resident = Deno.memoryUsage().rss;
  assert.ok(Math.abs(processUsedBytes! - resident) < resident / 2, `${processUsedBytes}`);
  const unlimited = await readDeviceMemory({ backend, weights: weightsOf(0), process: undefined });
  assert.equal(unlimited.limitBytes, memoryLimitBytes());
});

Deno.test("a GPU's device memory is what its allocator and its driver say, and no more", async () => {
  const allocator: DeviceMemory = {
    inUseBytes: 1,
    limitBytes: 2,
    peakInUseBytes: 3,
    poolBytes: 4,
  };
  const read = (memory: () => DeviceMemory | undefined, bytes: number | undefined) =>
    readDeviceMemory({
      backend: { platform: "cuda", memory },
      weights: weightsOf(100),
      process: { bytes: () => Promise.resolve(bytes) },
    });
  assert.deepEqual(await read(() => allocator, 5), { ...allocator, processUsedBytes: 5 });
  const nothing = {
    inUseBytes: undefined,
    limitBytes: undefined,
    peakInUseBytes: undefined,
    poolBytes: undefined,
    processUsedBytes: undefined,
  };
  assert.deepEqual(await read(() => undefined, undefined), nothing);
  const lost = () => {
    throw new Error("the GPU is lost");
  };
  assert.deepEqual(await read(lost, 5), { ...nothing, processUsedBytes: 5 });
});
