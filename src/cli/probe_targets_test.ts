import assert from "node:assert/strict";
import { findProbeTargets } from "./probe_targets.ts";

const NODE = "model_repo: /bundles\nbase_port: 8080\nmetrics_base_port: 9100\n" +
  "workers: [{name: a}, {name: b, port: 7000}]\nglobal: {endpoints: {host: 0.0.0.0}}\n";

interface Given {
  readonly flags?: Record<string, string>;
  readonly environment?: Record<string, string>;
  /** The file a running supervisor wrote. */
  readonly written?: string;
  readonly gateway?: string;
}

function targets({ flags = {}, environment = {}, written, gateway }: Given): string[] {
  const folder = Deno.makeTempDirSync({ prefix: "probe-" });
  try {
    if (written !== undefined) Deno.writeTextFileSync(`${folder}/node.yaml`, written);
    if (gateway !== undefined) Deno.writeTextFileSync(`${folder}/gateway.yml`, gateway);
    return findProbeTargets({
      flags: new Map(Object.entries(flags).map(([name, value]) => [name, [value]])),
      environment,
      standardFolder: folder,
      standardNodeFile: `${folder}/none.yaml`,
      standardGatewayFile: `${folder}/gateway.yml`,
    }).map(({ kind, url }) => `${kind} ${url}`);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("findProbeTargets() asks the public HTTP port, wherever it was moved", () => {
  assert.deepEqual(targets({}), ["http http://127.0.0.1:8002/readyz"]);
  assert.deepEqual(targets({ written: NODE }), ["http http://127.0.0.1:8002/readyz"]);
  const port = { REACTANT_GATEWAY_METRICS_PORT: "9" };
  assert.deepEqual(targets({ written: NODE, environment: port }), [
    "http http://127.0.0.1:9/readyz",
  ]);
  const listen = { REACTANT_GATEWAY_LISTEN_METRICS: "0.0.0.0:10" };
  assert.deepEqual(targets({ environment: listen }), ["http http://127.0.0.1:10/readyz"]);
  assert.deepEqual(targets({ environment: { ...listen, ...port } }), [
    "http http://127.0.0.1:9/readyz",
  ]);
  const other = { REACTANT_GATEWAY_LISTEN_METRICS: "[fd00::1]:10" };
  assert.deepEqual(targets({ environment: other }), ["http http://[fd00::1]:10/readyz"]);
  assert.deepEqual(targets({ gateway: "listen: {metrics: '0.0.0.0:11'}\n" }), [
    "http http://127.0.0.1:11/readyz",
  ]);
  assert.deepEqual(targets({ environment: { INFERENCE_SERVER_ENDPOINTS_METRICS_PORT: "12" } }), [
    "http http://127.0.0.1:12/readyz",
  ]);
  assert.throws(() => targets({ environment: { REACTANT_GATEWAY_METRICS_PORT: "x" } }), /a port/);
});

Deno.test("findProbeTargets() does not care what is in the node file of a gateway", () => {
  const [written, expected] = ["role: nonsense\n", ["http http://127.0.0.1:8002/readyz"]];
  assert.deepEqual(targets({ written, environment: { REACTANT_ROLE: "gateway" } }), expected);
  assert.deepEqual(targets({ written, flags: { role: "gateway" } }), expected);
  assert.throws(() => targets({ written }), /nonsense/);
});

Deno.test("findProbeTargets() asks every worker in role workers, whoever names the role", () => {
  const both = ["grpc 127.0.0.1:8080", "grpc 127.0.0.1:7000"];
  assert.deepEqual(targets({ written: `${NODE}role: workers\n` }), both);
  assert.deepEqual(targets({ written: NODE, environment: { REACTANT_ROLE: " Workers" } }), both);
  assert.deepEqual(targets({ written: NODE, flags: { role: "workers" } }), both);
  const elsewhere = { REACTANT_ROLE: "workers", INFERENCE_SERVER_ENDPOINTS_PORT: "1" };
  assert.deepEqual(targets({ written: NODE, environment: elsewhere }), both);
});

Deno.test("findProbeTargets() asks the worker that is named", () => {
  const folder = Deno.makeTempDirSync({ prefix: "probe-" });
  try {
    const file = `${folder}/given.yaml`;
    Deno.writeTextFileSync(file, NODE);
    const environment = { REACTANT_NODE_FILE: file, REACTANT_WORKER_NAME: "b" };
    assert.deepEqual(targets({ environment }), ["grpc 127.0.0.1:7000"]);
    assert.throws(
      () => targets({ environment: { ...environment, REACTANT_WORKER_NAME: "c" } }),
      /no worker "c"; the workers are a, b/,
    );
    const tls = NODE.replace("host: 0.0.0.0", "tls_cert: c.pem, tls_key: k.pem");
    assert.deepEqual(targets({ written: tls, flags: { role: "workers" } }), [
      "http http://127.0.0.1:9100/readyz",
      "http http://127.0.0.1:9101/readyz",
    ]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
