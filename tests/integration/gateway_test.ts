/** A gateway in front of three real workers: to clients it is as one, and stays so whatever befalls one. */
import assert from "node:assert/strict";
import { encodeBytesElements } from "../../src/tensor/mod.ts";
import { connect } from "../harness/client.ts";
import { type Fleet, readyWorkers, sampleSum, startFleet, startGateway } from "../harness/fleet.ts";
import { startEchoLoad } from "../harness/load/echo_load.ts";
import { notRun } from "../harness/not_run.ts";
import { findPrometheus } from "../harness/prometheus.ts";
import { runPython } from "../harness/python.ts";
import { until } from "../harness/until.ts";
import { writeEchoBundles } from "../python/echo_bundles.ts";

Deno.test({
  name: "a gateway serves three workers as one",
  // Deno 2.8 can keep a socket that was closed while it was read (denoland/deno#35292).
  sanitizeResources: false,
  fn: async (t) => {
    const models = await Deno.makeTempDir();
    try {
      await writeEchoBundles(models);
      await using fleet = await startFleet({
        modelDirs: [models],
        workerArgs: ["--batch-wait-seconds", "0.0015"],
      });
      await t.step("tritonclient cannot tell it from a worker", () => tritonclient(fleet));
      await t.step("/metrics is one exposition that Prometheus accepts", (t) => metrics(t, fleet));
      await t.step("a cancelled call ends on its worker", () => cancellation(fleet));
      await t.step("members come and go under load", () => members(fleet));
      await t.step("a worker killed under load costs no answer", () => kill(fleet));
      await t.step("a worker that stops is left out, and used again", () => freeze(fleet));
      assert.deepEqual(fleet.gateway.events.filter(({ level }) => level === "error"), []);
    } finally {
      await Deno.remove(models, { recursive: true });
    }
  },
});

async function tritonclient({ gateway }: Fleet): Promise<void> {
  const port = String(gateway.grpcPort);
  for (const script of ["triton_client.py", "triton_client_aio.py"]) {
    const { code, stdout, stderr } = await runPython(`tests/python/${script}`, [port]);
    assert.equal(code, 0, stdout + stderr);
  }
}

async function metrics(t: Deno.TestContext, { gateway }: Fleet): Promise<void> {
  const { body } = await gateway.http("/metrics");
  for (const worker of ["worker0", "worker1", "worker2"]) {
    assert.ok(body.includes(`worker_requests_total{worker="${worker}"`), worker);
    assert.ok(body.includes(`gateway_worker_metrics_up{worker="${worker}",endpoint="127.0.0.1:`));
  }
  // The requests of the Python clients were spread, and every one is in both counts, at rest at least.
  const ok = 'model="echo_fp32",status="OK"} ';
  const total = (page: string, start: string) =>
    page.split("\n").filter((line) => line.startsWith(start) && line.includes(ok))
      .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  await until(async () => {
    const { body: page } = await gateway.http("/metrics");
    const count = total(page, "gateway_requests_total{");
    return count > 0 && count === total(page, "worker_requests_total{");
  }, "gateway and workers have counted the same requests");
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, body);
    const parsed = await runPython("tests/python/metrics_exposition.py", [file]);
    assert.equal(parsed.code, 0, parsed.stderr);
    const tools = await findPrometheus();
    if (typeof tools === "string") return await notRun(t, `there is no promtool: ${tools}`);
    using input = await Deno.open(file);
    const child = new Deno.Command(tools.promtool, {
      args: ["check", "metrics"],
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const [{ code, stdout, stderr }] = await Promise.all([
      child.output(),
      input.readable.pipeTo(child.stdin),
    ]);
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assert.equal(code, 0, said);
  } finally {
    await Deno.remove(file);
  }
}

async function cancellation({ workers, gateway }: Fleet): Promise<void> {
  await using client = connect(gateway);
  const total = async (start: (name: string) => string) => {
    const counts = await Promise.all(
      workers.map((worker, index) => sampleSum(worker, start(`worker="worker${index}"`))),
    );
    return counts.reduce((sum, count) => sum + count, 0);
  };
  const inFlight = () => total((worker) => `worker_inflight_requests{${worker}}`);
  const cancelled = () =>
    total((worker) => `worker_rpcs_total{${worker},method="ModelInfer",status="CANCELLED"}`);
  await until(async () => await inFlight() === 0, "the calls before have ended");
  const controller = new AbortController();
  // The hook of this model waits for ever for such a text.
  const data = encodeBytesElements([Uint8Array.of(0x15)]);
  const call = client.inference.infer({
    modelName: "strings",
    inputs: [{ name: "text", datatype: "BYTES", shape: [1], data }],
  }, { signal: controller.signal });
  const ended = assert.rejects(call, { status: "CANCELLED" });
  await until(async () => await inFlight() === 1, "the call is on a worker");
  const before = await cancelled();
  controller.abort();
  await ended;
  await until(async () => await cancelled() === before + 1, "the worker hears of it");
  await until(async () => await sampleSum(gateway, "gateway_inflight") === 0, "it is let go");
}

async function members({ workers }: Fleet): Promise<void> {
  const file = await Deno.makeTempFile();
  const write = (...indexes: number[]) =>
    Deno.writeTextFile(
      file,
      indexes.map((index) => `127.0.0.1:${workers[index]!.grpcPort} - w${index}\n`).join(""),
    );
  try {
    await write(0);
    await using gateway = await startGateway([
      ...["--gateway-workers", `file:${file}`, "--gateway-discovery-membership-interval-seconds"],
      ...["0.1", "--gateway-scheduling-mode", "least_outstanding"],
    ]);
    await using client = connect(gateway);
    const load = startEchoLoad({
      inference: client.inference,
      model: "echo_fp32",
      callers: 6,
      timeoutMs: 600_000,
    });
    for (const indexes of [[0, 1, 2], [1, 2], [2], [0, 2]]) {
      await write(...indexes);
      await until(async () => {
        const { body } = await gateway.http("/metrics");
        const ready = [...body.matchAll(/^gateway_worker_ready\{worker="w(\d)"\} 1$/gm)];
        return ready.map(([, index]) => index).sort().join() === indexes.join();
      }, `the members are ${indexes}`);
      const { answered } = load.tally;
      await until(() => load.tally.answered > answered + 30, "more answers");
    }
    const { wrong, failed } = await load.stop();
    assert.deepEqual({ wrong, failed }, { wrong: 0, failed: new Map() });
  } finally {
    await Deno.remove(file);
  }
}

async function kill({ workers, gateway }: Fleet): Promise<void> {
  await using client = connect(gateway);
  const load = startEchoLoad({
    inference: client.inference,
    model: "echo_fp32",
    callers: 8,
    timeoutMs: 600_000,
  });
  await until(() => load.tally.answered > 50, "the load has begun");
  workers[2]!.kill("SIGKILL");
  await until(async () => await readyWorkers(gateway) === 2, "it is left out");
  const { answered } = load.tally;
  await until(() => load.tally.answered > answered + 50, "the load goes on");
  const { wrong, failed } = await load.stop();
  assert.deepEqual({ wrong, failed }, { wrong: 0, failed: new Map() });
  assert.ok(await sampleSum(gateway, 'gateway_requests_total{rpc="ModelInfer"') > 100);
}

async function freeze({ workers, gateway }: Fleet): Promise<void> {
  await using client = connect(gateway);
  const load = startEchoLoad({
    inference: client.inference,
    model: "echo_fp32",
    callers: 8,
    timeoutMs: 600_000,
  });
  await using impatient = connect(gateway);
  await until(() => load.tally.answered > 50, "the load has begun");
  workers[1]!.kill("SIGSTOP");
  try {
    // Calls that came with a deadline end at it, although the worker they are on does not move.
    const deadlines = startEchoLoad({
      inference: impatient.inference,
      model: "echo_fp32",
      callers: 4,
      timeoutMs: 1000,
    });
    await until(() => deadlines.tally.failed.size > 0, "a deadline");
    await until(async () => await readyWorkers(gateway) === 1, "it is left out");
    const { wrong, failed } = await deadlines.stop();
    assert.equal(wrong, 0);
    assert.deepEqual([...failed.keys()], ["DEADLINE_EXCEEDED"]);
    // Those with time left go on elsewhere.
    const { answered } = load.tally;
    await until(() => load.tally.answered > answered + 50, "the load goes on");
  } finally {
    workers[1]!.kill("SIGCONT");
  }
  await until(async () => await readyWorkers(gateway) === 2, "it is back");
  const { wrong, failed } = await load.stop();
  assert.deepEqual({ wrong, failed }, { wrong: 0, failed: new Map() });
}
