import assert from "node:assert/strict";
import { defaultNodeOutline, materialise, parseNodeOutline } from "./node_outline.ts";
import { parseNodeFile } from "./node_file.ts";

const BASE = "model_repo: /bundles\nbase_port: 8080\nmetrics_base_port: 9100\n";

function made(text: string, devices: string[], cpuWorkers = 1) {
  return materialise(parseNodeOutline(text, "node.yaml"), { devices, cpuWorkers, role: "all" });
}

Deno.test("parseNodeOutline() reads role and devices, and refuses what it does not know", () => {
  const outline = parseNodeOutline(`${BASE}role: " Workers"\ngpus: 2\n`, "n");
  assert.equal(outline.role, "workers");
  assert.deepEqual(outline.devices, ["0", "1"]);
  assert.equal(parseNodeOutline(BASE, "n").role, undefined);
  assert.throws(() => parseNodeOutline(`${BASE}rolle: all\n`, "n"), /unknown key rolle; .*role/);
  assert.throws(() => parseNodeOutline(`${BASE}gpus: []\n`, "n"), /gpus must be auto, a count/);
  assert.throws(() => parseNodeOutline(`${BASE}gpus: -1\n`, "n"), /gpus must be/);
});

Deno.test("materialise() makes one worker per device, or as many CPU workers as asked", () => {
  const gpus = made(BASE, ["0", "GPU-aa"]);
  assert.deepEqual(
    gpus.node.workers.map(({ name, port, metricsPort }) => [name, port, metricsPort]),
    [
      ["worker0", 8080, 9100],
      ["worker1", 8081, 9101],
    ],
  );
  assert.deepEqual(gpus.devices, ["0", "GPU-aa"]);
  const cpus = made(BASE, [], 3);
  assert.deepEqual(cpus.node.workers.map(({ name }) => name), ["worker0", "worker1", "worker2"]);
  assert.deepEqual(cpus.devices, [undefined, undefined, undefined]);
});

Deno.test("materialise() lets listed workers choose, and says which devices are left", () => {
  const text = `${BASE}workers:\n  - {name: a, gpu: 2}\n  - {name: b}\n`;
  const { devices, unused, node } = made(text, ["4", "5", "6"]);
  assert.deepEqual(devices, ["6", "5"]);
  assert.deepEqual(unused, ["4"]);
  // Each child sees one device, so its ordinal there is 0.
  assert.deepEqual(node.workers.map(({ gpu }) => gpu), [undefined, undefined]);
  assert.deepEqual(made(text, []).devices, [undefined, undefined]);
});

Deno.test("materialise() refuses devices that are missing or taken", () => {
  const list = (entries: string) => `${BASE}workers: [${entries}]\n`;
  assert.throws(
    () => made(list("{name: a, gpu: 2}"), ["0", "1"]),
    /workers\[0\] wants gpu 2, but the node has 2 \(0, 1\)/,
  );
  assert.throws(() => made(list("{name: a}, {name: b}"), ["0"]), /workers\[1\] wants device 1/);
  assert.throws(
    () => made(list("{name: a, gpu: 1}, {name: b}"), ["0", "1"]),
    /workers\[0\] and workers\[1\] both want device 1/,
  );
  assert.throws(() => made(list("{name: a, gpu: -1}"), ["0"]), /gpu must be at least 0, got -1/);
  assert.throws(() => made(list("{name: a, gpu: x}"), ["0"]), /gpu must be an integer/);
  assert.throws(() => made(`${BASE}workers: {a: 1}\n`, ["0"]), /workers must be a list/);
  assert.throws(() => made(`${BASE}workers: []\n`, ["0"]), /at least one entry/);
  assert.throws(() => made("model_repo: m\n", ["0"]), /base_port must be an integer/);
});

Deno.test("materialise() writes a file that reads back the same", () => {
  const text = BASE + "gpus: 2\n" +
    'global: {runtime: {shared_host_weights_mode: "0660", mem_fraction: 0.5},' +
    ' scheduler: {models: {m: {weight: 2}}}, models_include: ["1", a]}\n' +
    "models: {m: [worker1]}\n";
  const { text: written, node } = made(text, ["0", "1"]);
  const back = parseNodeFile(written, "node.yaml");
  assert.deepEqual({ ...back, devices: node.devices }, node);
  assert.deepEqual(back.global, node.global);
  assert.equal(back.devices, "auto");
  assert.deepEqual(back.models.get("m"), ["worker1"]);
  assert.deepEqual(
    (back.global["runtime"] as Record<string, unknown>)["shared_host_weights_mode"],
    "0660",
  );
});

Deno.test("defaultNodeOutline() is a complete node", () => {
  const outline = defaultNodeOutline({ modelRepo: "models", backend: "cpu" });
  const { node } = materialise(outline, { devices: [], cpuWorkers: 2, role: "all" });
  assert.equal(node.modelRepo, "models");
  assert.deepEqual(node.workers.map(({ port }) => port), [8080, 8081]);
});
