/** Whole nodes on the CPU: a supervisor, its workers and its gateway as processes. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { connect } from "../harness/client.ts";
import { isAlive, startNode } from "../harness/node.ts";
import { freePort, isFree } from "../harness/ports.ts";
import { until } from "../harness/until.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const modelRepo = `${root}examples/digits/bundle`;

/** Whether the model answers on a port. */
async function answers(port: number): Promise<boolean> {
  await using client = connect({ grpcPort: port });
  return await client.inference.modelReady("digits", { deadlineMs: performance.now() + 300_000 });
}

function variablesOf(pid: number): Map<string, string> {
  const entries = Deno.readTextFileSync(`/proc/${pid}/environ`).split("\0")
    .map((entry) => entry.split(/=(.*)/s, 2) as [string, string]);
  return new Map(entries);
}

Deno.test("a node restarts a killed worker, and a killed supervisor leaves nothing behind", async () => {
  await using node = startNode({
    modelRepo,
    workers: 3,
    env: { CUDA_VISIBLE_DEVICES: "5", INFERENCE_SERVER_ENDPOINTS_PORT: String(freePort()) },
  });
  await node.waitForLine(/^\[supervisor\] node is ready: /);
  for (const name of ["worker0", "worker1", "worker2"]) {
    await node.waitForLine(new RegExp(`^\\[supervisor\\] ${name} is ready`));
  }
  assert.ok(await answers(node.grpcPort));
  for (const port of node.workerPorts) assert.ok(await answers(port));
  assert.ok(
    node.lines.some((line) => /INFERENCE_SERVER_ENDPOINTS_PORT has no effect/.test(line)),
    "a variable that would put all workers on one port is pointed out",
  );

  // Each worker sees its own name and no device, whatever the node's environment says.
  for (const name of ["worker0", "worker1", "worker2"]) {
    const variables = variablesOf(node.childPid(name));
    assert.equal(variables.get("REACTANT_WORKER_NAME"), name);
    assert.equal(variables.get("CUDA_VISIBLE_DEVICES"), "");
  }

  const before = node.lines.length;
  const first = node.childPid("worker1");
  Deno.kill(first, "SIGKILL");
  await node.waitForLine(/worker1 exited \(code=137, signal=SIGKILL, uptime=\d+\.\ds\)/, before);
  await node.waitForLine(/^\[supervisor\] restarting worker1 in 1\.0s$/, before);
  await node.waitForLine(/^\[supervisor\] worker1 is ready/, before);
  assert.notEqual(node.childPid("worker1"), first);
  assert.ok(await answers(node.workerPorts[1]!));
  assert.ok(await answers(node.grpcPort));

  // One child cannot react: it is stopped. The others leave by themselves.
  const names = ["worker0", "worker1", "worker2", "gateway"];
  const pids = names.map((name) => node.childPid(name));
  const socket = variablesOf(pids[0]!).get("REACTANT_SUPERVISOR_SOCKET")!;
  Deno.statSync(socket);
  Deno.kill(pids[2]!, "SIGSTOP");
  node.kill("SIGKILL");
  await node.exited;
  await until(() => !pids.some(isAlive), "every child has ended");
  for (const port of [node.grpcPort, node.httpPort, ...node.workerPorts]) {
    assert.ok(isFree(port), `port ${port} is free again`);
  }
  await until(() => {
    try {
      Deno.statSync(socket);
      return false;
    } catch {
      return true;
    }
  }, "the node's folder is gone");
});

Deno.test("a node of workers tells the service manager and health checks, and drains on SIGTERM", async () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/notify.sock`;
  const manager = Deno.listenDatagram({ transport: "unixpacket", path });
  const states: string[] = [];
  const listening = (async () => {
    for await (const [bytes] of manager) states.push(new TextDecoder().decode(bytes));
  })();
  try {
    await using node = startNode({
      modelRepo,
      workers: 2,
      args: ["--role", "workers", "--log-format", "json"],
      env: { NOTIFY_SOCKET: path },
    });
    const ready = (name: string) => node.waitForLine(new RegExp(`"${name} is ready \\(after`));
    await Promise.all([ready("worker0"), ready("worker1")]);
    await until(
      () => states.includes("STATUS=2 of 2 workers ready"),
      "the service manager is told",
    );
    assert.ok(states.some((state) => state.startsWith("READY=1\nSTATUS=")), states.join("; "));
    assert.ok(isFree(node.grpcPort), "role workers has no public port");

    const health = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "-A", "--quiet", "--config", `${root}deno.json`, `${root}main.ts`],
        ...["healthcheck", "--timeout-seconds", "60", "--runtime-dir", node.runtimeDir],
      ],
    }).output();
    const said = new TextDecoder().decode(health.stdout);
    assert.equal(health.code, 0, new TextDecoder().decode(health.stderr));
    assert.match(said, /^ready \(127\.0\.0\.1:\d+\)$/m);
    assert.ok(node.workerPorts.some((port) => said.includes(`:${port})`)), said);

    const pids = ["worker0", "worker1"].map((name) => node.childPid(name));
    node.kill("SIGTERM");
    assert.equal((await node.exited).code, 0);
    assert.ok(!pids.some(isAlive));
    await until(() => states.includes("STOPPING=1"), "the service manager is told of the end");
    // Every line has one prefix, and JSON lines are what the children wrote.
    for (const line of node.lines) {
      const match = /^\[(supervisor|worker0|worker1)\] (\{.*\})$/.exec(line);
      assert.ok(match, line);
      JSON.parse(match[2]!);
    }
    for (const name of ["worker0", "worker1"]) {
      const stopped = node.lines.filter((line) =>
        line.startsWith(`[${name}] `) && line.includes('"message":"stopped"')
      );
      assert.equal(stopped.length, 1, `${name} drained`);
    }
    assert.throws(() => Deno.statSync(`${node.runtimeDir}/node.yaml`), Deno.errors.NotFound);
  } finally {
    manager.close();
    await listening;
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a node goes on when its program was replaced by a newer one", async () => {
  const folder = Deno.makeTempDirSync({ dir: `${root}.cache`, prefix: "replaced-" });
  try {
    const deno = `${folder}/deno`;
    Deno.linkSync(Deno.execPath(), deno);
    await using node = startNode({ modelRepo, workers: 1, deno });
    await node.waitForLine(/^\[supervisor\] started worker0/);
    const before = node.lines.length;
    Deno.removeSync(deno);
    Deno.linkSync(Deno.execPath(), deno);
    Deno.kill(node.childPid("worker0"), "SIGKILL");
    const [line] = await node.waitForLine(/^\[supervisor\] (cannot start|started) worker0/, before);
    assert.match(line, / started /);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a node that is told to stop while it looks for devices leaves at once", async () => {
  const folder = Deno.makeTempDirSync();
  try {
    // A driver that takes its time, as one does whose GPU has fallen off the bus.
    Deno.writeTextFileSync(
      `${folder}/nvidia-smi`,
      `#!/bin/sh\necho $$ > ${folder}/asked\nexec sleep 600\n`,
      { mode: 0o755 },
    );
    const env: Record<string, string> = { PATH: `${folder}:${Deno.env.get("PATH")}` };
    await using node = startNode({ modelRepo, workers: 1, gpus: "auto", env });
    await until(() => {
      try {
        return Deno.readTextFileSync(`${folder}/asked`).endsWith("\n");
      } catch {
        return false;
      }
    }, "the driver is asked");
    node.kill("SIGTERM");
    const { code, signal } = await node.exited;
    Deno.kill(Number(Deno.readTextFileSync(`${folder}/asked`)), "SIGKILL");
    assert.deepEqual([code, signal], [0, null]);
    assert.deepEqual(node.lines, ["[supervisor] SIGTERM received before anything was started"]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("a node whose worker fails too often ends with exit code 1", async () => {
  await using node = startNode({
    modelRepo,
    workers: 1,
    env: { REACTANT_SUPERVISOR_MAX_RESTARTS: "1" },
  });
  await node.waitForLine(/^\[supervisor\] started worker0/);
  const before = node.lines.length;
  Deno.kill(node.childPid("worker0"), "SIGKILL");
  await node.waitForLine(/^\[supervisor\] started worker0/, before);
  Deno.kill(node.childPid("worker0"), "SIGKILL");
  assert.equal((await node.exited).code, 1);
  assert.ok(
    node.lines.includes(
      "[supervisor] worker0 failed 2 consecutive times (max 1); node shutting down",
    ),
    node.lines.join("\n"),
  );
  assert.equal(node.lines.at(-1), "[supervisor] node stopped with exit code 1");
});

Deno.test("a node that cannot start says why at once and takes its children with it", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  await using node = startNode({
    modelRepo,
    workers: 1,
    args: ["--port", String(port)],
  });
  assert.equal((await node.exited).code, 2);
  const [complaint] = node.complaints;
  assert.ok(complaint?.startsWith("reactantserver: worker0: Cannot serve gRPC on"), complaint);
  assert.ok(complaint.includes(`127.0.0.1:${port}`), complaint);
  assert.ok(!isAlive(node.childPid("worker0")));
  assert.ok(!node.lines.some((line) => line.includes("restarting")));

  await using wrong = startNode({ modelRepo, workers: 1, args: ["--role", "boss"] });
  assert.equal((await wrong.exited).code, 2);
  assert.deepEqual(wrong.complaints, [
    'reactantserver: --role must be one of all, workers, gateway, worker, got "boss"',
  ]);
  assert.deepEqual(wrong.lines, []);
});
