import assert from "node:assert/strict";
import { notRun } from "../../tests/harness/not_run.ts";
import { cudaDeviceUuid } from "./cuda_driver.ts";
import { NvmlError } from "./errors.ts";
import { loadNvml } from "./functions.ts";
import { Nvml, type NvmlDevice } from "./nvml.ts";
import { NVML_MEMORY_V2, nvmlMemory_v2_t, nvmlProcessInfo_v2_t } from "./structs.ts";
import { buildFakeLibrary, type FakeDriver, fakeNvml } from "./testing.ts";

const UUID = "8a2f1c00-1111-2222-3333-444444444444";

function driverWith(changes: Partial<FakeDriver> = {}): FakeDriver {
  return { initCode: 0, uuid: `GPU-${UUID}`, processes: [], usedBytes: 0n, ...changes };
}

Deno.test("the structs lie in memory as nvml.h has them", () => {
  // What a C compiler makes of nvml.h (nvidia-nvml-dev-cu12 12.9.79); the ctypes structures of nvidia-ml-py
  // 13.615.71 say the same.
  assert.deepEqual({ ...nvmlProcessInfo_v2_t.offsets }, {
    pid: 0,
    usedGpuMemory: 8,
    gpuInstanceId: 16,
    computeInstanceId: 20,
  });
  assert.equal(nvmlProcessInfo_v2_t.size, 24);
  assert.deepEqual({ ...nvmlMemory_v2_t.offsets }, {
    version: 0,
    total: 8,
    reserved: 16,
    free: 24,
    used: 32,
  });
  assert.equal(nvmlMemory_v2_t.size, 40);
  assert.equal(NVML_MEMORY_V2, 0x2000028);
});

Deno.test("computeProcesses() lists whoever the driver shows, and what each has if it says so", async () => {
  const nvml = await Nvml.open(fakeNvml(driverWith({
    processes: [[7, 3_000_000_000n], [2 ** 31, 0n], [4_194_304, 2n ** 64n - 1n]],
  })));
  assert.deepEqual(await nvml.computeProcesses(await nvml.device(UUID)), [
    { pid: 7, usedBytes: 3_000_000_000 },
    { pid: 2 ** 31, usedBytes: 0 },
    { pid: 4_194_304, usedBytes: undefined },
  ]);
});

Deno.test("computeProcesses() asks again when there are more processes than it has room for", async () => {
  const driver = driverWith();
  let listings = 0;
  driver.onList = () => {
    listings++;
    // More than the spare room, and more again by the time there is room for those.
    const count = listings === 1 ? 20 : 26;
    driver.processes = Array.from({ length: count }, (_, index) => [index, BigInt(index)]);
  };
  const nvml = await Nvml.open(fakeNvml(driver));
  const device = await nvml.device(UUID);
  const processes = await nvml.computeProcesses(device);
  assert.deepEqual([listings, processes.length, processes[25]], [3, 26, {
    pid: 25,
    usedBytes: 25,
  }]);
  driver.onList = () => driver.processes = [...driver.processes, ...driver.processes];
  await assert.rejects(nvml.computeProcesses(device), { name: "NvmlError", code: 7 });
});

Deno.test("device() finds a GPU or a MIG instance, and says what the library says when there is none", async () => {
  for (const prefix of ["GPU", "MIG"]) {
    const nvml = await Nvml.open(fakeNvml(driverWith({ uuid: `${prefix}-${UUID}` })));
    assert.deepEqual(await nvml.computeProcesses(await nvml.device(UUID)), []);
    await assert.rejects(nvml.device("another"), {
      message: "nvmlDeviceGetHandleByUUID: so it is (6)",
    });
    await assert.rejects(nvml.computeProcesses(0n as NvmlDevice), { code: 2 });
  }
  const failing = fakeNvml(driverWith({ initCode: 9 }));
  await assert.rejects(Nvml.open(failing), { message: "nvmlInit_v2: so it is (9)", code: 9 });
});

Deno.test("usedBytes() is what all processes have", async () => {
  const nvml = await Nvml.open(fakeNvml(driverWith({ usedBytes: 70_000_000_000n })));
  assert.equal(await nvml.usedBytes(await nvml.device(UUID)), 70_000_000_000);
});

Deno.test("without the driver's libraries there is one error that names them", () => {
  assert.throws(() => loadNvml("libno-such-nvml.so.1"), (error) => {
    assert.ok(error instanceof NvmlError);
    assert.match(error.message, /^libno-such-nvml.so.1: cannot open shared object file/);
    return true;
  });
  assert.throws(() => loadNvml("libm.so.6"), { message: "libm.so.6 has no nvmlInit_v2" });
  assert.throws(() => cudaDeviceUuid(0, "libno-such-cuda.so.1"), NvmlError);
});

Deno.test("the functions are called as C declares them", async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    const library = await buildFakeLibrary(folder);
    if (typeof library === "string") return await notRun(t, library);
    const nvml = await Nvml.open(loadNvml(library.path));
    const uuid = cudaDeviceUuid(1, library.path);
    assert.equal(uuid, "00010203-0405-0607-0809-0a0b0c0d0e0f");
    const device = await nvml.device(uuid);
    assert.deepEqual(await nvml.computeProcesses(device), [
      { pid: 100, usedBytes: 5_000_000_000 },
      { pid: 101, usedBytes: undefined },
      { pid: 102, usedBytes: 15_000_000_000 },
    ]);
    assert.equal(await nvml.usedBytes(device), 70_000_000_000);
    await assert.rejects(nvml.device(UUID), {
      message: "nvmlDeviceGetHandleByUUID: Some Error (6)",
    });
    assert.throws(() => cudaDeviceUuid(2, library.path), { code: 101 });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
