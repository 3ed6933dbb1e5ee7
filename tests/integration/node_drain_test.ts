/** The end of a whole node while requests are in progress, and its start where a port is not free yet. */

import assert from "node:assert/strict";
import { isAddressInUse } from "../../src/busy_address.ts";
import { serveGrpc } from "../../src/transport/mod.ts";
import {
  denseBundle,
  float32Bytes,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { connect, type TestClient } from "../harness/client.ts";
import { writeHolding } from "../harness/holding_bundle.ts";
import { isAlive, startNode } from "../harness/node.ts";
import { until } from "../harness/until.ts";

const REQUESTS = 12;

/** How many outputs the answer has. */
async function infer(client: TestClient, modelName: string): Promise<number> {
  const inputs = [
    { name: "x", datatype: "FP32" as const, shape: [1, 3], data: float32Bytes([1, 0, 0]) },
  ];
  const deadlineMs = performance.now() + 600_000;
  const { outputs } = await client.inference.infer({ modelName, inputs }, { deadlineMs });
  return [...outputs].length;
}

/** The value of a series without labels. */
async function reading(httpPort: number, family: string): Promise<number> {
  const page = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  return Number(new RegExp(`^${family} (\\S+)$`, "m").exec(page)?.[1] ?? NaN);
}

Deno.test("SIGTERM to a node answers every request it has taken, the gateway first", async () => {
  await using folder = await temporaryDirectory();
  const held = await writeHolding(folder.path, "waits", "requests");
  await using node = startNode({
    modelRepo: folder.path,
    workers: 2,
    env: {
      INFERENCE_SERVER_MODEL_CONTROL_MODE: "static",
      INFERENCE_SERVER_HOOKS_CALL_TIMEOUT_SECONDS: "3600",
      INFERENCE_SERVER_ENDPOINTS_SHUTDOWN_GRACE_SECONDS: "600",
      REACTANT_GATEWAY_LISTEN_SHUTDOWN_GRACE_SECONDS: "600",
    },
  });
  for (const name of ["worker0", "worker1", "gateway"]) {
    await node.waitForLine(new RegExp(`^\\[supervisor\\] ${name} is ready`));
  }
  await using client = connect(node);
  const answers = Array.from({ length: REQUESTS }, () => infer(client, "waits"));
  const settled = Promise.allSettled(answers);
  await until(
    async () => await reading(node.httpPort, "gateway_inflight_requests") === REQUESTS,
    "all requests have arrived",
  );

  const before = node.lines.length;
  node.kill("SIGTERM");
  await node.waitForLine(/^\[gateway\] .*\bstopping\b/, before);
  // Whoever comes now finds nobody; that is no answer to a request that was taken.
  await using late = connect(node);
  await assert.rejects(late.inference.serverReady({ deadlineMs: performance.now() + 2000 }));
  held.release();
  for (const [index, answer] of (await settled).entries()) {
    assert.equal(answer.status, "fulfilled", `request ${index}: ${JSON.stringify(answer)}`);
  }
  assert.equal((await node.exited).code, 0);
  const said = node.lines.slice(before);
  const at = (pattern: RegExp) => said.findIndex((line) => pattern.test(line));
  for (const name of ["worker0", "worker1"]) {
    const stopping = at(new RegExp(`^\\[${name}\\] .*\\bstopping\\b`));
    assert.ok(stopping > at(/^\[gateway\] .*\bstopped\b/), `${name} waits for the gateway`);
  }
  assert.ok(!said.some((line) => line.includes("SIGKILL")), said.join("\n"));
});

Deno.test("a gateway by itself waits for its port, serves, and leaves its workers alone", async () => {
  await using folder = await temporaryDirectory();
  await writeBundle(folder.path, "dense", denseBundle());
  await using workers = startNode({
    modelRepo: folder.path,
    workers: 2,
    args: ["--role", "workers"],
  });
  const endpoints = workers.workerPorts.map((port) => `127.0.0.1:${port}`).join(",");
  await using gateway = startNode({
    modelRepo: folder.path,
    workers: 0,
    args: ["--role", "gateway"],
    env: { REACTANT_GATEWAY_WORKERS: endpoints },
  });
  await workers.waitForLine(/^\[supervisor\] worker0 is ready/);
  await workers.waitForLine(/^\[supervisor\] worker1 is ready/);
  await gateway.waitForLine(/^\[supervisor\] .*node is ready: gateway/);
  await using client = connect(gateway);
  for (let i = 0; i < 8; i++) assert.equal(await infer(client, "dense"), 1);
  for (const worker of ["worker0", "worker1"]) assert.ok(isAlive(workers.childPid(worker)));

  // Its port is taken the moment it is gone, as by the orphan of a node that was killed.
  let before = 0;
  let holder: Deno.TcpListener | undefined;
  while (holder === undefined) {
    before = gateway.lines.length;
    Deno.kill(gateway.childPid("gateway"), "SIGKILL");
    await gateway.waitForLine(/^\[supervisor\] .*restarting gateway/, before);
    try {
      holder = Deno.listen({ hostname: "127.0.0.1", port: gateway.grpcPort });
    } catch (error) {
      // On a busy machine the next one may be faster than this test; the one after it waits longer.
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
      await gateway.waitForLine(/^\[supervisor\] .*gateway is ready/, before);
    }
  }
  try {
    await gateway.waitForLine(/^\[gateway\] .*waiting for a port/, before);
  } finally {
    holder.close();
  }
  await gateway.waitForLine(/^\[supervisor\] .*gateway is ready/, before);
  const exits = gateway.lines.slice(before).filter((line) => /gateway exited/.test(line));
  assert.equal(exits.length, 1, exits.join("\n"));
  await using again = connect(gateway);
  assert.equal(await infer(again, "dense"), 1);

  gateway.kill("SIGTERM");
  assert.equal((await gateway.exited).code, 0);
  for (const worker of ["worker0", "worker1"]) assert.ok(isAlive(workers.childPid(worker)));
});

for (const transport of ["native", "grpc-js"] as const) {
  Deno.test(`isAddressInUse() knows what the ${transport} transport says`, async () => {
    using holder = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const failure = await serveGrpc({
      transport,
      hostname: "127.0.0.1",
      port: holder.addr.port,
      methods: new Map(),
      maxReceiveBytes: 1,
      maxSendBytes: 1,
      onHandlerError: () => {},
    }).then(() => undefined, (error) => error);
    assert.equal(isAddressInUse(failure), true, String(failure));
  });
}
