import assert from "node:assert/strict";
import type { DeviceMemory, WeightStore } from "../runtime/mod.ts";
import { readDeviceMemory } from "./device_memory.ts";
import { memoryLimitBytes } from "./memory_limit.ts";

const GiB = 2 ** 30;

function weightsOf(arenaBytes: number): Pick<WeightStore, "account" | "budget"> {
  return {
    account: { inUseBytes: 30, peakBytes: 40 },
    budget: { arenaBytes },
  } as unknown as Pick<WeightStore, "account" | "budget">;
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
    poolBytes: undefined,
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

/** A kernel with these files. */
const kernel = (files: Record<string, string>) => (path: string) => files[path];

Deno.test("memoryLimitBytes() is the tightest of the machine and the groups around the process", () => {
  const machine = { "/proc/meminfo": "MemTotal:       8388608 kB\nMemFree:         19866648 kB\n" };
  assert.equal(memoryLimitBytes(kernel({})), undefined);
  assert.equal(memoryLimitBytes(kernel(machine)), 8 * GiB);
  const unified = { ...machine, "/proc/self/cgroup": "0::/pod.slice/worker.scope\n" };
  const root = "/sys/fs/cgroup";
  assert.equal(memoryLimitBytes(kernel({ ...unified, [`${root}/memory.max`]: "max\n" })), 8 * GiB);
  const nested = {
    ...unified,
    [`${root}/pod.slice/worker.scope/memory.max`]: `${4 * GiB}\n`,
    [`${root}/pod.slice/memory.max`]: `${2 * GiB}\n`,
    [`${root}/memory.max`]: "max\n",
  };
  assert.equal(memoryLimitBytes(kernel(nested)), 2 * GiB);
  // In a container that has no namespace for groups, only the root can be found.
  const container = { ...unified, [`${root}/memory.max`]: `${GiB}\n` };
  assert.equal(memoryLimitBytes(kernel(container)), GiB);
});

Deno.test("memoryLimitBytes() reads the first version of control groups too", () => {
  const files = {
    "/proc/meminfo": "MemTotal: 8388608 kB\n",
    "/proc/self/cgroup": "9:name=systemd:/\n4:memory:/a/b\n1:cpu:/\n0::/\n",
    // What the kernel has for none.
    "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
    "/sys/fs/cgroup/memory/a/memory.limit_in_bytes": `${3 * GiB}\n`,
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    // Another controller's.
    "/sys/fs/cgroup/cpu/memory.limit_in_bytes": "1\n",
  };
  assert.equal(memoryLimitBytes(kernel(files)), 3 * GiB);
});
