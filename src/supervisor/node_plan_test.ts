import assert from "node:assert/strict";
import { type NodeInputs, planNode } from "./node_plan.ts";
import { overlapWarnings, publicAddress } from "./ports.ts";

/** A machine with files, variables and flags, on which nothing is started. */
class Machine implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "plan-" });
  written = "";

  file(name: string, text: string): string {
    Deno.writeTextFileSync(`${this.folder}/${name}`, text);
    return `${this.folder}/${name}`;
  }

  plan(
    { flags = {}, environment = {}, devices = [], ...rest }: {
      flags?: Record<string, string>;
      environment?: Record<string, string>;
      devices?: string[];
    } & Partial<Omit<NodeInputs, "flags" | "environment">> = {},
  ) {
    return planNode({
      flags: new Map(Object.entries(flags).map(([name, value]) => [name, [value]])),
      environment,
      probes: {
        queryDriver: () => Promise.resolve(devices),
        listDeviceFiles: () => Promise.resolve([]),
      },
      limits: { processors: [0, 1, 2, 3, 4, 5, 6, 7], quota: undefined },
      writeNodeFile: (text) => {
        this.written = text;
        return "/run/x/node.yaml";
      },
      standardNodeFile: `${this.folder}/none`,
      standardGatewayFile: `${this.folder}/none`,
      isDryRun: true,
      ...rest,
    });
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}

const BASE = "model_repo: /bundles\nbase_port: 8080\nmetrics_base_port: 9100\n";

Deno.test("planNode() gives several workers a device and ports each, and a gateway in front", async () => {
  using machine = new Machine();
  const node = machine.file("node.yaml", `${BASE}global: {runtime: {backend: cuda}}\n`);
  const plan = await machine.plan({
    flags: { "node-file": node, "max-queue-depth": "7" },
    environment: {
      INFERENCE_SERVER_ENDPOINTS_PORT: "8080",
      INFERENCE_SERVER_RUNTIME_DEVICE_ORDINAL: "1",
      REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "2",
    },
    devices: ["0", "1"],
  });
  assert.deepEqual(plan.workers.map(({ name, device, threads }) => [name, device, threads]), [
    ["worker0", "0", 4],
    ["worker1", "1", 4],
  ]);
  const [first, second] = plan.workers;
  assert.deepEqual(second!.environment, {
    REACTANT_WORKER_NAME: "worker1",
    CUDA_VISIBLE_DEVICES: "1",
    INFERENCE_SERVER_RUNTIME_DEVICE_ORDINAL: "0",
    INFERENCE_SERVER_ENDPOINTS_PORT: "8081",
    INFERENCE_SERVER_ENDPOINTS_METRICS_PORT: "9101",
  });
  assert.deepEqual(first!.args, [
    "serve",
    "--role=worker",
    "--node-file=/run/x/node.yaml",
    "--max-queue-depth=7",
    "--worker-threads=4",
    "--worker-cores=0-3",
  ]);
  assert.equal(second!.loaded.config.runtime.workerCores, "4-7");
  assert.deepEqual(plan.gateway!.environment, {
    REACTANT_GATEWAY_STARTUP_WAIT_SECONDS: "inf",
    REACTANT_GATEWAY_WORKERS: "127.0.0.1:8080,127.0.0.1:8081",
    REACTANT_GATEWAY_WORKER_METRICS: "127.0.0.1:9100,127.0.0.1:9101",
    REACTANT_GATEWAY_WORKER_NAMES: "worker0,worker1",
    REACTANT_GATEWAY_LOGGING_LEVEL: "info",
    REACTANT_GATEWAY_LOGGING_FORMAT: "text",
  });
  assert.deepEqual(plan.gateway!.args, ["serve", "--role=gateway-process"]);
  const notes = plan.notes.map(({ text }) => text);
  assert.equal(notes.at(-1), "role all: worker0, worker1, gateway");
  assert.ok(notes.some((note) => /its own copy of the weights/.test(note)));
  assert.ok(notes.includes("4 threads per worker (8 CPUs, 2 workers)"));
  assert.ok(notes.some((note) => /INFERENCE_SERVER_ENDPOINTS_PORT has no effect/.test(note)));
  assert.ok(!notes.some((note) => /written to/.test(note)), "nothing is written to be looked at");
});

Deno.test("planNode() gives a lone worker the public ports", async () => {
  using machine = new Machine();
  const node = machine.file("node.yaml", BASE);
  const endpoints = async (
    environment: Record<string, string> = {},
    flags: Record<string, string> = {},
  ) => {
    const plan = await machine.plan({ flags: { "node-file": node, ...flags }, environment });
    assert.equal(plan.gateway, undefined);
    const { host, port, metricsPort } = plan.workers[0]!.loaded.config.endpoints;
    return `${host} ${port} ${metricsPort}`;
  };
  assert.equal(await endpoints(), "0.0.0.0 8001 8002");
  const listen = { REACTANT_GATEWAY_LISTEN_GRPC: "10.0.0.1:7001" };
  assert.equal(await endpoints(listen), "10.0.0.1 7001 8002");
  assert.equal(await endpoints({ REACTANT_GATEWAY_LISTEN_GRPC: "what" }), "0.0.0.0 8001 8002");
  assert.equal(await endpoints({ INFERENCE_SERVER_ENDPOINTS_PORT: "5" }), "0.0.0.0 8001 8002");
  assert.equal(
    await endpoints({ INFERENCE_SERVER_ENDPOINTS_HOST: "127.0.0.1" }, {
      port: "6",
      "metrics-port": "7",
    }),
    "127.0.0.1 6 7",
  );
});

Deno.test("planNode() keeps a lone worker on its own ports in role workers", async () => {
  using machine = new Machine();
  const node = machine.file("node.yaml", `${BASE}role: workers\n`);
  const plan = await machine.plan({ flags: { "node-file": node } });
  assert.equal(plan.role, "workers");
  const { port, metricsPort } = plan.workers[0]!.loaded.config.endpoints;
  assert.deepEqual([port, metricsPort], [8080, 9100]);
  await assert.rejects(
    machine.plan({ flags: { "node-file": node, port: "1", "cpu-workers": "2" } }),
    /--port cannot be the port of 2 workers; set base_port/,
  );
});

Deno.test("planNode() serves a folder without a node file, on the loopback interface", async () => {
  using machine = new Machine();
  const lone = await machine.plan({ flags: { "model-dir": machine.folder } });
  const { config } = lone.workers[0]!.loaded;
  assert.deepEqual(
    [config.endpoints.host, config.endpoints.port, config.endpoints.metricsPort, config.modelDirs],
    ["127.0.0.1", 8001, 8002, [machine.folder]],
  );
  assert.match(lone.notes[0]!.text, /^no node file: serving .* \(cpu\)$/);
  const moved = await machine.plan({
    environment: { INFERENCE_SERVER_ENDPOINTS_PORT: "9", INFERENCE_SERVER_MODEL_DIRS: "/a:/b" },
  });
  assert.equal(moved.workers[0]!.loaded.config.endpoints.port, 9);
  assert.deepEqual(moved.workers[0]!.loaded.config.modelDirs, ["/a", "/b"]);

  const three = await machine.plan({
    environment: { REACTANT_GPUS: "0", REACTANT_CPU_WORKERS: "3" },
    flags: { "model-dir": machine.folder, port: "5001" },
  });
  assert.equal(three.workers.length, 3);
  assert.deepEqual(three.gateway!.config.listen.grpc, "127.0.0.1:5001");
  assert.deepEqual(three.gateway!.config.listen.metrics, "127.0.0.1:8002");
  assert.ok(three.workers.every(({ environment }) => environment["CUDA_VISIBLE_DEVICES"] === ""));
  assert.ok(!three.workers[0]!.args.includes("--port=5001"));
  // Devices that were merely found are no use to the CPU backend; devices that were named are taken.
  const found = await machine.plan({
    flags: { "model-dir": machine.folder, backend: "cpu" },
    devices: ["0", "1"],
  });
  assert.equal(found.workers.length, 1);
  const named = await machine.plan({
    flags: { "model-dir": machine.folder, backend: "cpu", gpus: "2" },
  });
  assert.deepEqual(named.workers.map(({ device }) => device), ["0", "1"]);
});

Deno.test("planNode() says what to do when there is nothing to serve or no device", async () => {
  using machine = new Machine();
  const node = machine.file(
    "node.yaml",
    `${BASE.replace("/bundles", machine.folder)}global: {runtime: {backend: cuda}}\n`,
  );
  await assert.rejects(
    machine.plan({ flags: { "node-file": node }, isDryRun: false }),
    /no device for worker0.*GPUs \(--gpus all\), name them with REACTANT_GPUS, or set runtime\.backend to cpu/,
  );
  for (
    const [environment, message] of [
      [
        { REACTANT_CPU_WORKERS: "0" },
        /REACTANT_CPU_WORKERS must be an integer from 1 to 1024, got "0"/,
      ],
      [{ REACTANT_SUPERVISOR_MAX_RESTARTS: "x" }, /REACTANT_SUPERVISOR_MAX_RESTARTS must be/],
      [{ REACTANT_ROLE: "boss" }, /REACTANT_ROLE must be one of/],
      [{ REACTANT_GPUS: "" }, /REACTANT_GPUS must be a count/],
    ] as const
  ) {
    await assert.rejects(machine.plan({ environment, flags: { "node-file": node } }), message);
  }
});

Deno.test("planNode() leaves the gateway's lists to its own file", async () => {
  using machine = new Machine();
  const node = machine.file("node.yaml", `${BASE}workers: [{name: a}, {name: b}]\n`);
  const file = machine.file(
    "gateway.yml",
    "listen: {grpc: '127.0.0.1:8081', metrics: '127.0.0.1:1'}\nendpoints: ['127.0.0.1:8080']\n",
  );
  const plan = await machine.plan({
    flags: { "node-file": node },
    environment: { REACTANT_GATEWAY_FILE: file, REACTANT_GATEWAY_STARTUP_WAIT_SECONDS: "5" },
  });
  assert.deepEqual(plan.gateway!.environment, {});
  assert.deepEqual(plan.gateway!.config.endpoints, ["127.0.0.1:8080"]);
  assert.ok(plan.gateway!.args.includes(`--gateway-file=${file}`));
  assert.ok(
    plan.notes.some(({ level, text }) =>
      level === "warn" &&
      /port 8081 is wanted by both b \(gRPC\) and the gateway \(gRPC\)/.test(text)
    ),
  );
  await assert.rejects(
    machine.plan({ flags: { "node-file": node, "gateway-file": "/nowhere.yml" } }),
    /"\/nowhere\.yml" does not exist/,
  );
});

Deno.test("planNode() in role gateway looks at neither devices nor the node file", async () => {
  using machine = new Machine();
  const plan = await machine.plan({
    flags: { role: "gateway", "node-file": "/nowhere.yaml" },
    environment: { REACTANT_GATEWAY_WORKERS: "10.0.0.1:8080" },
    probes: {
      queryDriver: () => Promise.reject(new Error("looked")),
      listDeviceFiles: () => Promise.reject(new Error("looked")),
    },
  });
  assert.deepEqual([plan.workers.length, plan.gateway!.config.endpoints], [0, ["10.0.0.1:8080"]]);
  assert.deepEqual(plan.gateway!.environment, { REACTANT_GATEWAY_STARTUP_WAIT_SECONDS: "inf" });
  await assert.rejects(machine.plan({ flags: { role: "gateway" } }), /at least one worker/);
});

Deno.test("planNode() lets a thread count replace the share, and children drain as long as they may", async () => {
  using machine = new Machine();
  const node = machine.file(
    "node.yaml",
    `${BASE}workers: [{name: a, runtime: {worker_threads: 2}}, {name: b}]\n` +
      "global: {endpoints: {shutdown_grace_seconds: 40}}\n",
  );
  const plan = await machine.plan({ flags: { "node-file": node } });
  assert.deepEqual(plan.workers.map(({ threads }) => threads), [2, 4]);
  assert.equal(plan.stopSeconds, 45);
  const forced = await machine.plan({
    flags: { "node-file": node },
    environment: { REACTANT_WORKER_THREADS: "12" },
  });
  assert.deepEqual(forced.workers.map(({ threads }) => threads), [12, 12]);
  const quota = await machine.plan({
    flags: { "node-file": node },
    limits: { processors: [0, 1, 2, 3], quota: 2 },
  });
  assert.equal(quota.workers[1]!.threads, 1);
});

Deno.test("publicAddress() and overlapWarnings() know the public ports", () => {
  assert.deepEqual(publicAddress("metrics", {}), {
    host: undefined,
    port: 8002,
    unreadable: undefined,
  });
  const given = { REACTANT_GATEWAY_LISTEN_METRICS: "[::1]:9" };
  assert.deepEqual(publicAddress("metrics", given), {
    host: "::1",
    port: 9,
    unreadable: undefined,
  });
  const claim = (port: number, who: string) => ({ host: "127.0.0.1", port, who });
  assert.deepEqual(overlapWarnings([claim(1, "a"), claim(2, "b")], [claim(3, "g")]), []);
  assert.equal(overlapWarnings([claim(1, "a"), claim(2, "b")], [claim(2, "g")]).length, 1);
});
