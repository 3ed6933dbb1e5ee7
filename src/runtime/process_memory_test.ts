import assert from "node:assert/strict";
import type { ComputeProcess, NvmlDevice } from "../../ffi/nvml/mod.ts";
import { Logger } from "../log.ts";
import { type MonitoredDevice, ProcessMemory } from "./process_memory.ts";

const OWN = 4242;
const WHOLE_DEVICE = 900;

/** What is told of process `OWN` when the driver lists these, and what is warned of. */
function memoryAmong(
  processes: readonly ComputeProcess[] | (() => Promise<ComputeProcess[]>),
  find?: () => Promise<MonitoredDevice>,
): { memory: ProcessMemory; warnings: string[] } {
  const warnings: string[] = [];
  const nvml = {
    computeProcesses: () =>
      typeof processes === "function" ? processes() : Promise.resolve([...processes]),
    usedBytes: () => Promise.resolve(WHOLE_DEVICE),
  };
  const memory = new ProcessMemory({
    find: find ?? (() => Promise.resolve({ nvml, device: 1n as NvmlDevice })),
    logger: new Logger({ format: "json", write: (line) => warnings.push(JSON.parse(line).reason) }),
    pid: OWN,
    answerWithinMs: 20,
  });
  return { memory, warnings };
}

const told = (...processes: ComputeProcess[]) => memoryAmong(processes).memory.bytes();

Deno.test("a process is found by its number, among others too", async () => {
  const other = { pid: 1, usedBytes: 50 };
  assert.equal(await told(other, { pid: OWN, usedBytes: 300 }), 300);
  assert.equal(await told({ pid: OWN, usedBytes: 300 }), 300);
});

Deno.test("a process that is alone is found under any number, as from within a container", async () => {
  assert.equal(await told({ pid: 40170, usedBytes: 185 }), 185);
});

Deno.test("a process that is alone has all that is in use, where the driver does not say how much", async () => {
  assert.equal(await told({ pid: OWN, usedBytes: undefined }), WHOLE_DEVICE);
  assert.equal(await told({ pid: OWN, usedBytes: 0 }), WHOLE_DEVICE);
  assert.equal(await told({ pid: 40170, usedBytes: undefined }), WHOLE_DEVICE);
});

Deno.test("nothing is made up for a process that the driver does not show, or not alone", async () => {
  assert.equal(await told(), undefined);
  const others = [{ pid: 1, usedBytes: 50 }, { pid: 2, usedBytes: 60 }];
  assert.equal(await told(...others), undefined);
  assert.equal(await told(...others, { pid: OWN, usedBytes: 0 }), undefined);
});

Deno.test("a driver that does not answer is warned of once, and asked again", async () => {
  const driver = { isWell: false };
  const { memory, warnings } = memoryAmong(() =>
    driver.isWell
      ? Promise.resolve([{ pid: OWN, usedBytes: 5 }])
      : Promise.reject(new Error("the GPU is lost"))
  );
  assert.deepEqual([await memory.bytes(), await memory.bytes()], [undefined, undefined]);
  assert.deepEqual(warnings, ["the GPU is lost"]);
  driver.isWell = true;
  assert.equal(await memory.bytes(), 5);
});

Deno.test("a machine without the driver's library has no figure and one warning", async () => {
  const { memory, warnings } = memoryAmong([], () => Promise.reject(new Error("no such library")));
  assert.deepEqual([await memory.bytes(), await memory.bytes()], [undefined, undefined]);
  assert.deepEqual(warnings, ["no such library"]);
});

Deno.test("nobody waits long for a driver that hangs, nor asks it twice at once", async () => {
  const { promise, resolve } = Promise.withResolvers<ComputeProcess[]>();
  let asked = 0;
  const { memory, warnings } = memoryAmong(() => {
    asked++;
    return promise;
  });
  assert.deepEqual([await memory.bytes(), await memory.bytes()], [undefined, undefined]);
  assert.equal(asked, 1);
  resolve([{ pid: OWN, usedBytes: 5 }]);
  assert.equal(await memory.bytes(), 5);
  assert.deepEqual(warnings, []);
});
