import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { parseNodeFile, readNodeFile } from "./node_file.ts";
import { resolveServerConfig } from "./resolve.ts";
import { resolveWorker } from "./resolve_worker.ts";

/** A node with one worker, `solo`, and further lines. */
function node(extra = "", solo = ""): string {
  return `model_repo: /bundles\nbase_port: 8080\n${extra}\nworkers:\n  - name: solo\n${solo}`;
}

/** The configuration of a worker of that text, from the file alone. */
function configOf(text: string, worker?: string) {
  const { layer } = resolveWorker(parseNodeFile(text, "node.yaml"), worker);
  return resolveServerConfig({ file: layer }).config;
}

function refuses(text: string, ...expected: RegExp[]): void {
  assert.throws(() => configOf(text, "solo"), (error) => {
    assert.ok(error instanceof ConfigError, `expected a ConfigError, got ${error}`);
    assert.match(error.message, /^node\.yaml: /);
    for (const pattern of expected) assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("parseNodeFile() refuses a file that is no mapping", () => {
  refuses("", /must hold a mapping.*got nothing/);
  refuses("- a\n- b", /must hold a mapping.*a list of 2/);
  refuses("just text", /must hold a mapping.*"just text"/);
  refuses("a: [1", /not valid YAML/);
  refuses("model_repo: a\nmodel_repo: b", /not valid YAML: Map keys must be unique/);
  refuses("model_repo: *missing", /not valid YAML/);
  assert.throws(() => readNodeFile("/nowhere/node.yaml"), /"\/nowhere\/node\.yaml" does not exist/);
});

Deno.test("parseNodeFile() checks model_repo and the shape of workers", () => {
  refuses("workers: [{name: solo, port: 1}]", /model_repo must be .*got nothing/);
  refuses("model_repo: ''\nworkers: []", /model_repo must be .*got ""/);
  refuses("model_repo: 3\nworkers: []", /model_repo must be .*got 3/);
  refuses("model_repo: a", /workers must be a list .*got nothing/);
  refuses("model_repo: a\nworkers: ~", /workers must be a list .*got null/);
  refuses("model_repo: a\nworkers: {}", /workers must be a list .*got a mapping/);
  refuses("model_repo: a\nworkers: []", /workers must have at least one entry/);
  refuses("model_repo: a\nworkers: [solo]", /workers\[0\] must be a mapping, got "solo"/);
});

Deno.test("parseNodeFile() checks each worker's name, device and ports", () => {
  const workers = (list: string, top = "base_port: 8080") =>
    `model_repo: a\n${top}\nworkers: [${list}]`;
  refuses(workers("{port: 1}"), /workers\[0\]\.name must be a string, got nothing/);
  refuses(workers("{name: 1}"), /workers\[0\]\.name must be a string, got 1/);
  refuses(workers("{name: a}, {name: a}"), /workers\[1\]\.name "a" is used twice/);
  refuses(workers('{name: ""}'), /workers\[0\]\.name "" must neither be empty nor/);
  refuses(workers('{name: "a "}'), /name "a " must neither be empty nor begin or end in spaces/);
  refuses(workers('{name: "a,b"}'), /name "a,b" must have no comma/);
  refuses(workers('{name: "a\\nb"}'), /name "a\\nb" must have no comma and no control character/);
  refuses(workers(`{name: ${"a".repeat(129)}}`), /name "a{128}" … has more than 128 characters/);
  refuses(workers("{name: gateway}"), /name "gateway" is the name of the node's own gateway/);
  refuses(workers("{name: a, gpu: x}"), /workers\[0\]\.gpu must be an integer, got "x"/);
  refuses(workers("{name: a, gpu: 1.0}"), /workers\[0\]\.gpu must be an integer, got 1/);
  refuses(workers("{name: a, gpu: -1}"), /workers\[0\]\.gpu must be at least 0, got -1/);
  refuses(workers("{name: a, port: '80'}"), /workers\[0\]\.port must be an integer, got "80"/);
  refuses(
    workers("{name: a}", ""),
    /base_port must be an integer because workers\[0\] has no port/,
  );
  refuses(workers("{name: a}", "base_port: x"), /base_port must be an integer.*got "x"/);
  refuses(
    workers("{name: a}, {name: b, port: 8080}"),
    /port 8080 is wanted by both workers\[0\] \(gRPC, base_port \+ 0\) and workers\[1\] \(gRPC, workers\[1\]\.port\)/,
  );
  refuses(
    workers("{name: a}", "base_port: 8080\nmetrics_base_port: x"),
    /metrics_base_port must be an integer, got "x"/,
  );
  refuses(
    workers("{name: a}", "base_port: 8080\nmetrics_base_port: 8080"),
    /port 8080 is wanted by both/,
  );
  refuses(
    workers("{name: a}, {name: b}", "base_port: 8080\nmetrics_base_port: 8081"),
    /port 8081 is wanted by both workers\[0\] \(metrics/,
  );
  // A port in a settings block stands when the node gives none, so it can collide as well.
  refuses(
    `model_repo: a\nbase_port: 8080\nglobal: {endpoints: {metrics_port: 9000}}\n` +
      "workers: [{name: solo}, {name: b}]",
    /port 9000 is wanted by both/,
  );
});

Deno.test("parseNodeFile() checks the models map", () => {
  refuses(node("models: [a]"), /models must be a mapping .*got a list of 1/);
  refuses(node("models: {m: solo}"), /models\.m must be a list of worker names, got "solo"/);
  refuses(node("models: {m: [1]}"), /models\.m must be a list of worker names, got 1/);
  refuses(node("models: {m: []}"), /models\.m must name at least one worker/);
  refuses(
    node("models: {m: [solo, ghost]}"),
    /models\.m names worker "ghost", which is not defined; the workers are solo/,
  );
  assert.equal(parseNodeFile(node("models: ~"), "node.yaml").models.size, 0);
});

Deno.test("parseNodeFile() reads gpus as auto, a count or a list of selectors", () => {
  const devices = (gpus: string) => parseNodeFile(node(`gpus: ${gpus}`), "node.yaml").devices;
  assert.equal(parseNodeFile(node(), "node.yaml").devices, "auto");
  assert.equal(devices("' AUTO '"), "auto");
  assert.deepEqual(devices("0"), []);
  assert.deepEqual(devices("3"), ["0", "1", "2"]);
  assert.deepEqual(devices("[2, ' GPU-8a2f ']"), ["2", "GPU-8a2f"]);
  for (const bad of ["-1", "[]", "[1.5]", "some", "'2'", "{a: 1}", "~"]) {
    refuses(node(`gpus: ${bad}`), /gpus must be auto, a count, or a non-empty list/);
  }
});

Deno.test("parseNodeFile() reads role trimmed and in any case", () => {
  const role = (text: string) => parseNodeFile(node(text), "node.yaml").role;
  assert.equal(role(""), "all");
  assert.equal(role("role: ' Workers '"), "workers");
  assert.equal(role("role: GATEWAY"), "gateway");
  refuses(node("role: some"), /role must be one of all, workers, gateway, got "some"/);
  refuses(node("role: 1"), /role must be one of/);
});

Deno.test("parseNodeFile() treats yes, no, on and off as strings and a leading zero as octal", () => {
  refuses(
    node("global: {runtime: {autotune: no}}"),
    /global\.runtime\.autotune must be true or false, got "no"/,
  );
  assert.equal(configOf(node("global: {runtime: {autotune: FALSE}}")).runtime.autotune, false);
  const depth = (text: string) =>
    configOf(node(`global: {scheduler: {max_queue_depth: ${text}}}`)).scheduler.maxQueueDepth;
  assert.equal(depth("0x10"), 16);
  assert.equal(depth("010"), 8);
});

Deno.test("parseNodeFile() refuses unknown keys at every level with the nearest known one", () => {
  refuses(node("model_rep: x"), /unknown key model_rep; did you mean model_repo\?/);
  refuses(node("global: {runtme: {}}"), /unknown key global\.runtme; did you mean runtime\?/);
  refuses(
    node("global: {runtime: {mem_fracton: 0.5}}"),
    /unknown key global\.runtime\.mem_fracton; did you mean mem_fraction\?/,
  );
  refuses(node("", "    prot: 1"), /unknown key workers\[0\]\.prot; did you mean port\?/);
  refuses(
    node("global: {scheduler: {models: {m: {wieght: 1}}}}"),
    /unknown key global\.scheduler\.models\.m\.wieght; did you mean weight\?/,
  );
  refuses(node("global: {entirely_other: 1}"), /unknown key global\.entirely_other$/);
  refuses(node("global: {runtime: 3}"), /global\.runtime must be a mapping, got 3/);
  refuses(node("global: 3"), /global must be a mapping, got 3/);
});

Deno.test("parseNodeFile() refuses removed keys and names what replaces them", () => {
  refuses(
    node("global: {batch_policy: ~}"),
    /global\.batch_policy is no longer supported.*scheduler\.models\.<name>\.max_batch_size/,
  );
  refuses(node("", "    batch_policy: {}"), /workers\[0\]\.batch_policy is no longer supported/);
  refuses(
    node("global: {runtime: {residency_mode: x}}"),
    /global\.runtime\.residency_mode is no longer supported.*model_control_mode/,
  );
});

Deno.test("parseNodeFile() accepts empty blocks", () => {
  const empty = "global: {runtime: ~, endpoints: ~, scheduler: {models: {m: ~}}, grpc: ~}";
  assert.deepEqual(configOf(node(empty)).scheduler.models.get("m"), {
    weight: 1,
    residency: undefined,
    maxBatchSize: undefined,
    batchWaitSeconds: undefined,
  });
  assert.equal(configOf(node("global:")).runtime.memFraction, 0.9);
});

Deno.test("parseNodeFile() warns about keys that mean nothing", () => {
  const { warnings } = parseNodeFile(node("gateway: {a: 1}", "    host: x"), "node.yaml");
  assert.equal(warnings.length, 2);
  assert.match(warnings[0]!, /workers\[0\]\.host has no effect; use workers\[0\]\.endpoints\.host/);
  assert.match(warnings[1]!, /gateway has no effect/);
});

Deno.test("parseNodeFile() knows the keys of hook grants and guesses mistyped ones", () => {
  const block = (keys: string) => node(`global:\n  hooks:\n    models:\n      text:\n${keys}`);
  const text = block("        allow_read: [/data/words]\n        allow_env: [TZ]");
  assert.deepEqual(configOf(text).hooks.models.get("text"), {
    allowRead: ["/data/words"],
    allowNet: [],
    allowEnv: ["TZ"],
  });
  refuses(
    block("        allow_reed: [/data]"),
    /unknown key global\.hooks\.models\.text\.allow_reed/,
    /allow_read/,
  );
  refuses(block("        allow_run: [sh]"), /unknown key global\.hooks\.models\.text\.allow_run/);
  refuses(node("global:\n  hooks:\n    memory: 5"), /unknown key global\.hooks\.memory/);
});
