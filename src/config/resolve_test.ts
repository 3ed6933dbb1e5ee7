import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { loadConfig } from "./load.ts";
import { parseNodeFile } from "./node_file.ts";
import { type ConfigSources, type FileLayer, resolveServerConfig } from "./resolve.ts";
import { resolveWorker } from "./resolve_worker.ts";
import { SERVER_KEYS } from "./server_config.ts";
import { validateServerConfig } from "./validate.ts";
import type { Mapping } from "./yaml.ts";

function refuses(sources: ConfigSources, ...expected: RegExp[]): void {
  assert.throws(() => resolveServerConfig(sources), (error) => {
    assert.ok(error instanceof ConfigError, `expected a ConfigError, got ${error}`);
    for (const pattern of expected) assert.match(error.message, pattern);
    return true;
  });
}

/** A one-worker node file with this flow mapping as its `global`. */
function file(global: string) {
  const text = `model_repo: /bundles\nworkers: [{name: w, port: 8080}]\nglobal: ${global}`;
  return resolveWorker(parseNodeFile(text, "node.yaml")).layer;
}

/** Every default of the tables in sections 2.1 to 2.4 of the core specification. */
const SPECIFIED_DEFAULTS = {
  "cache_dir": "",
  "model_control_mode": "dynamic",
  "model_poll_seconds": 15,
  "models_include": [],
  "runtime.backend": "cpu",
  "runtime.device_ordinal": 0,
  "runtime.mem_fraction": 0.9,
  "runtime.preallocate": true,
  "runtime.allow_cpu_fallback": true,
  "runtime.weight_cache_fraction": 1,
  "runtime.weight_cache_wiggle_fraction": 0.1,
  "runtime.autotune": true,
  "runtime.autotune_cache": undefined,
  "runtime.autotune_cache_dir": "",
  "runtime.numerics": "auto",
  "runtime.shared_host_weights": false,
  "runtime.shared_host_weights_mode": "666",
  "scheduler.discipline": "fair",
  "scheduler.ema_halflife_seconds": 30,
  "scheduler.recency_penalty_cap": 0.25,
  "scheduler.coalescing_discount": 0.1,
  "scheduler.cost_ema_alpha": 0.2,
  "scheduler.max_queue_depth": 1024,
  "scheduler.dispatch_timeout_seconds": 30,
  "scheduler.compaction_interval": 0,
  "endpoints.host": "127.0.0.1",
  "endpoints.metrics_port": 0,
  // 64 in the original; larger here so that queues and large batches can fill.
  "endpoints.max_concurrent_requests": 1024,
  "grpc.max_recv_msg_bytes": 536870912,
  "grpc.max_send_msg_bytes": 536870912,
};

Deno.test("resolveServerConfig() has the specified defaults", () => {
  const { config } = resolveServerConfig({ file: file("{}") });
  for (const [path, expected] of Object.entries(SPECIFIED_DEFAULTS)) {
    assert.deepEqual(valueOf(config, path), expected, path);
  }
  assert.equal(SERVER_KEYS.find(({ path }) => path === "endpoints.port")!.row.default, 8080);
});

Deno.test("resolveServerConfig() reads every variable of the specification", () => {
  const suffixes = `CACHE_DIR MODEL_CONTROL_MODE MODEL_POLL_SECONDS RUNTIME_BACKEND RUNTIME_NUMERICS
    RUNTIME_AUTOTUNE_CACHE_DIR RUNTIME_SHARED_HOST_WEIGHTS_MODE RUNTIME_DEVICE_ORDINAL
    RUNTIME_MEM_FRACTION RUNTIME_WEIGHT_CACHE_FRACTION RUNTIME_WEIGHT_CACHE_WIGGLE_FRACTION
    RUNTIME_PREALLOCATE RUNTIME_ALLOW_CPU_FALLBACK RUNTIME_AUTOTUNE RUNTIME_AUTOTUNE_CACHE
    RUNTIME_SHARED_HOST_WEIGHTS SCHEDULER_DISCIPLINE SCHEDULER_EMA_HALFLIFE_SECONDS
    SCHEDULER_RECENCY_PENALTY_CAP SCHEDULER_COALESCING_DISCOUNT SCHEDULER_COST_EMA_ALPHA
    SCHEDULER_DISPATCH_TIMEOUT_SECONDS SCHEDULER_MAX_QUEUE_DEPTH SCHEDULER_COMPACTION_INTERVAL
    ENDPOINTS_HOST ENDPOINTS_PORT ENDPOINTS_METRICS_PORT ENDPOINTS_MAX_CONCURRENT_REQUESTS
    GRPC_MAX_RECV_MSG_BYTES GRPC_MAX_SEND_MSG_BYTES MODEL_DIRS MODELS_INCLUDE`.split(/\s+/);
  assert.equal(suffixes.length, 32);
  const known = SERVER_KEYS.map((key) => key.variable);
  for (const suffix of suffixes) assert.ok(known.includes(`INFERENCE_SERVER_${suffix}`), suffix);
});

Deno.test("every key has a flag and a variable of its own", () => {
  for (const name of ["path", "flag", "variable"] as const) {
    const names = SERVER_KEYS.map((key) => key[name]);
    assert.equal(new Set(names).size, names.length, name);
  }
});

Deno.test("resolveServerConfig() reads INFERENCE_SERVER and the path for every key, after a name of its own", () => {
  const given: Record<string, string> = {
    INFERENCE_SERVER_META_CONCURRENCY: "7",
    INFERENCE_SERVER_RUNTIME_PJRT_PLUGIN: "/opt/plugin.so",
    INFERENCE_SERVER_RUNTIME_WORKER_CORES: "0-3",
  };
  const { config, origins, warnings } = resolveServerConfig({ environment: given });
  assert.equal(config.meta.concurrency, 7);
  assert.equal(config.runtime.pjrtPlugin, "/opt/plugin.so");
  assert.equal(config.runtime.workerCores, "0-3");
  assert.equal(origins.get("meta.concurrency")!.name, "INFERENCE_SERVER_META_CONCURRENCY");
  assert.deepEqual(warnings, []);
  const both = { ...given, REACTANT_META_CONCURRENCY: "3", REACTANT_PJRT_PLUGIN: "" };
  const resolved = resolveServerConfig({ environment: both });
  assert.equal(resolved.config.meta.concurrency, 3);
  assert.equal(resolved.config.runtime.pjrtPlugin, "/opt/plugin.so");
  for (const { path, variable, otherVariable } of SERVER_KEYS) {
    const regular = `INFERENCE_SERVER_${path.replaceAll(".", "_").toUpperCase()}`;
    assert.ok([variable, otherVariable].includes(regular), path);
  }
});

Deno.test("resolveServerConfig() prefers flag to variable to file to default, and remembers which", () => {
  const layer = file("{endpoints: {host: from-file}, scheduler: {discipline: edf}}");
  const environment = { INFERENCE_SERVER_ENDPOINTS_HOST: "from-variable" };
  const flags = new Map([["host", ["first", "from-flag"]]]);
  const host = (sources: ConfigSources) => {
    const { config, origins } = resolveServerConfig(sources);
    return [config.endpoints.host, origins.get("endpoints.host")];
  };
  assert.deepEqual(host({ flags, environment, file: layer }), ["from-flag", {
    source: "flag",
    name: "--host",
  }]);
  assert.deepEqual(host({ environment, file: layer }), ["from-variable", {
    source: "variable",
    name: "INFERENCE_SERVER_ENDPOINTS_HOST",
  }]);
  assert.deepEqual(host({ file: layer }), ["from-file", {
    source: "file",
    name: "node.yaml: global.endpoints.host",
  }]);
  assert.deepEqual(host({}), ["127.0.0.1", { source: "default", name: "" }]);
});

Deno.test("resolveServerConfig() lets variables beat what the node file decides", () => {
  const environment = {
    INFERENCE_SERVER_ENDPOINTS_PORT: "8001",
    INFERENCE_SERVER_RUNTIME_DEVICE_ORDINAL: "3",
    INFERENCE_SERVER_MODEL_DIRS: "/a::/b c:",
    INFERENCE_SERVER_MODELS_INCLUDE: "",
  };
  const { config } = resolveServerConfig({ environment, file: file("{models_include: [x]}") });
  assert.equal(config.endpoints.port, 8001);
  assert.equal(config.runtime.deviceOrdinal, 3);
  assert.deepEqual(config.modelDirs, ["/a", "/b c"]);
  assert.deepEqual(config.modelsInclude, []);
});

Deno.test("resolveServerConfig() without a node file serves the models folder on 8001 and 8002", () => {
  const { config } = resolveServerConfig({});
  assert.deepEqual(config.modelDirs, ["models"]);
  assert.deepEqual([config.endpoints.port, config.endpoints.metricsPort], [8001, 8002]);
});

Deno.test("resolveServerConfig() is strict about types in the file", () => {
  const cases: [string, RegExp][] = [
    [
      "{scheduler: {max_queue_depth: 64.0}}",
      /max_queue_depth must be an integer of at least 1, got 64\.0$/,
    ],
    ["{scheduler: {max_queue_depth: '64'}}", /max_queue_depth must be an integer.*got "64"/],
    ["{scheduler: {max_queue_depth: true}}", /max_queue_depth must be an integer.*got true/],
    ["{runtime: {mem_fraction: true}}", /mem_fraction must be a number.*got true/],
    ["{scheduler: {ema_halflife_seconds: .nan}}", /must be a number above 0, got NaN$/],
    ["{models_include: [a, 3]}", /models_include must be a list of strings, got 3 in it$/],
    [
      "{hooks: {models: {m: {allow_read: [/srv, words]}}}}",
      /allow_read must be a list of absolute paths without \.\., got "words" in it$/,
    ],
    ["{runtime: {mem_fraction: ~}}", /mem_fraction must be a number.*got null/],
    ["{runtime: {preallocate: 1}}", /preallocate must be true or false, got 1/],
    ["{runtime: {preallocate: 'true'}}", /preallocate must be true or false, got "true"/],
    ["{runtime: {shared_host_weights_mode: 666}}", /quoted string of octal digits.*got 666/],
    ["{runtime: {shared_host_weights_mode: '888'}}", /octal digits.*got "888"/],
    ["{runtime: {shared_host_weights_mode: '1000'}}", /octal digits.*got "1000"/],
    ["{models_include: resnet}", /models_include must be a list of strings, got "resnet"/],
    ["{models_include: [1]}", /models_include must be a list of strings/],
    ["{cache_dir: 1}", /cache_dir must be a string, got 1/],
    ["{model_control_mode: never}", /one of static, dynamic, explicit, got "never"/],
    ["{runtime: {mem_fraction: .nan}}", /mem_fraction must be a number/],
    ["{scheduler: {ema_halflife_seconds: .inf}}", /ema_halflife_seconds must be a number/],
    [
      "{scheduler: {models: {m: {weight: 0}}}}",
      /models\.m\.weight must be a number above 0, got 0/,
    ],
    [
      "{scheduler: {models: {m: {max_batch_size: 0}}}}",
      /max_batch_size must be an integer of at least 1/,
    ],
    [
      "{scheduler: {models: {m: {residency: lost}}}}",
      /one of unpinned, system, device, got "lost"/,
    ],
    ["{scheduler: {models: {m: 3}}}", /scheduler\.models\.m must be a mapping, got 3/],
  ];
  for (const [global, expected] of cases) {
    assert.throws(() => resolveServerConfig({ file: file(global) }), expected, global);
  }
  const { runtime } = resolveServerConfig({
    file: file("{runtime: {mem_fraction: 1, backend: ' GPU ', shared_host_weights_mode: '0660'}}"),
  }).config;
  assert.equal(runtime.memFraction, 1);
  assert.equal(runtime.backend, "cuda");
  assert.equal(runtime.sharedHostWeightsMode, "0660");
});

/** Per key: the values just inside and just outside its range (sections 2.1 to 2.4). */
const RANGES: Record<string, { good: string[]; bad: string[] }> = {
  MODEL_POLL_SECONDS: { good: ["0", "0.5"], bad: ["-1"] },
  RUNTIME_MEM_FRACTION: { good: ["0.0001", "1"], bad: ["0", "1.0001"] },
  RUNTIME_WEIGHT_CACHE_FRACTION: { good: ["0", "1"], bad: ["-0.1", "1.1"] },
  RUNTIME_WEIGHT_CACHE_WIGGLE_FRACTION: { good: ["0", "0.999"], bad: ["-0.1", "1"] },
  SCHEDULER_EMA_HALFLIFE_SECONDS: { good: ["0.001", "1e3"], bad: ["0", "-1"] },
  SCHEDULER_RECENCY_PENALTY_CAP: { good: ["0.01", "1"], bad: ["0", "1.01"] },
  SCHEDULER_COALESCING_DISCOUNT: { good: ["0", "0.99"], bad: ["-0.1", "1"] },
  SCHEDULER_COST_EMA_ALPHA: { good: ["0.01", "1"], bad: ["0", "1.1"] },
  SCHEDULER_MAX_QUEUE_DEPTH: { good: ["1"], bad: ["0", "-1", "1.5"] },
  SCHEDULER_COMPACTION_INTERVAL: { good: ["0"], bad: ["-1"] },
  ENDPOINTS_PORT: { good: ["1", "65535"], bad: ["0", "65536"] },
  ENDPOINTS_METRICS_PORT: { good: ["0", "65535"], bad: ["-1", "65536"] },
  ENDPOINTS_MAX_CONCURRENT_REQUESTS: { good: ["0"], bad: ["-1"] },
  GRPC_MAX_RECV_MSG_BYTES: { good: ["1"], bad: ["0"] },
  GRPC_MAX_SEND_MSG_BYTES: { good: ["1"], bad: ["0"] },
};

Deno.test("resolveServerConfig() checks every range", () => {
  for (const [suffix, { good, bad }] of Object.entries(RANGES)) {
    const name = `INFERENCE_SERVER_${suffix}`;
    for (const value of good) resolveServerConfig({ environment: { [name]: value } });
    for (const value of bad) {
      refuses({ environment: { [name]: value } }, new RegExp(`^${name} must be .*got "${value}"`));
    }
  }
});

Deno.test("resolveServerConfig() parses variables strictly", () => {
  const preallocate = (text: string) =>
    resolveServerConfig({ environment: { INFERENCE_SERVER_RUNTIME_PREALLOCATE: text } })
      .config.runtime.preallocate;
  for (const yes of ["1", "true", "YES", " on "]) assert.equal(preallocate(yes), true, yes);
  for (const no of ["0", "False", "no", "OFF"]) assert.equal(preallocate(no), false, no);
  for (const bad of ["", "maybe", "2", "t"]) {
    refuses(
      { environment: { INFERENCE_SERVER_RUNTIME_PREALLOCATE: bad } },
      /must be true or false/,
    );
  }
  for (const bad of ["", "x", "1.0", "1e3"]) {
    refuses({ environment: { INFERENCE_SERVER_ENDPOINTS_PORT: bad } }, /must be an integer/);
  }
  for (const bad of ["", "x", "Infinity", "NaN", "0x1"]) {
    refuses({ environment: { INFERENCE_SERVER_MODEL_POLL_SECONDS: bad } }, /must be a number/);
  }
});

Deno.test("resolveServerConfig() takes an empty REACTANT variable as not set", () => {
  const environment = { REACTANT_WORKER_THREADS: "", REACTANT_PJRT_PLUGIN: "" };
  const { config, origins } = resolveServerConfig({ environment });
  assert.equal(config.runtime.workerThreads, 0);
  assert.equal(origins.get("runtime.pjrt_plugin")!.source, "default");
});

Deno.test("resolveServerConfig() reads residency words and pin_to_gpu", () => {
  const residency = (block: string) =>
    resolveServerConfig({ file: file(`{scheduler: {models: {m: ${block}}}}`) })
      .config.scheduler.models.get("m")!.residency;
  assert.equal(residency("{}"), undefined);
  assert.equal(residency("{residency: Pinned_Device}"), "device");
  assert.equal(residency("{residency: pinned_system}"), "system");
  assert.equal(residency("{pin_to_gpu: true}"), "device");
  assert.equal(residency("{pin_to_gpu: false}"), undefined);
  assert.equal(residency("{pin_to_gpu: true, residency: unpinned}"), "unpinned");
});

Deno.test("resolveServerConfig() warns about variables without effect and refuses removed ones", () => {
  const { warnings } = resolveServerConfig({
    environment: {
      INFERENCE_SERVER_RUNTIME_BACKENT: "cpu",
      REACTANT_PJRT_PLUGN: "x",
      REACTANT_GATEWAY_WORKERS: "read by the gateway",
      REACTANT_WORKER_NAME: "read here",
      UNRELATED: "x",
    },
  });
  assert.deepEqual(warnings, [
    "Variable INFERENCE_SERVER_RUNTIME_BACKENT has no effect; " +
    "did you mean INFERENCE_SERVER_RUNTIME_BACKEND?",
    "Variable REACTANT_PJRT_PLUGN has no effect; did you mean REACTANT_PJRT_PLUGIN?",
  ]);
  refuses(
    { environment: { INFERENCE_SERVER_BATCH_POLICY_MAX: "1" } },
    /INFERENCE_SERVER_BATCH_POLICY_MAX is no longer supported.*max_batch_size/,
  );
  refuses(
    { environment: { INFERENCE_SERVER_RUNTIME_RESIDENCY_MODE: "x" } },
    /RESIDENCY_MODE is no longer supported.*model_control_mode/,
  );
});

Deno.test("resolveServerConfig() warns about the open default mode of shared weights", () => {
  const { warnings } = resolveServerConfig({
    file: file("{scheduler: {dispatch_timeout_seconds: 5}, runtime: {shared_host_weights: true}}"),
  });
  assert.equal(warnings.length, 1);
  assert.match(warnings[0]!, /set it to "660"/);
  const quiet = "{runtime: {shared_host_weights: true, shared_host_weights_mode: '660'}}";
  assert.deepEqual(resolveServerConfig({ file: file(quiet) }).warnings, []);
});

Deno.test("validateServerConfig() checks what concerns several keys or the disk", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const check = (flags: Record<string, string>) => {
      const given = { "model-dir": folder, ...flags };
      const { config, origins } = resolveServerConfig({
        flags: new Map(Object.entries(given).map(([name, value]) => [name, [value]])),
      });
      validateServerConfig(config, origins);
    };
    check({});
    check({ "model-control-mode": "static", "model-poll-seconds": "0" });
    check({ "numerics": "tf32", "backend": "cuda" });
    check({ "scratch-bytes": "-1", "scratch-slots": "16" });
    check({ "scratch-bytes": "1", "scratch-slots": "0" });
    check({ "tls-cert": "c", "tls-key": "k", "tls-client-ca": "a", "grpc-transport": "grpc-js" });
    const cases: [Record<string, string>, RegExp][] = [
      [{ "model-dir": `${folder}/absent` }, /absent" \(--model-dir\) does not exist; create it/],
      [{ "model-dir": Deno.execPath() }, /is not a folder/],
      [
        { "metrics-port": "8001" },
        /--metrics-port must differ from endpoints\.port, both are 8001/,
      ],
      [{ "model-poll-seconds": "0" }, /--model-poll-seconds must be above 0.*static/],
      [{ "numerics": "tf32" }, /--numerics tf32 needs runtime\.backend cuda, got cpu/],
      [
        { "scratch-bytes": "15", "scratch-slots": "16" },
        /--scratch-bytes 15 cannot be parted into 16 \(--scratch-slots\)/,
      ],
      [{ "tls-cert": "c" }, /--tls-cert is given without endpoints\.tls_key/],
      [{ "tls-key": "k" }, /--tls-key is given without endpoints\.tls_cert/],
      [{ "tls-client-ca": "a" }, /--tls-client-ca needs endpoints\.tls_cert/],
      [
        { "tls-cert": "c", "tls-key": "k", "tls-client-ca": "a" },
        /--tls-client-ca needs endpoints\.transport grpc-js/,
      ],
    ];
    for (const [flags, expected] of cases) {
      assert.throws(() => check(flags), (error) => {
        assert.ok(error instanceof ConfigError);
        assert.match(error.message, expected);
        return true;
      });
    }
    const none = resolveServerConfig({ environment: { INFERENCE_SERVER_MODEL_DIRS: "" } });
    assert.throws(
      () => validateServerConfig(none.config, none.origins),
      /INFERENCE_SERVER_MODEL_DIRS must name at least one folder/,
    );
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("loadConfig() takes the node file and the worker's name from flags or variables", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const path = `${folder}/node.yaml`;
    Deno.writeTextFileSync(
      path,
      "model_repo: a\nbase_port: 5000\nworkers: [{name: x}, {name: y, host: ignored}]",
    );
    const flags = new Map<string, string[]>();
    const environment = { REACTANT_NODE_FILE: path, REACTANT_WORKER_NAME: "x" };
    const byVariable = loadConfig({ flags, environment });
    assert.deepEqual([byVariable.workerName, byVariable.config.endpoints.port], ["x", 5000]);
    assert.equal(byVariable.warnings.length, 1);
    const byFlag = loadConfig({ flags, environment, workerName: "y" });
    assert.deepEqual([byFlag.workerName, byFlag.config.endpoints.port], ["y", 5001]);
    const alone = loadConfig({ flags, environment: { REACTANT_NODE_FILE: "" } });
    assert.deepEqual([alone.workerName, alone.config.endpoints.port], ["worker0", 8001]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

/** The value at a path spelled as in a file. */
function valueOf(config: object, path: string): unknown {
  const { fields } = SERVER_KEYS.find((key) => key.path === path)!;
  let value: unknown = config;
  for (const field of fields) value = (value as Record<string, unknown>)[field];
  return value;
}

Deno.test("resolveServerConfig() reads the hooks block, its grants only from the file", () => {
  const file = (values: Mapping): FileLayer => ({
    file: "node.yaml",
    values,
    placeOf: (path) => `global.${path.join(".")}`,
  });
  const defaults = resolveServerConfig({}).config.hooks;
  assert.deepEqual(defaults, {
    memoryBytes: 536_870_912,
    callTimeoutSeconds: 60,
    loadTimeoutSeconds: 30,
    models: new Map(),
  });
  const grants = { allow_read: ["/data/words"], allow_net: ["db.example.com:5432", "[::1]:80"] };
  const { config } = resolveServerConfig({
    flags: new Map([["hook-memory-bytes", ["33554432"]]]),
    environment: { INFERENCE_SERVER_HOOKS_CALL_TIMEOUT_SECONDS: "2.5" },
    file: file({ hooks: { memory_bytes: 67_108_864n, models: { text: grants } } }),
  });
  assert.equal(config.hooks.memoryBytes, 33_554_432);
  assert.equal(config.hooks.callTimeoutSeconds, 2.5);
  assert.deepEqual(config.hooks.models.get("text"), {
    allowRead: ["/data/words"],
    allowNet: ["db.example.com:5432", "[::1]:80"],
    allowEnv: [],
  });
  const refused: [Mapping, RegExp][] = [
    [{ allow_read: ["data/words"] }, /global\.hooks\.models\.text\.allow_read must be .*absolute/],
    [{ allow_read: ["/data/../etc"] }, /allow_read must be .*absolute/],
    [{ allow_read: "/data" }, /allow_read must be/],
    [{ allow_net: ["https://example.com/"] }, /allow_net must be .*hosts/],
    [{ allow_net: ["*"] }, /allow_net must be/],
    [{ allow_env: ["A-B"] }, /allow_env must be .*variables/],
  ];
  for (const [block, message] of refused) {
    const layer = file({ hooks: { models: { text: block } } });
    assert.throws(() => resolveServerConfig({ file: layer }), message);
  }
});
