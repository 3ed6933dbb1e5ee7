/** `reactantserver loadgen` as a process, against a whole server. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  denseBundle,
  denseBundleWith,
  float32Bytes,
  safetensors,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { LOAD_MODELS } from "../harness/load/models.ts";
import { startServer, type TestServer } from "../harness/server.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const REPORT_LINE =
  /^\[t\+\d+s\] ok=\d+ err=0 dead=0\(\+0\) shed=0\(\+0\) rps=[\d.]+ (mean=[\d.]+ms min=[\d.]+ms p50=[\d.]+ms p95=[\d.]+ms max=[\d.]+ms|\(nothing completed\)) (loads=\d+\(\+\d+\) evicts=\d+\(\+\d+\) gw_shed=0 wk_shed=0|cache=\?)$/;

/** What the README says of the JSON. */
const OUTCOMES = ["ok", "dead", "shed", "teardown", "wrong", "error"];
const RESULT_KEYS = [
  ...[
    "exit_code",
    "verdict",
    "seconds",
    "requests_per_second",
    "totals",
    "latency_ms",
    "service_ms",
  ],
  ...["models", "skipped", "shortfalls", "ramp", "counters", "samples", "settings"],
];
const TOTALS_KEYS = [...OUTCOMES, "rows", "unsent", "abandoned", "checked"];
const LATENCY_KEYS = ["count", "mean", "min", "p50", "p90", "p95", "p99", "p999", "max"];
const MODEL_KEYS = ["warm", ...OUTCOMES, "rows", "latency_ms"];
const COUNTER_KEYS = ["loads", "evicts", "gateway_shed", "worker_shed"];

function loadgen(args: readonly string[], env: Record<string, string> = {}): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", join(root, "main.ts"), "loadgen", ...args],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

async function runLoadgen(args: readonly string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await loadgen(args, env).output();
  const lines = new TextDecoder().decode(stdout).split("\n");
  return { code, lines, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

function targetOf({ grpcPort, httpPort }: TestServer): string[] {
  return [
    ...["--gateway", `grpc://127.0.0.1:${grpcPort}`],
    ...["--metrics", `http://127.0.0.1:${httpPort}/metrics`],
    // On a machine that is busy with something else, a short run may not get round.
    ...["--min-ok-per-model", "0"],
  ];
}

function sharedMemoryObjects(pid: number): string[] {
  return [...Deno.readDirSync("/dev/shm")].map(({ name }) => name).filter((name) =>
    name.startsWith(`shm-loadgen-${pid}-`)
  );
}

/** A meta model that gives its input three times, which only its answers tell. */
function spreadBundle() {
  const tensor = (name: string, shape: number[], copies: number) => ({
    name,
    dtype: "F32",
    shape,
    data: float32Bytes(Array.from({ length: copies }, () => [1, 2, 3, 4]).flat()),
  });
  return {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      kind: "meta",
      meta: { calls: [] },
      client_inputs: [{ name: "x", dtype: "f32", shape: "a", dims: { a: 4 } }],
      client_outputs: [{ name: "z", dtype: "f32", shape: "ka", dims: { k: -1, a: 4 } }],
    }),
    "model.ts": `register_meta("spread", ([x]) => {
      const data = new Uint8Array(48);
      for (const row of [0, 1, 2]) data.set(x.data, row * 16);
      return [{ name: "z", datatype: "FP32", shape: [3, 4], data }];
    });`,
    "golden.safetensors": safetensors([
      tensor("b0/input/x", [4], 1),
      tensor("b0/output/z", [3, 4], 3),
    ], {}),
  };
}

/** y = x · kernel + bias for x = [1, 2, 3], the bundle builder's own numbers. */
const RIGHT = [80.5, 86.25, 92.125, 98];

function golden(values: readonly number[]): Uint8Array {
  const tensor = (name: string, shape: number[], data: readonly number[]) => ({
    name,
    dtype: "F32",
    shape,
    data: float32Bytes(data),
  });
  return safetensors([
    tensor("b1/input/x", [1, 3], [1, 2, 3]),
    tensor("b1/output/y", [1, 4], values),
  ], { atol: "1e-4", rtol: "0" });
}

Deno.test("loadgen loads a server and reports it", async (t) => {
  await using folder = await temporaryDirectory();
  await writeBundle(folder.path, "dense", {
    ...denseBundle(),
    "golden.safetensors": golden(RIGHT),
  });
  await writeBundle(folder.path, "other", denseBundleWith(() => {}));
  await writeBundle(folder.path, "spread", spreadBundle());
  const variants = LOAD_MODELS.find(({ name }) => name === "variants")!;
  await writeBundle(folder.path, "variants", variants.files);
  await using server = await startServer({ modelDirs: [folder.path] });
  const target = targetOf(server);

  await t.step("mixed transports, batches, answers that stay the same, JSON", async () => {
    const json = join(folder.path, "result.json");
    const { code, lines, text } = await runLoadgen([
      ...target,
      ...["--duration-seconds", "2", "--report-seconds", "1", "--concurrency", "4"],
      ...["--transport", "mixed", "--batch-mode", "both", "--burst-k", "3", "--data", "random"],
      ...[
        "--expect",
        "equal",
        "--models",
        "dense=3,other,absent",
        "--json",
        json,
        "--threads",
        "2",
      ],
    ]);
    assert.equal(code, 0, text);
    const reports = lines.filter((line) => line.startsWith("[t+"));
    assert.ok(reports.length >= 2, text);
    for (const line of reports) assert.match(line, REPORT_LINE);
    assert.match(text, /^skipping absent: there is no such model, or it is not ready$/m);
    assert.match(text, /^loadgen: OK: \d+ requests to 2 models$/m);
    const result = JSON.parse(await Deno.readTextFile(json));
    assert.equal(result.exit_code, 0);
    assert.ok(result.totals.ok > 0 && result.totals.checked > 0, text);
    // Two requests (one row, two rows), two ways each.
    assert.equal(result.models.dense.warm, 4);
    assert.ok(result.models.dense.rows >= result.models.dense.ok);
    assert.ok(result.latency_ms.p50 > 0 && result.latency_ms.p50 <= result.latency_ms.p99);
    assert.equal(result.settings.transport, "mixed");
    assert.equal(result.settings.duration_seconds, 2);
    assert.deepEqual(Object.keys(result), RESULT_KEYS);
    assert.deepEqual(Object.keys(result.totals), TOTALS_KEYS);
    assert.deepEqual(Object.keys(result.latency_ms), LATENCY_KEYS);
    assert.deepEqual(Object.keys(result.models.dense), MODEL_KEYS);
    assert.deepEqual(Object.keys(result.counters.after), COUNTER_KEYS);
  });

  await t.step("an open loop through shared memory, right answers from the bundle", async () => {
    const child = loadgen([
      ...target,
      ...["--duration-seconds", "1", "--rate", "50", "--arrivals", "constant", "--json", "-"],
      ...["--transport", "shm", "--model-repo", folder.path, "--expect", "golden"],
    ]);
    const { code, stdout, stderr } = await child.output();
    const text = new TextDecoder().decode(stderr);
    assert.equal(code, 0, text);
    const result = JSON.parse(new TextDecoder().decode(stdout));
    assert.equal(result.totals.ok + result.totals.unsent, 50, text);
    assert.ok(result.totals.checked > 0);
    assert.match(text, /^\[t\+/m);
    assert.deepEqual(sharedMemoryObjects(child.pid), []);
  });

  await t.step(
    "outputs that are longer than metadata tell, through memory, against a meta's golden",
    async () => {
      const common = ["--duration-seconds", "0.5", "--concurrency", "2", "--transport", "shm"];
      const named = await runLoadgen([
        ...target,
        ...common,
        "--models",
        "spread",
        "--expect",
        "equal",
      ]);
      assert.equal(named.code, 0, named.text);
      const read = await runLoadgen([
        ...target,
        ...common,
        ...["--models", "spread", "--expect", "golden", "--model-repo", folder.path],
      ]);
      assert.equal(read.code, 0, read.text);
      assert.match(read.text, /^-- [1-9]\d* answers checked$/m);
    },
  );

  await t.step("wrong answers fail the run, and the variables work", async () => {
    await using wrong = await temporaryDirectory();
    await writeBundle(wrong.path, "dense", {
      ...denseBundle(),
      "golden.safetensors": golden([80.5, 86.25, 92.125, 99]),
    });
    const { code, text } = await runLoadgen([], {
      LOADGEN_GATEWAY: `127.0.0.1:${server.grpcPort}`,
      LOADGEN_METRICS: "off",
      LOADGEN_MODEL_REPO: wrong.path,
      LOADGEN_EXPECT: "golden",
      LOADGEN_DURATION_SECONDS: "0.3",
      LOADGEN_CONCURRENCY: "2",
      LOADGEN_TRANSPROT: "shm",
    });
    assert.equal(code, 1, text);
    assert.match(text, /^warning: unknown variable LOADGEN_TRANSPROT.*LOADGEN_TRANSPORT/m);
    assert.match(text, /^first error: dense: .*wrong answer: output "y" differs by up to 1$/m);
    assert.match(text, /^loadgen: FAILED: \d+ wrong answers$/m);
  });

  await t.step("nothing to load is exit code 2, and so is a wrong setting", async () => {
    const { code, text } = await runLoadgen([...target, "--models", "absent"]);
    assert.equal(code, 2, text);
    assert.match(text, /^loadgen: NO MODEL/m);
    const usage = await runLoadgen(["--gateway", "ftp://nowhere:1", "--rate", "1"]);
    assert.equal(usage.code, 2, usage.text);
    assert.match(usage.text, /Malformed server address "ftp:\/\/nowhere:1"/);
    const json = join(folder.path, "absent", "result.json");
    const file = await runLoadgen([...target, "--duration-seconds", "600", "--json", json]);
    assert.equal(file.code, 2, file.text);
    assert.match(file.text, /Cannot write --json/);
    const page = await runLoadgen([...target, "--metrics", "127.0.0.1:8002/metrics"]);
    assert.equal(page.code, 2, page.text);
    assert.match(page.text, /--metrics must be an http:\/\/ or https:\/\/ address, or off/);
  });

  await t.step("a probe asks for every compiled shape, largest first", async () => {
    const probe = ["probe", "variants", "--model-repo", folder.path];
    const { code, lines, text } = await runLoadgen([...probe, ...target]);
    assert.equal(code, 0, text);
    const shapes = lines.filter((line) => line.startsWith("ok")).map((line) => line.split(/ +/)[1]);
    assert.deepEqual(shapes, ["s=8", "s=4", "s=2"]);
    const missing = await runLoadgen(["probe", "absent", "--model-repo", folder.path, ...target]);
    assert.equal(missing.code, 2, missing.text);
    assert.match(missing.text, /Cannot probe "absent"/);
  });

  await t.step("nohup keeps it from ending with its terminal", async () => {
    const nohup = new Deno.Command("nohup", {
      args: [
        ...[
          Deno.execPath(),
          "run",
          "-A",
          "--quiet",
          "--no-check",
          join(root, "main.ts"),
          "loadgen",
        ],
        ...[...target, "--duration-seconds", "600", "--report-seconds", "0.2"],
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    let [text, reports] = ["", 0];
    for await (const part of nohup.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      const found = text.match(/^\[t\+/gm)?.length ?? 0;
      if (reports === 0 && found > 0) {
        nohup.kill("SIGHUP");
        reports = found;
      } else if (reports > 0 && found > reports + 2) {
        nohup.kill("SIGTERM");
      }
    }
    assert.equal((await nohup.status).code, 0, text);
    assert.ok((text.match(/^\[t\+/gm)?.length ?? 0) > reports + 2, text);
  });

  const ends: readonly (readonly [Deno.Signal, string[], number, boolean])[] = [
    ["SIGTERM", ["--transport", "tcp"], 0, false],
    ["SIGHUP", ["--transport", "shm", "--threads", "2"], 2, false],
    // A server that has stopped answers neither requests nor the page, nor that the memory is taken back.
    ["SIGINT", ["--transport", "shm"], 1, true],
  ];
  for (const [signal, args, objects, isFrozen] of ends) {
    const what = isFrozen ? "although the server has stopped" : "with its verdict";
    await t.step(`${signal} ends it early, ${what}`, async () => {
      const child = loadgen([
        ...target,
        ...args,
        ...["--duration-seconds", "600", "--report-seconds", "0.2", "--stall-windows", "0"],
      ]);
      let text = "";
      let isTold = false;
      try {
        for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
          text += part;
          if (isTold || !text.includes("[t+")) continue;
          isTold = true;
          assert.equal(sharedMemoryObjects(child.pid).length, objects);
          if (isFrozen) server.kill("SIGSTOP");
          child.kill(signal);
        }
      } finally {
        if (isFrozen) server.kill("SIGCONT");
      }
      const { code } = await child.status;
      await child.stderr.cancel();
      assert.equal(code, 0, text);
      assert.match(text, /^loadgen: OK: \d+ requests to 3 models$/m);
      assert.deepEqual(sharedMemoryObjects(child.pid), []);
    });
  }
  assert.deepEqual(server.events.filter(({ level }) => level === "error"), []);
});
