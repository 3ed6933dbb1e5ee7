/** More models than device memory: weights that come and go while requests run, on the CPU plugin. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { ServerError } from "../../src/errors.ts";
import { ControlService, Residency } from "../../src/protocol/mod.ts";
import { temporaryDirectory, writeBundle } from "../harness/bundle_builder.ts";
import { connect } from "../harness/client.ts";
import { startServer } from "../harness/server.ts";
import { runStorm } from "../harness/load/lifecycle_storm.ts";
import { publish } from "../harness/stamped_bundle.ts";
import { until } from "../harness/until.ts";
import {
  askValue,
  chainBundle,
  metric,
  weightBytesOf,
  weightedBundle,
  weightedFile,
} from "../harness/weighted_bundle.ts";

const ELEMENTS = 65_536;
const MODELS = ["m0", "m1", "m2", "m3", "m4", "m5"];
/** Room for two models with what a dispatch of them needs, and not for three. */
const ROOM_FOR_TWO = [
  ...["--device-memory-bytes", String(Math.floor(2.5 * weightBytesOf(ELEMENTS)))],
  ...["--mem-fraction", "1", "--weight-cache-wiggle-fraction", "0"],
];

const { method } = ControlService;

async function statusOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "OK";
  } catch (error) {
    return error instanceof ServerError ? `${error.status}: ${error.message}` : String(error);
  }
}

async function writeModels(root: string): Promise<void> {
  for (const [index, name] of MODELS.entries()) {
    await writeBundle(root, name, weightedBundle(index + 1, ELEMENTS));
  }
}

Deno.test("six models answer right from memory for two, through evictions, compactions and an update", async () => {
  await using folder = await temporaryDirectory();
  await writeModels(folder.path);
  await writeBundle(folder.path, "chain", chainBundle(["m4", "m5"]));
  await writeBundle(folder.path, "huge", weightedBundle(9, 3 * ELEMENTS));
  await using server = await startServer({
    modelDirs: [folder.path],
    args: [...ROOM_FOR_TWO, "--model-poll-seconds", "0.2"],
  });
  await using client = connect(server);
  const { inference } = client;

  const table = server.events.filter(({ message }) => message === "weight budget");
  const onDemand = table.find(({ term }) => term === "on demand")!.bytes as number;
  assert.ok(onDemand > 2 * weightBytesOf(ELEMENTS) && onDemand < 3 * weightBytesOf(ELEMENTS));
  const huge = await statusOf(askValue(client, "huge", 1));
  assert.match(huge, /^UNAVAILABLE.*"huge" need 786432 bytes of device memory, more than the \d+/);

  const values = new Map(MODELS.map((name, index) => [name, new Set([index + 1])]));
  const state = { isStopped: false, answers: 0 };
  const clients = Array.from({ length: 8 }, async (_, seed) => {
    let random = seed + 1;
    while (!state.isStopped) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      const x = random % 1000;
      const name = MODELS[Math.floor(random / 2 ** 32 * MODELS.length)]!;
      if (name === "m5") assert.equal(await askValue(client, "chain", x, 2), 11);
      else {
        const value = await askValue(client, name, x);
        assert.ok(values.get(name)!.has(value), `${name} answered with weights of ${value}`);
      }
      state.answers++;
    }
  });
  const running = Promise.all(clients).catch((error) => {
    state.isStopped = true;
    throw error;
  });
  running.catch(() => {});
  const untilDone = (isDone: () => boolean | Promise<boolean>, what: string) =>
    until(async () => {
      assert.ok(await metric(server, "worker_weight_cache_resident_bytes") <= onDemand);
      return state.isStopped || await isDone();
    }, what);
  const evictions = () => metric(server, "worker_weight_evicts_total");
  await untilDone(async () => await evictions() > 20, "weights are evicted");
  for (let round = 0; round < 5; round++) {
    const { reloadedModels, residentBytesAfter } = await inference.call(method.compactMemory, {
      reloadModels: ["m0", "nobody"],
    });
    assert.ok(reloadedModels <= 1n && Number(residentBytesAfter) <= onDemand);
    const before = state.answers;
    await untilDone(() => state.answers > before + 20, "answers after a compaction");
  }
  values.get("m3")!.add(40);
  publish(join(folder.path, "m3"), { "weights.safetensors": weightedFile(40, ELEMENTS) });
  const updated = await server.waitForEvent(({ message, model }) =>
    message === "model updated" && model === "m3"
  );
  assert.equal(updated.programsReused, updated.programs, "weights alone compile nothing");
  const before = state.answers;
  await untilDone(() => state.answers > before + 50, "answers after the update");
  state.isStopped = true;
  await running;

  assert.equal(await askValue(client, "m3", 7), 40);
  const { models, weightCacheMaxBytes, residencyMode } = await inference.call(
    method.modelControlStatus,
    {},
  );
  assert.equal(residencyMode, "self_managed");
  assert.equal(Number(weightCacheMaxBytes), onDemand);
  const m3 = models.find(({ name }) => name === "m3")!;
  assert.deepEqual(
    [m3.residency, m3.deviceResident, m3.hostResident, m3.batchInputName, m3.batchAxis],
    [Residency.PINNED_SYSTEM, true, true, "x", 1n],
  );
  const [loads, evicted, compactions, resident] = await Promise.all([
    metric(server, "worker_weight_loads_total"),
    evictions(),
    metric(server, "worker_weight_compactions_total"),
    metric(server, "worker_weight_cache_resident_bytes"),
  ]);
  assert.ok(evicted > 20 && loads > evicted);
  assert.equal(compactions, 5);
  // What a dispatch needed goes when it is over, which its caller may hear of before.
  await until(async () => {
    const { body } = await server.http("/metrics");
    const buffers = Number(/^worker_native_handles{.*kind="buffer"} (\d+)$/m.exec(body)![1]);
    return buffers * weightBytesOf(ELEMENTS) === resident;
  }, "nothing else is on the device");
  const target = { name: "m0", target: Residency.PINNED_DEVICE };
  assert.match(
    await statusOf(inference.call(method.setModelResidency, target)),
    /^FAILED_PRECONDITION.*model_control_mode explicit/,
  );
});

Deno.test("whoever manages residency decides what is served, within the budget", async () => {
  await using folder = await temporaryDirectory();
  await writeModels(folder.path);
  await writeBundle(folder.path, "chain", chainBundle(["m4", "m5"]));
  await using server = await startServer({
    modelDirs: [folder.path],
    args: [...ROOM_FOR_TWO, "--model-control-mode", "explicit"],
  });
  await using client = connect(server);
  const { inference } = client;
  const set = (name: string, target: Residency) =>
    inference.call(method.setModelResidency, { name, target });
  const ready = async () =>
    (await inference.repositoryIndex()).filter(({ state }) => state === "READY")
      .map(({ name }) => name);

  assert.deepEqual(await ready(), []);
  const [entry] = await inference.repositoryIndex();
  assert.match(entry!.reason, /are not on the device/);
  assert.match(
    await statusOf(askValue(client, "m0", 3)),
    /^UNAVAILABLE.*SetModelResidency/,
  );
  assert.equal((await set("m0", Residency.PINNED_DEVICE)).residency, Residency.PINNED_DEVICE);
  await set("m1", Residency.PINNED_DEVICE);
  assert.equal(await askValue(client, "m0", 3), 1);
  assert.equal(await askValue(client, "m1", 4), 2);
  assert.deepEqual(await ready(), ["m0", "m1"]);
  assert.equal(await inference.modelReady("m2"), false);
  assert.match(
    await statusOf(set("m2", Residency.PINNED_DEVICE)),
    /^RESOURCE_EXHAUSTED.*262144 bytes .*524288 bytes are pinned already/,
  );
  assert.equal((await inference.call(method.compactMemory, {})).residentBytesAfter, 0n);
  assert.equal(await askValue(client, "m0", 3), 1);

  assert.equal((await set("m0", Residency.UNPINNED)).residency, Residency.UNPINNED);
  assert.equal((await set("m1", Residency.PINNED_SYSTEM)).residency, Residency.PINNED_SYSTEM);
  assert.match(await statusOf(askValue(client, "m1", 4)), /^UNAVAILABLE/);
  assert.equal((await set("chain", Residency.PINNED_DEVICE)).residency, Residency.PINNED_DEVICE);
  assert.deepEqual(await ready(), ["chain"]);
  assert.equal(await askValue(client, "chain", 1, 2), 11);
  assert.match(await statusOf(set("m0", 9 as Residency)), /^INVALID_ARGUMENT/);
  assert.match(await statusOf(set("nobody", Residency.UNPINNED)), /^NOT_FOUND/);
  const { models, residencyMode } = await inference.call(method.modelControlStatus, {});
  assert.equal(residencyMode, "externally_managed");
  assert.deepEqual(
    models.map((m) => [m.name, m.residency, m.deviceResident, m.hostResident]).toSorted(),
    [
      ["chain", Residency.PINNED_DEVICE, true, true],
      ["m0", Residency.UNPINNED, false, false],
      ["m1", Residency.PINNED_SYSTEM, false, true],
      ["m2", Residency.PINNED_SYSTEM, false, true],
      ["m3", Residency.PINNED_SYSTEM, false, true],
    ],
  );
});

Deno.test("a storm of changes breaks no answer with room for the weights of two models", async () => {
  // Eight bytes, where every model of the storm has four.
  const args = ["--device-memory-bytes", "8192", "--mem-fraction", "1"];
  args.push("--weight-cache-fraction", String(8 / 8192));
  const report = await runStorm({ seconds: 6, seed: 2, clients: 4, answers: 100, args });
  assert.deepEqual(report.complaints, []);
  const executables = (handles: string) => /executable +\d+/.exec(handles)![0];
  assert.equal(executables(report.handlesAfter), executables(report.handlesBefore));
});
