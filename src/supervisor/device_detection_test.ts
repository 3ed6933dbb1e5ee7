import assert from "node:assert/strict";
import { detectDevices, type DetectionSources } from "./device_detection.ts";
import { queryDriver } from "./device_probes.ts";

const NOTHING = {
  queryDriver: () => Promise.resolve([]),
  listDeviceFiles: () => Promise.resolve([]),
};

async function found(changes: Partial<DetectionSources>): Promise<[readonly string[], string]> {
  const { selectors, source } = await detectDevices({
    environment: {},
    choice: "auto",
    probes: NOTHING,
    ...changes,
  });
  return [selectors, source];
}

Deno.test("detectDevices() takes the first that decides", async () => {
  const environment = { REACTANT_GPUS: "2", CUDA_VISIBLE_DEVICES: "7" };
  const probes = {
    queryDriver: () => Promise.resolve(["0", "1", "2"]),
    listDeviceFiles: () => Promise.resolve(["nvidia0"]),
  };
  const choice = ["5"];
  assert.deepEqual(await found({ flag: "4,", environment, probes, choice }), [["4"], "--gpus"]);
  assert.deepEqual(await found({ environment, probes, choice }), [["0", "1"], "REACTANT_GPUS"]);
  const visible = { CUDA_VISIBLE_DEVICES: "7, GPU-x" };
  assert.deepEqual(await found({ environment: visible, probes, choice }), [["5"], "the node file"]);
  assert.deepEqual(await found({ environment: visible, probes }), [
    ["7", "GPU-x"],
    "CUDA_VISIBLE_DEVICES",
  ]);
  assert.deepEqual(await found({ probes }), [["0", "1", "2"], "nvidia-smi"]);
  assert.deepEqual(await found({ probes: { ...probes, queryDriver: NOTHING.queryDriver } }), [
    ["0"],
    "/dev",
  ]);
  assert.deepEqual((await found({}))[0], []);
});

Deno.test("detectDevices() reads a count, a list, and nothing", async () => {
  const gpus = async (text: string) => (await found({ environment: { REACTANT_GPUS: text } }))[0];
  assert.deepEqual(await gpus("0"), []);
  assert.deepEqual(await gpus(" 3 "), ["0", "1", "2"]);
  assert.deepEqual(await gpus("2,"), ["2"]);
  assert.deepEqual(await gpus(" 1 , GPU-ab ,, 0 "), ["1", "GPU-ab", "0"]);
  for (const blank of ["", "  ", ",", " , "]) {
    await assert.rejects(gpus(blank), /REACTANT_GPUS must be a count of devices or a list/);
  }
  await assert.rejects(gpus("1,1"), /REACTANT_GPUS names device 1 twice/);
  await assert.rejects(gpus("99999"), /at most 1024/);
  const visible = (text: string) =>
    found({
      environment: { CUDA_VISIBLE_DEVICES: text },
      probes: { ...NOTHING, queryDriver: () => Promise.resolve(["0"]) },
    });
  assert.deepEqual(await visible(""), [[], "CUDA_VISIBLE_DEVICES"]);
  // The CUDA C++ Programming Guide: devices before the first index that is invalid are visible.
  assert.deepEqual((await visible("-1"))[0], []);
  assert.deepEqual((await visible("2,0,-1,1"))[0], ["2", "0"]);
});

Deno.test("detectDevices() sorts device files by number and leaves control files out", async () => {
  const names = ["nvidia10", "nvidiactl", "nvidia2", "nvidia-uvm", "null", "nvidia0", "nvidia1x"];
  const probes = { ...NOTHING, listDeviceFiles: () => Promise.resolve(names) };
  assert.deepEqual(await found({ probes }), [["0", "2", "10"], "/dev"]);
});

Deno.test("queryDriver() takes indices, and nothing from a tool that is missing, fails or hangs", async () => {
  const folder = await Deno.makeTempDir({ prefix: "driver-" });
  const tool = async (script: string) => {
    const path = `${folder}/${crypto.randomUUID()}`;
    await Deno.writeTextFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  };
  try {
    assert.deepEqual(await queryDriver(await tool("printf '0\\n 1\\nNo devices\\n'")), ["0", "1"]);
    assert.deepEqual(await queryDriver(await tool("echo 0; exit 9")), []);
    assert.deepEqual(await queryDriver(`${folder}/missing`), []);
    assert.deepEqual(await queryDriver(await tool("exec sleep 600"), 20), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
