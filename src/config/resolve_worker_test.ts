import assert from "node:assert/strict";
import { parseNodeFile } from "./node_file.ts";
import { resolveServerConfig } from "./resolve.ts";
import { resolveWorker } from "./resolve_worker.ts";

const TWO = `
model_repo: /bundles
base_port: 8080
metrics_base_port: 9100
shared_host_weights: true
global:
  runtime: {backend: cuda, mem_fraction: 0.8, numerics: f32}
  models_include: [a, b]
  scheduler: {discipline: fifo}
workers:
  - name: first
    gpu: 1
    runtime: {mem_fraction: 0.5}
    models_include: [c]
  - name: second
    port: 7000
    runtime: {shared_host_weights: false}
models:
  resnet50: [first]
  bert: [first, second]
`;

function resolve(text: string, worker?: string) {
  const resolved = resolveWorker(parseNodeFile(text, "node.yaml"), worker);
  const { config, origins } = resolveServerConfig({ file: resolved.layer });
  return { name: resolved.name, warnings: resolved.warnings, config, origins };
}

Deno.test("resolveWorker() lays a worker's blocks over global: mappings merge, the rest replaces", () => {
  const { config } = resolve(TWO, "first");
  assert.equal(config.runtime.memFraction, 0.5);
  assert.equal(config.runtime.numerics, "f32");
  assert.equal(config.runtime.backend, "cuda");
  assert.deepEqual(config.modelsInclude, ["c"]);
  assert.deepEqual(resolve(TWO, "second").config.modelsInclude, ["a", "b"]);
});

Deno.test("resolveWorker() puts in the folder, ports and device the node decides", () => {
  const first = resolve(TWO, "first").config;
  assert.deepEqual(first.modelDirs, ["/bundles"]);
  assert.equal(first.endpoints.port, 8080);
  assert.equal(first.endpoints.metricsPort, 9100);
  assert.equal(first.runtime.deviceOrdinal, 1);
  const second = resolve(TWO, "second").config;
  assert.equal(second.endpoints.port, 7000);
  assert.equal(second.endpoints.metricsPort, 9101);
  assert.equal(second.runtime.deviceOrdinal, 0);
});

Deno.test("resolveWorker() leaves metrics off without metrics_base_port, or as a block says", () => {
  const one = "model_repo: a\nworkers: [{name: w, port: 1}]";
  assert.equal(resolve(one).config.endpoints.metricsPort, 0);
  const set = "model_repo: a\nworkers: [{name: w, port: 1, endpoints: {metrics_port: 9}}]";
  assert.equal(resolve(set).config.endpoints.metricsPort, 9);
});

Deno.test("resolveWorker() overwrites what the node decides and says so", () => {
  const { config, warnings, origins } = resolve(`
model_repo: /bundles
metrics_base_port: 9000
global: {model_dirs: [x], endpoints: {port: 5, metrics_port: 6}, runtime: {device_ordinal: 7}}
workers: [{name: w, port: 80}]
`);
  assert.deepEqual(config.modelDirs, ["/bundles"]);
  assert.equal(config.endpoints.port, 80);
  assert.equal(config.endpoints.metricsPort, 9000);
  assert.equal(config.runtime.deviceOrdinal, 0);
  assert.deepEqual(warnings, [
    "node.yaml: global.model_dirs has no effect; model_repo decides",
    "node.yaml: global.endpoints.port has no effect; workers[0].port decides",
    "node.yaml: global.endpoints.metrics_port has no effect; metrics_base_port decides",
    "node.yaml: global.runtime.device_ordinal has no effect; workers[0].gpu decides",
  ]);
  assert.equal(origins.get("endpoints.port")!.name, "node.yaml: workers[0].port");
  assert.equal(origins.get("endpoints.metrics_port")!.name, "node.yaml: metrics_base_port");
});

Deno.test("resolveWorker() gives shared_host_weights to workers that say nothing", () => {
  assert.equal(resolve(TWO, "first").config.runtime.sharedHostWeights, true);
  assert.equal(resolve(TWO, "second").config.runtime.sharedHostWeights, false);
});

Deno.test("resolveWorker() pins the models listed for a worker, below an explicit residency", () => {
  assert.equal(resolve(TWO, "first").config.scheduler.models.get("resnet50")!.residency, "device");
  assert.equal(resolve(TWO, "second").config.scheduler.models.has("resnet50"), false);
  // The example of the specification: weight 2, residency system, and the map does not override it.
  const { config } = resolve(`
model_repo: a
base_port: 1
global: {scheduler: {models: {resnet50: {weight: 2, residency: system}}}}
models: {resnet50: [solo]}
workers: [{name: solo}]
`);
  assert.deepEqual(config.scheduler.models.get("resnet50"), {
    weight: 2,
    residency: "system",
    maxBatchSize: undefined,
    batchWaitSeconds: undefined,
  });
  const merged = resolve(`
model_repo: a
base_port: 1
global: {scheduler: {models: {m: {max_batch_size: 4}}}}
models: {m: [solo]}
workers: [{name: solo}]
`).config.scheduler.models.get("m");
  assert.deepEqual(merged, {
    weight: 1,
    residency: "device",
    maxBatchSize: 4,
    batchWaitSeconds: undefined,
  });
});

Deno.test("resolveWorker() knows where each model's settings come from", () => {
  const { origins } = resolve(`
model_repo: a
base_port: 1
global:
  scheduler: {models: {v1.5: {weight: 2}, old: {pin_to_gpu: true}}}
  hooks: {models: {v1.5: {allow_env: [A]}}}
models: {v1.5: [w], listed: [w]}
workers: [{name: w, scheduler: {models: {v1.5: {max_batch_size: 4}}}}]
`);
  const name = (path: string) => origins.get(path)!.name;
  assert.equal(
    name("scheduler.models.v1.5.weight"),
    "node.yaml: global.scheduler.models.v1.5.weight",
  );
  assert.equal(
    name("scheduler.models.v1.5.max_batch_size"),
    "node.yaml: workers[0].scheduler.models.v1.5.max_batch_size",
  );
  assert.equal(name("scheduler.models.listed.residency"), "node.yaml: models.listed");
  assert.equal(
    name("scheduler.models.old.residency"),
    "node.yaml: global.scheduler.models.old.pin_to_gpu",
  );
  assert.equal(
    name("hooks.models.v1.5.allow_env"),
    "node.yaml: global.hooks.models.v1.5.allow_env",
  );
  for (const path of ["scheduler.models.old.weight", "hooks.models.v1.5.allow_read"]) {
    assert.deepEqual(origins.get(path), { source: "default", name: "" }, path);
  }
  assert.equal(name("runtime.device_ordinal"), "node.yaml: workers[0] (no gpu)");
});

Deno.test("resolveWorker() changes only the field a worker's block names", () => {
  const text = "model_repo: a\nbase_port: 1\nworkers: [{name: w, runtime: {mem_fraction: 0.5}}]";
  const { config } = resolve(text);
  assert.equal(config.runtime.memFraction, 0.5);
  assert.equal(config.runtime.weightCacheWiggleFraction, 0.1);
  assert.equal(config.scheduler.models.size, 0);
  assert.deepEqual(config.modelsInclude, []);
});

Deno.test("resolveWorker() needs a name only when there are several workers", () => {
  assert.equal(resolve("model_repo: a\nworkers: [{name: w, port: 1}]").name, "w");
  assert.throws(
    () => resolve(TWO),
    /name one of its 2 workers \(first, second\) with --worker-name/,
  );
  assert.throws(() => resolve(TWO, "third"), /no worker "third"; the workers are first, second/);
});
