import assert from "node:assert/strict";
import { LATENCY_BOUNDS } from "./conventions.ts";
import { gpuLabel } from "./gpu_label.ts";
import { WorkerMetrics } from "./worker_metrics.ts";
import type {
  DeviceMemoryReading,
  ExecutableCacheReading,
  ModelReading,
  WeightReading,
} from "./worker_readings.ts";

const DIGITS: ModelReading = {
  name: "digits",
  queueDepth: 3,
  weightBytes: 4096,
  isResident: true,
  isPinned: true,
  maxBatchSize: 32,
  recentComputeSeconds: 0.125,
  costSeconds: new Map([[1, 0.01], [32, 0.02]]),
};

function metricsOf(changes: {
  gpu?: string;
  models?: ModelReading[];
  failedUpdates?: string[];
  memory?: DeviceMemoryReading;
  prepare?: () => Promise<void>;
  cache?: ExecutableCacheReading;
  weights?: WeightReading;
} = {}): WorkerMetrics {
  return new WorkerMetrics({
    worker: "w0",
    gpu: changes.gpu ?? "",
    deviceOrdinal: 0,
    controlMode: "dynamic",
    discipline: "fair",
    maxConcurrentRequests: 1024,
    methods: ["/inference.GRPCInferenceService/ModelInfer"],
    readings: {
      prepare: changes.prepare ?? (() => Promise.resolve()),
      models: () => changes.models ?? [],
      metas: () => [{ name: "chain", dispatches: 4, computeSeconds: 0.5 }],
      hooks: () => [{ name: "chain", threads: 2, heapBytes: 21_000_000, externalBytes: 4096 }],
      failedUpdates: () => changes.failedUpdates ?? [],
      inflightRequests: () => 7,
      requestsShed: () => 11,
      deviceMemory: () => changes.memory,
      nativeHandles: () => ({ buffer: 5 }),
      weights: () => changes.weights,
      executableCache: () => changes.cache,
    },
  });
}

/** The sample lines of the families with this prefix. */
async function lines(metrics: WorkerMetrics, prefix: string): Promise<string[]> {
  const text = await metrics.text();
  assert.ok(text.endsWith("\n"));
  return text.split("\n").filter((line) => line.startsWith(prefix));
}

Deno.test("WorkerMetrics counts requests by model and status, unknown names under one label", async () => {
  const metrics = metricsOf();
  metrics.requestEnded("digits", "OK", 0.004);
  metrics.requestEnded("digits", "OK", 0.001);
  metrics.requestEnded("digits", "INVALID_ARGUMENT", 0.0001);
  for (let i = 0; i < 50; i++) metrics.requestEnded(undefined, "NOT_FOUND", 0.0001);
  assert.deepEqual(await lines(metrics, "worker_requests_total"), [
    'worker_requests_total{worker="w0",model="digits",status="OK"} 2',
    'worker_requests_total{worker="w0",model="digits",status="INVALID_ARGUMENT"} 1',
    'worker_requests_total{worker="w0",model="_unknown",status="NOT_FOUND"} 50',
  ]);
});

Deno.test("WorkerMetrics has the specified latency buckets, 0.001 * 2^k, each including its bound", async () => {
  assert.deepEqual(LATENCY_BOUNDS, [
    0.001,
    0.002,
    0.004,
    0.008,
    0.016,
    0.032,
    0.064,
    0.128,
    0.256,
    0.512,
    1.024,
    2.048,
    4.096,
    8.192,
  ]);
  const metrics = metricsOf();
  for (const seconds of [0.0005, 0.001, 0.0011, 8.192, 100]) {
    metrics.requestEnded("m", "OK", seconds);
  }
  const found = await lines(metrics, "worker_request_latency_seconds");
  const bucket = (le: string) =>
    found.find((line) => line.includes(`le="${le}"`))!.split(" ").at(-1);
  assert.equal(found.length, 17);
  assert.deepEqual(["0.001", "0.002", "4.096", "8.192", "+Inf"].map(bucket), [
    "2",
    "3",
    "3",
    "4",
    "5",
  ]);
  assert.equal(
    found[14],
    'worker_request_latency_seconds_bucket{worker="w0",model="m",le="+Inf"} 5',
  );
  assert.equal(found[16], 'worker_request_latency_seconds_count{worker="w0",model="m"} 5');
  const sum = Number(found[15]!.split(" ").at(-1));
  assert.ok(Math.abs(sum - 108.1946) < 1e-9, String(sum));
});

Deno.test("WorkerMetrics puts worker and gpu first on every sample", async () => {
  const metrics = metricsOf({ gpu: "GPU-8a2f", models: [DIGITS] });
  metrics.requestEnded("digits", "OK", 1);
  const samples = (await metrics.text()).split("\n").filter((line) => /^[a-z]/.test(line));
  assert.ok(samples.length > 40);
  for (const sample of samples) assert.match(sample, /^\w+\{worker="w0",gpu="GPU-8a2f"[,}]/);
});

Deno.test("WorkerMetrics shows per-model series for the models that are loaded", async () => {
  const models = [DIGITS];
  const metrics = metricsOf({ models });
  metrics.dispatched({
    model: "digits",
    size: 8,
    rows: 6,
    queueSeconds: [0.001, 0.002],
    computeSeconds: 0.25,
    stages: { input: 0.00002, execute: 0.2, output: 0.0001 },
  });
  const perModel = async () =>
    (await lines(metrics, "worker_")).filter((line) =>
      /^worker_(dispatch|compute|requests_served|rows|queue_depth|queue_wait|model_|models)/.test(
        line,
      )
    );
  assert.deepEqual(await perModel(), [
    'worker_dispatch_total{worker="w0",model="digits"} 1',
    'worker_compute_seconds_total{worker="w0",model="digits"} 0.25',
    'worker_requests_served_total{worker="w0",model="digits"} 2',
    'worker_rows_served_total{worker="w0",model="digits"} 6',
    'worker_queue_depth{worker="w0",model="digits"} 3',
    'worker_model_update_failed{worker="w0",model="digits"} 0',
    'worker_queue_wait_seconds{worker="w0",model="digits",quantile="0.5"} 0.001',
    'worker_queue_wait_seconds{worker="w0",model="digits",quantile="0.99"} 0.002',
    'worker_model_resident{worker="w0",model="digits"} 1',
    'worker_model_pinned{worker="w0",model="digits"} 1',
    'worker_model_weight_bytes{worker="w0",model="digits"} 4096',
    'worker_model_max_batch_size{worker="w0",model="digits"} 32',
    'worker_model_recent_compute_seconds{worker="w0",model="digits"} 0.125',
    'worker_model_cost_seconds{worker="w0",model="digits",size="1"} 0.01',
    'worker_model_cost_seconds{worker="w0",model="digits",size="32"} 0.02',
    'worker_models_loaded{worker="w0"} 1',
    'worker_models_resident{worker="w0"} 1',
  ]);
  models.pop();
  assert.deepEqual(await perModel(), [
    'worker_models_loaded{worker="w0"} 0',
    'worker_models_resident{worker="w0"} 0',
  ]);
});

Deno.test("WorkerMetrics times the stages: queue per request, the others per dispatch", async () => {
  const metrics = metricsOf();
  metrics.dispatched({
    model: "m",
    size: 2,
    rows: 2,
    queueSeconds: [0.001, 0.002],
    computeSeconds: 0.2,
    stages: { input: 0.00002, execute: 0.2, output: 0.0001 },
  });
  metrics.hooksRan("m", 0.5);
  const counts = (await lines(metrics, "worker_stage_latency_seconds_count")).map((line) =>
    line.replace(/.*stage="(\w+)"} (\d+)/, "$1 $2")
  );
  assert.deepEqual(counts, [
    "queue 2",
    "host_to_device 1",
    "execute 1",
    "device_to_host 1",
    "hooks 1",
  ]);
});

Deno.test("WorkerMetrics counts batches by compiled size, those without a batch axis as 1", async () => {
  const metrics = metricsOf();
  for (const size of [0, 1, 4, 4, 32, 4096]) {
    metrics.dispatched({
      model: "m",
      size,
      rows: 1,
      queueSeconds: [0],
      computeSeconds: 0,
      stages: { input: 0, execute: 0, output: 0 },
    });
  }
  const found = await lines(metrics, "worker_batch_size");
  const cumulative = found.map((line) =>
    line.replace(/.*(?:le="(.*)"|_(sum|count)\{.*)} /, "$1$2 ")
  );
  assert.deepEqual(cumulative, [
    "1 2",
    "2 2",
    "4 4",
    "8 4",
    "16 4",
    "32 5",
    "64 5",
    "128 5",
    "256 5",
    "512 5",
    "1024 5",
    "+Inf 6",
    `sum ${1 + 1 + 4 + 4 + 32 + 4096}`,
    "count 6",
  ]);
});

Deno.test("staged batches are counted by model and outcome, under the model's present name", async () => {
  const metrics = metricsOf();
  metrics.staged("digits", "used");
  metrics.staged("digits", "used");
  metrics.staged("digits", "discarded");
  metrics.modelsRenamed(new Map([["digits", "figures"]]));
  metrics.staged("figures", "failed");
  const found = await lines(metrics, "worker_staged_batches_total");
  assert.deepEqual(
    found,
    ["used", "discarded", "failed"].map((outcome, index) =>
      `worker_staged_batches_total{worker="w0",model="figures",outcome="${outcome}"} ${
        [2, 1, 1][index]
      }`
    ),
  );
});

Deno.test("WorkerMetrics shows what metas did and waited for, how hooks failed, and what their threads hold", async () => {
  const metrics = metricsOf();
  metrics.metaWaited("chain", "gate", 0.5);
  metrics.metaWaited("chain", "gate", 0.25);
  metrics.metaWaited("chain", "scratch", 2);
  for (const reason of ["error", "output", "error", "start"] as const) {
    metrics.hookFailed("chain", reason);
  }
  assert.deepEqual(await lines(metrics, "worker_meta_dispatches"), [
    'worker_meta_dispatches_total{worker="w0",model="chain"} 4',
  ]);
  assert.deepEqual(await lines(metrics, "worker_meta_compute"), [
    'worker_meta_compute_seconds_total{worker="w0",model="chain"} 0.5',
  ]);
  const sums = async () =>
    (await lines(metrics, "worker_")).filter((line) => /_wait_seconds_(sum|count)/.test(line));
  assert.deepEqual(await sums(), [
    'worker_meta_gate_wait_seconds_sum{worker="w0",model="chain"} 0.75',
    'worker_meta_gate_wait_seconds_count{worker="w0",model="chain"} 2',
    'worker_scratch_wait_seconds_sum{worker="w0",model="chain"} 2',
    'worker_scratch_wait_seconds_count{worker="w0",model="chain"} 1',
  ]);
  assert.deepEqual(await lines(metrics, "worker_hook_failures"), [
    'worker_hook_failures_total{worker="w0",model="chain",reason="error"} 2',
    'worker_hook_failures_total{worker="w0",model="chain",reason="output"} 1',
    'worker_hook_failures_total{worker="w0",model="chain",reason="start"} 1',
  ]);
  for (
    const line of [
      'worker_hook_threads{worker="w0",model="chain"} 2',
      'worker_hook_heap_bytes{worker="w0",model="chain"} 21000000',
      'worker_hook_external_bytes{worker="w0",model="chain"} 4096',
    ]
  ) assert.deepEqual(await lines(metrics, line.slice(0, line.indexOf("{"))), [line]);
  metrics.modelRemoved("chain");
  assert.deepEqual(await sums(), []);
  assert.deepEqual(await lines(metrics, "worker_hook_failures"), []);
});

Deno.test("WorkerMetrics shows the worker's own figures and its configuration", async () => {
  const metrics = metricsOf({ gpu: "3" });
  metrics.bundleFailed("broken");
  metrics.bundleFailed("broken");
  metrics.hookWorkerLost("text", "timeout");
  metrics.dispatchTimedOut("slow");
  const text = await metrics.text();
  for (
    const line of [
      'worker_inflight_requests{worker="w0",gpu="3"} 7',
      'worker_requests_shed_total{worker="w0",gpu="3"} 11',
      'worker_max_concurrent_requests{worker="w0",gpu="3"} 1024',
      'worker_bundle_load_failures_total{worker="w0",gpu="3",model="broken"} 2',
      'worker_hook_workers_lost_total{worker="w0",gpu="3",model="text",reason="timeout"} 1',
      'worker_dispatch_timeouts_total{worker="w0",gpu="3",model="slow"} 1',
      'worker_native_handles{worker="w0",gpu="3",kind="buffer"} 5',
      'worker_info{worker="w0",gpu="3",device_ordinal="0",control_mode="dynamic",' +
      'discipline="fair",residency_mode="self_managed"} 1',
    ]
  ) {
    assert.ok(text.includes(`\n${line}\n`), line);
  }
});

Deno.test("WorkerMetrics shows of device memory what is known", async () => {
  assert.deepEqual(await lines(metricsOf(), "worker_device_memory"), []);
  const unknown: DeviceMemoryReading = {
    inUseBytes: undefined,
    limitBytes: undefined,
    peakInUseBytes: undefined,
    poolBytes: undefined,
    processUsedBytes: undefined,
  };
  const shown = async (known: Partial<DeviceMemoryReading>) => {
    const metrics = metricsOf({ memory: { ...unknown, ...known } });
    const start = "worker_device_memory_";
    return (await lines(metrics, start)).map((line) =>
      line.slice(start.length).replace('{worker="w0"}', "")
    );
  };
  assert.deepEqual(await shown({}), []);
  const allocator = { inUseBytes: 30, limitBytes: 100, peakInUseBytes: 40 };
  const ofAllocator = [
    "in_use_bytes 30",
    "limit_bytes 100",
    "free_bytes 70",
    "peak_in_use_bytes 40",
  ];
  assert.deepEqual(await shown(allocator), ofAllocator);
  assert.deepEqual(await shown({ ...allocator, poolBytes: 100, processUsedBytes: 150 }), [
    ...ofAllocator,
    "pool_bytes 100",
    "process_used_bytes 150",
    "out_of_pool_bytes 50",
  ]);
  assert.deepEqual(await shown({ processUsedBytes: 150 }), ["process_used_bytes 150"]);
  // Neither can be less than nothing: an allocator may be over its limit, a process below it.
  assert.deepEqual(await shown({ inUseBytes: 130, limitBytes: 100, processUsedBytes: 90 }), [
    "in_use_bytes 130",
    "limit_bytes 100",
    "free_bytes 0",
    "process_used_bytes 90",
    "out_of_pool_bytes 0",
  ]);
});

Deno.test("WorkerMetrics has the readings prepared before each exposition", async () => {
  const memory = {
    inUseBytes: 0,
    limitBytes: undefined,
    peakInUseBytes: undefined,
    poolBytes: undefined,
    processUsedBytes: undefined,
  };
  const prepare = async () => {
    await Promise.resolve();
    memory.inUseBytes++;
  };
  const metrics = metricsOf({ memory, prepare });
  for (const value of [1, 2]) {
    assert.deepEqual(await lines(metrics, "worker_device_memory"), [
      `worker_device_memory_in_use_bytes{worker="w0"} ${value}`,
    ]);
  }
});

Deno.test("WorkerMetrics counts every RPC, unknown paths under one label", async () => {
  const metrics = metricsOf();
  metrics.rpcEnded("/inference.GRPCInferenceService/ModelInfer", "OK");
  metrics.rpcEnded("/inference.GRPCInferenceService/ModelInfer", "CANCELLED");
  for (const path of ["/x/Y", "/x/Z", "/", ""]) metrics.rpcEnded(path, "UNIMPLEMENTED");
  assert.deepEqual(await lines(metrics, "worker_rpcs_total"), [
    'worker_rpcs_total{worker="w0",method="ModelInfer",status="OK"} 1',
    'worker_rpcs_total{worker="w0",method="ModelInfer",status="CANCELLED"} 1',
    'worker_rpcs_total{worker="w0",method="_unknown",status="UNIMPLEMENTED"} 4',
  ]);
});

Deno.test("WorkerMetrics escapes what a model's name may hold", async () => {
  const metrics = metricsOf();
  metrics.requestEnded('a"b\\c\nd', "OK", 0);
  assert.deepEqual(await lines(metrics, "worker_requests_total"), [
    'worker_requests_total{worker="w0",model="a\\"b\\\\c\\nd",status="OK"} 1',
  ]);
});

Deno.test("WorkerMetrics declares each family once, with help and type before its samples", async () => {
  // Enough models that families are rendered in several pieces.
  const models = Array.from({ length: 150 }, (_, index) => ({ ...DIGITS, name: `m${index}` }));
  const metrics = metricsOf({ models });
  for (const { name } of models) metrics.requestEnded(name, "OK", 1);
  let family = "";
  let samples = 0;
  const seen = new Set<string>();
  for (const line of (await metrics.text()).trimEnd().split("\n")) {
    const [, kind, name] = line.match(/^# (HELP|TYPE) (\w+) \S/) ?? [];
    if (kind === "HELP") {
      assert.ok(!seen.has(name!), `${name} twice`);
      seen.add(name!);
      family = name!;
    } else if (kind === "TYPE") {
      assert.equal(name, family);
    } else {
      assert.match(line, /^[a-z][a-z0-9_]*\{[^}]*\} -?[0-9][0-9.e+-]*$/);
      assert.equal(line.split("{")[0]!.replace(/_(bucket|sum|count)$/, ""), family);
      samples++;
    }
  }
  assert.ok(samples > 150 * (1 + 17 + 7), `${samples}`);
});

Deno.test("the process series agree with the operating system", async () => {
  const metrics = metricsOf();
  const value = async (start: string) =>
    Number((await lines(metrics, start))[0]!.split(" ").at(-1));
  // The two looks are not at one moment, and a collection may come between.
  const apart: number[] = [];
  do {
    const resident = await value("process_resident_memory_bytes");
    const reported = Deno.memoryUsage().rss;
    apart.push(Math.abs(resident - reported) / reported);
  } while (apart.at(-1)! >= 0.2 && apart.length < 10);
  assert.ok(apart.at(-1)! < 0.2, `resident memory is off by ${apart.join(", ")}`);
  const started = await value("process_start_time_seconds");
  const now = Date.now() / 1000;
  assert.ok(started < now && now - started < 24 * 3600, `${started}`);
  assert.ok(await value('process_cpu_seconds_total{worker="w0",mode="user"}') > 0);
  const before = await value("process_open_fds");
  using _file = Deno.openSync("/dev/null");
  assert.equal(await value("process_open_fds"), before + 1);
  for (
    const name of ["rchar_bytes", "wchar_bytes", "syscr", "syscw", "read_bytes", "write_bytes"]
  ) {
    assert.ok(await value(`process_io_${name}_total`) >= 0, name);
  }
  assert.ok(await value("v8_heap_used_bytes") < await value("v8_heap_limit_bytes"));
});

Deno.test("gpuLabel() names the physical device behind CUDA_VISIBLE_DEVICES", () => {
  assert.equal(gpuLabel("GPU-8a2f", 0), "GPU-8a2f");
  assert.equal(gpuLabel("2,3", 1), "3");
  assert.equal(gpuLabel("2, 3", 5), "");
  assert.equal(gpuLabel("", 1), "1");
  assert.equal(gpuLabel(undefined, 2), "2");
});

Deno.test("WorkerMetrics shows the executable cache where there is one", async () => {
  assert.deepEqual(await lines(metricsOf(), "worker_executable_cache"), []);
  const cache = { hits: 3, misses: 2, errors: { damaged: 1, unwritten: 4 }, bytes: 4096 };
  assert.deepEqual(await lines(metricsOf({ cache }), "worker_executable_cache"), [
    'worker_executable_cache_hits_total{worker="w0"} 3',
    'worker_executable_cache_misses_total{worker="w0"} 2',
    'worker_executable_cache_bytes{worker="w0"} 4096',
    'worker_executable_cache_errors_total{worker="w0",problem="damaged"} 1',
    'worker_executable_cache_errors_total{worker="w0",problem="unwritten"} 4',
  ]);
});

Deno.test("WorkerMetrics shows weights that come and go where they do", async () => {
  assert.deepEqual(await lines(metricsOf(), "worker_weight"), []);
  const weights: WeightReading = {
    residentBytes: 1,
    maxBytes: 2,
    pinnedBytes: 3,
    maxScratchBytes: 4,
    poolBytes: 5,
    loads: 6,
    loadedBytes: 7,
    loadSeconds: 8.5,
    evictions: 9,
    compactions: 10,
  };
  assert.deepEqual(await lines(metricsOf({ weights }), "worker_weight"), [
    'worker_weight_cache_resident_bytes{worker="w0"} 1',
    'worker_weight_cache_max_bytes{worker="w0"} 2',
    'worker_weight_cache_pinned_bytes{worker="w0"} 3',
    'worker_weight_cache_max_scratch_bytes{worker="w0"} 4',
    'worker_weight_pool_bytes{worker="w0"} 5',
    'worker_weight_loads_total{worker="w0"} 6',
    'worker_weight_load_bytes_total{worker="w0"} 7',
    'worker_weight_load_seconds_total{worker="w0"} 8.5',
    'worker_weight_evicts_total{worker="w0"} 9',
    'worker_weight_compactions_total{worker="w0"} 10',
  ]);
});

Deno.test("series of renamed models go with them, also when two change places", async () => {
  const metrics = metricsOf();
  for (const [model, count] of [["a", 1], ["b", 2], ["c", 3], ["d", 4]] as const) {
    for (let i = 0; i < count; i++) metrics.requestEnded(model, "OK", 0.001);
  }
  metrics.modelsRenamed(new Map([["a", "b"], ["b", "a"], ["c", "d"]]));
  metrics.requestEnded("b", "OK", 0.001);
  const read = async () =>
    [...(await metrics.text()).matchAll(/^worker_requests_total{.*model="(\w)".*} (\d+)$/gm)]
      .map(([, model, value]) => `${model}=${value}`).toSorted();
  assert.deepEqual(await read(), ["a=2", "b=2", "d=3"]);
  metrics.modelRemoved("b");
  assert.deepEqual(await read(), ["a=2", "d=3"]);
  metrics.requestEnded("b", "OK", 0.001);
  assert.deepEqual(await read(), ["a=2", "b=1", "d=3"]);
});

Deno.test("worker_model_update_failed is 1 for whatever serves an older version", async () => {
  const text = await metricsOf({ models: [DIGITS], failedUpdates: ["meta"] }).text();
  const values = [...text.matchAll(/^worker_model_update_failed{.*model="([^"]+)".*} (\d)$/gm)]
    .map(([, model, value]) => [model, value]);
  assert.deepEqual(values, [[DIGITS.name, "0"], ["meta", "1"]]);
});
