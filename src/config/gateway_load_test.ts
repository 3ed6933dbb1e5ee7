import assert from "node:assert/strict";
import { ConfigError } from "../errors.ts";
import { GATEWAY_KEYS } from "./gateway_config.ts";
import { loadGatewayConfig, resolveGatewayConfig } from "./gateway_load.ts";

const ONE = "endpoints: [a:1]\n";

function load(text: string, environment: Record<string, string> = {}) {
  return resolveGatewayConfig({ file: { name: "gateway.yml", text }, environment });
}

function refuses(text: string, ...expected: RegExp[]): void {
  assert.throws(() => load(text), (error) => {
    assert.ok(error instanceof ConfigError, `expected a ConfigError, got ${error}`);
    for (const pattern of expected) assert.match(error.message, pattern);
    return true;
  });
}

Deno.test("resolveGatewayConfig() has the documented defaults", () => {
  const { config, warnings } = load(ONE);
  assert.deepEqual(warnings, []);
  assert.deepEqual(config, {
    listen: { grpc: "0.0.0.0:8001", metrics: "0.0.0.0:8002", shutdownGraceSeconds: 10 },
    endpoints: ["a:1"],
    metricsEndpoints: [],
    workerNames: [],
    grpc: {
      maxRecvMsgBytes: 536870912,
      maxSendMsgBytes: 536870912,
      maxConcurrentRequestsPerWorker: 64,
    },
    workerClient: {
      requestTimeoutSeconds: 60,
      maxConcurrentStreams: 32,
      tls: { enabled: false, caFile: "", serverName: "" },
    },
    discovery: {
      healthIntervalSeconds: 10,
      startupWaitSeconds: 0,
      wedgeExitRounds: 3,
      membershipIntervalSeconds: 5,
    },
    logging: { level: "info", format: "json" },
    tls: { certFile: "", keyFile: "", clientCaFile: "" },
    scheduling: {
      mode: "round_robin",
      workBasis: "compute",
      rebalanceComputeSeconds: 300,
      firstRebalanceComputeSeconds: 60,
      emaHalflifeComputeSeconds: 0,
      hysteresis: 0,
      maxWorkerShare: 0.8,
      defaultReplicas: 1,
      routingFillFactor: 1,
      routingPolicy: "fill_least",
      routingFillMode: "run",
      forbidMemoryOversubscription: true,
      compactionMode: "eager",
      compactionInterval: 1,
      models: new Map(),
    },
  });
});

Deno.test("every documented variable is that of a key, and beats the file", () => {
  const documented = [
    "LISTEN_GRPC",
    "LISTEN_METRICS",
    "WORKERS",
    "WORKER_METRICS",
    "WORKER_NAMES",
    "GRPC_MAX_RECV_MSG_BYTES",
    "GRPC_MAX_SEND_MSG_BYTES",
    "GRPC_MAX_CONCURRENT_REQUESTS_PER_WORKER",
    "WORKER_CLIENT_REQUEST_TIMEOUT_SECONDS",
    "WORKER_CLIENT_MAX_CONCURRENT_STREAMS",
    "LOGGING_LEVEL",
    "LOGGING_FORMAT",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
    "TLS_CLIENT_CA_FILE",
    "SCHEDULING_MODE",
    "SCHEDULING_WORK_BASIS",
    "SCHEDULING_REBALANCE_COMPUTE_SECONDS",
    "SCHEDULING_FIRST_REBALANCE_COMPUTE_SECONDS",
    "SCHEDULING_EMA_HALFLIFE_COMPUTE_SECONDS",
    "SCHEDULING_HYSTERESIS",
    "SCHEDULING_MAX_WORKER_SHARE",
    "SCHEDULING_DEFAULT_REPLICAS",
    "SCHEDULING_ROUTING_FILL_FACTOR",
    "SCHEDULING_ROUTING_POLICY",
    "SCHEDULING_ROUTING_FILL_MODE",
    "SCHEDULING_FORBID_MEMORY_OVERSUBSCRIPTION",
    "SCHEDULING_COMPACTION_MODE",
    "SCHEDULING_COMPACTION_INTERVAL",
    "STARTUP_WAIT_SECONDS",
    "HEALTH_INTERVAL_SECONDS",
    "WEDGE_EXIT_ROUNDS",
  ];
  const known = GATEWAY_KEYS.map(({ variable }) => variable);
  for (const suffix of documented) {
    assert.ok(known.includes(`REACTANT_GATEWAY_${suffix}`), `REACTANT_GATEWAY_${suffix}`);
  }
  assert.equal(new Set(GATEWAY_KEYS.map(({ flag }) => flag)).size, GATEWAY_KEYS.length);
  const { config } = load("endpoints: [a:1]\nscheduling: {mode: lpt_packing, hysteresis: 0.1}", {
    REACTANT_GATEWAY_WORKERS: " b:2 ,c:3,",
    REACTANT_GATEWAY_SCHEDULING_MODE: " Least_Outstanding",
    REACTANT_GATEWAY_SCHEDULING_DEFAULT_REPLICAS: "all",
    REACTANT_GATEWAY_LISTEN_GRPC: "",
  });
  assert.deepEqual(config.endpoints, ["b:2", "c:3"]);
  assert.equal(config.scheduling.mode, "least_outstanding");
  assert.equal(config.scheduling.hysteresis, 0.1);
  assert.equal(config.scheduling.defaultReplicas, "all");
  assert.equal(config.listen.grpc, "0.0.0.0:8001");
});

Deno.test("a flag beats the variable and is named in messages", () => {
  const flags = new Map([["gateway-workers", ["x:1", "y:2"]]]);
  const environment = { REACTANT_GATEWAY_WORKERS: "b:2" };
  const { config, origins } = resolveGatewayConfig({ flags, environment });
  assert.deepEqual(config.endpoints, ["x:1", "y:2"]);
  assert.equal(origins.get("endpoints")?.name, "--gateway-workers");
  const bad = new Map([["gateway-listen-grpc", ["nonsense"]]]);
  assert.throws(
    () => resolveGatewayConfig({ flags: bad, environment }),
    /--gateway-listen-grpc must be host:port .*got "nonsense"/,
  );
});

Deno.test("of a list of workers, the one that cannot be read is named", () => {
  const workers = `${Array.from({ length: 20 }, (_, n) => `10.0.0.${n}:9000`).join(",")},bad host`;
  assert.throws(
    () => resolveGatewayConfig({ environment: { REACTANT_GATEWAY_WORKERS: workers } }),
    /REACTANT_GATEWAY_WORKERS must be a list of host:port.*, got "bad host" in it$/,
  );
  refuses("endpoints: ['a:1', 'b:x']", /endpoints must be a list.*got "b:x" in it/);
});

Deno.test("unknown keys are refused at every depth, with the nearest name", () => {
  refuses("endpont: [a:1]", /gateway\.yml: unknown key endpont; did you mean endpoints\?/);
  refuses(`${ONE}listen: {gprc: "a:1"}`, /unknown key listen\.gprc; did you mean grpc\?/);
  refuses(`${ONE}worker_client: {tls: {on: true}}`, /unknown key worker_client\.tls\.on/);
  refuses(
    `${ONE}scheduling: {models: {m: {replica: 2}}}`,
    /unknown key scheduling\.models\.m\.replica; did you mean replicas\?/,
  );
  refuses(`${ONE}listen: 3`, /listen must be a mapping, got 3/);
  refuses("- a", /must hold a mapping/);
});

Deno.test("values out of bounds are refused, naming key, value and what is expected", () => {
  refuses("{}", /endpoints must name at least one worker/);
  refuses("endpoints: [a]", /endpoints must be a list of host:port/);
  refuses("endpoints: ['a:0']", /endpoints must be/);
  refuses("endpoints: ['file:x']", /endpoints must be/);
  refuses("endpoints: ['dns:x']", /endpoints must be/);
  refuses(`${ONE}listen: {grpc: "a:70000"}`, /listen\.grpc must be host:port.*"a:70000"/);
  refuses(`${ONE}listen: {grpc: "a:5", metrics: "a:5"}`, /listen\.metrics must differ/);
  refuses(`${ONE}grpc: {max_recv_msg_bytes: 0}`, /max_recv_msg_bytes must be an integer from 1 to/);
  refuses(`${ONE}grpc: {max_recv_msg_bytes: "5"}`, /must be an integer.*got "5"/);
  refuses(`${ONE}worker_client: {max_concurrent_streams: 0}`, /max_concurrent_streams must be/);
  refuses(`${ONE}worker_client: {request_timeout_seconds: -1}`, /request_timeout_seconds must be/);
  refuses(`${ONE}scheduling: {mode: fastest}`, /mode must be one of round_robin, /);
  refuses(`${ONE}scheduling: {hysteresis: 1}`, /hysteresis must be .*got 1/);
  refuses(`${ONE}scheduling: {rebalance_compute_seconds: 0}`, /must be a number above 0, got 0/);
  refuses(`${ONE}scheduling: {default_replicas: 0}`, /integer of at least 1, or all, got 0/);
  refuses(`${ONE}scheduling: {forbid_memory_oversubscription: "yes"}`, /true or false, got "yes"/);
  refuses(
    `${ONE}scheduling: {routing_policy: least_outstanding}`,
    /is now a mode of its own; set scheduling\.mode/,
  );
  refuses(`${ONE}scheduling: {models: {m: {fill_factor: 0}}}`, /models\.m\.fill_factor must be/);
  refuses(`${ONE}tls: {cert_file: c}`, /tls\.cert_file is given without tls\.key_file/);
  refuses(`${ONE}tls: {client_ca_file: c}`, /client_ca_file needs tls\.cert_file/);
  refuses(`${ONE}worker_client: {tls: {ca_file: c}}`, /has no effect without .*enabled/);
  assert.throws(
    () => loadGatewayConfig({ environment: {}, gatewayFile: "/nowhere/gateway.yml" }),
    /Gateway file "\/nowhere\/gateway\.yml" does not exist/,
  );
});

Deno.test("per-model blocks leave out what they inherit", () => {
  const { config } = load(`${ONE}scheduling:
  models:
    a: {replicas: all, fill_mode: Spread, fill_factor: 2}
    b: {fill_mode: inherit, fill_factor: inherit}
    c: {replicas: 3}`);
  assert.deepEqual([...config.scheduling.models], [
    ["a", { replicas: "all", fillMode: "spread", fillFactor: 2 }],
    ["b", { replicas: undefined, fillMode: undefined, fillFactor: undefined }],
    ["c", { replicas: 3, fillMode: undefined, fillFactor: undefined }],
  ]);
});

Deno.test("duplicates, quirks and settings without effect are taken, with a warning", () => {
  const duplicates = load("endpoints: [a:1, b:2, a:1]\nworker_names: [x, y, z]");
  assert.deepEqual(duplicates.config.endpoints, ["a:1", "b:2"]);
  assert.deepEqual(duplicates.config.workerNames, ["x", "y"]);
  assert.match(duplicates.warnings.join(), /endpoints name a:1 more than once/);
  const warned = (text: string, environment: Record<string, string>, pattern: RegExp) =>
    assert.match(load(text, environment).warnings.join("\n"), pattern);
  warned(ONE, { REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "soon" }, /10 is used instead/);
  warned(ONE, { REACTANT_GATEWAY_WORKER: "a:1" }, /did you mean REACTANT_GATEWAY_WORKERS\?/);
  warned(`${ONE}scheduling: {max_worker_share: 0.5}`, {}, /max_worker_share is accepted/);
  warned(`${ONE}grpc: {max_concurrent_requests_per_worker: 8}`, {}, /not above/);
  warned(`${ONE}scheduling: {mode: lpt_packing, routing_fill_mode: inflight}`, {}, /prefer run/);
});

Deno.test("the start-up wait may be endless, in words and in numbers", () => {
  const wait = (text: string) =>
    load(ONE, { REACTANT_GATEWAY_STARTUP_WAIT_SECONDS: text }).config.discovery.startupWaitSeconds;
  for (const text of ["inf", "forever", "-1", " INF "]) assert.equal(wait(text), Infinity);
  assert.equal(wait("90"), 90);
  assert.equal(wait("a while"), 0);
});
