/** The image's entry points and health check, run for real outside of a container, in every role. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { SharedMemoryPool } from "../../src/client/mod.ts";
import { selfCommand } from "../../src/standalone.ts";
import { startProgram } from "../harness/program.ts";
import { until } from "../harness/until.ts";
import { freePort } from "../harness/ports.ts";

const root = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const docker = `${root}/docker`;

/** A folder to put on the PATH, with the program under its name. */
function binFolder(): string {
  const folder = Deno.makeTempDirSync({ prefix: "entrypoint-test-" });
  const { command, args } = selfCommand([]);
  const quoted = [command, ...args].map((word) => `'${word}'`).join(" ");
  writeScript(`${folder}/reactantserver`, `exec ${quoted} "$@"`);
  return folder;
}

function writeScript(path: string, body: string): void {
  Deno.writeTextFileSync(path, `#!/bin/sh\n${body}\n`);
  Deno.chmodSync(path, 0o755);
}

async function run(command: string, args: string[], env: Record<string, string>) {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, env, stdin: "null" })
    .output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

/** The image's node file, for this machine: a CPU, free ports, the digits model. */
function nodeFile(folder: string, workers: number): string {
  const ports = Array.from({ length: 2 * workers }, freePort);
  const text = Deno.readTextFileSync(`${docker}/node.default.yaml`)
    .replace("/var/lib/reactantserver/models", `${root}/examples/digits/bundle`)
    .replace("/var/cache/reactantserver", `${folder}/cache`)
    .replace("backend: cuda", "backend: cpu")
    .replace("host: 0.0.0.0", "host: 127.0.0.1");
  const list = Array.from(
    { length: workers },
    (_, index) =>
      `  - {name: worker${index}, port: ${ports[2 * index]}, ` +
      `endpoints: {metrics_port: ${ports[2 * index + 1]}}}\n`,
  );
  const path = `${folder}/node.yaml`;
  Deno.writeTextFileSync(path, `${text}\nworkers:\n${list.join("")}`);
  return path;
}

/** The worker gRPC ports that a node file names. */
function portsOf(path: string): number[] {
  return [...Deno.readTextFileSync(path).matchAll(/name: worker\d+, port: (\d+)/g)]
    .map(([, port]) => Number(port));
}

Deno.test("entrypoint.node.sh serves in every role, and the health check follows", async (t) => {
  const bin = binFolder();
  const base = {
    PATH: `${bin}:${Deno.env.get("PATH")}`,
    REACTANT_GPUS: "0",
    REACTANT_PJRT_PLUGIN: `${root}/.cache/pjrt/xla_cpu_pjrt.so`,
    REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "1",
  };
  const environment = (name: string, more: Record<string, string>, workers = 1) => {
    Deno.mkdirSync(`${bin}/${name}`);
    const [grpc, http] = [freePort(), freePort()];
    return {
      ...base,
      REACTANT_NODE_FILE: nodeFile(`${bin}/${name}`, workers),
      REACTANT_RUNTIME_DIR: `${bin}/${name}/run`,
      REACTANT_GATEWAY_LISTEN_GRPC: `127.0.0.1:${grpc}`,
      REACTANT_GATEWAY_LISTEN_METRICS: `127.0.0.1:${http}`,
      ...more,
    };
  };
  // The Dockerfile's own words.
  const check = JSON.parse(
    Deno.readTextFileSync(`${docker}/Dockerfile`).match(/^ {2}CMD (\[.*healthcheck.*\])$/m)![1]!,
  ) as string[];
  const isHealthy = async (env: Record<string, string>) =>
    (await run(check[0]!, check.slice(1), env)).code === 0;
  // A busy machine may take longer over it than the check waits.
  const becomesHealthy = (env: Record<string, string>) =>
    until(() => isHealthy(env), "the health check passes");
  const entrypoint = `${docker}/entrypoint.node.sh`;
  try {
    await t.step("all, with two workers behind a gateway", async () => {
      const env = environment("all", { REACTANT_ROLE: "all" }, 2);
      assert.equal(await isHealthy(env), false);
      await using node = startProgram(entrypoint, [], env);
      await node.waitFor(/node is ready/);
      await becomesHealthy(env);
      node.kill("SIGTERM");
      const { code, signal } = await node.exited;
      assert.deepEqual([code, signal], [0, null], node.log());
      assert.equal(await isHealthy(env), false);
    });

    await t.step("workers and gateway, as two containers", async () => {
      const workers = environment("workers", { REACTANT_ROLE: "workers" });
      await using first = startProgram(entrypoint, [], workers);
      const gateway = environment("gateway", {
        REACTANT_ROLE: "gateway",
        REACTANT_GATEWAY_WORKERS: portsOf(workers.REACTANT_NODE_FILE)
          .map((port) => `127.0.0.1:${port}`).join(","),
      });
      await using second = startProgram(entrypoint, [], gateway);
      await first.waitFor(/node is ready/);
      await becomesHealthy(workers);
      await second.waitFor(/node is ready/);
      await becomesHealthy(gateway);
    });

    await t.step("a single worker through entrypoint.worker.sh", async () => {
      const env = environment("worker", {});
      await using worker = startProgram(`${docker}/entrypoint.worker.sh`, [], env);
      await worker.waitFor(/ ready worker=worker0/);
      await becomesHealthy({ ...env, REACTANT_WORKER_NAME: "worker0" });
      worker.kill("SIGTERM");
      assert.equal((await worker.exited).code, 0, worker.log());
    });
  } finally {
    Deno.removeSync(bin, { recursive: true });
  }
});

Deno.test("entrypoint.node.sh waits for GPU memory, for a while", async () => {
  const bin = Deno.makeTempDirSync({ prefix: "reclaim-test-" });
  try {
    writeScript(`${bin}/reactantserver`, 'echo "started with $*"');
    // Busy when asked for the first time, free from then on.
    writeScript(
      `${bin}/nvidia-smi`,
      `if [ -e ${bin}/asked ]; then echo "0, 100, 1000"; else echo "0, 160, 1000"; fi\n` +
        `[ -z "$ALWAYS_BUSY" ] && : > ${bin}/asked; echo "1, [N/A], [N/A]"`,
    );
    const PATH = `${bin}:${Deno.env.get("PATH")}`;
    const start = (env: Record<string, string>, ...args: string[]) =>
      run(`${docker}/entrypoint.node.sh`, args, { PATH, ALWAYS_BUSY: "", ...env });
    const waited = await start({}, "--log-format", "json");
    assert.deepEqual([waited.code, waited.out], [0, "started with --log-format json\n"]);
    assert.equal(waited.err, "[entrypoint] GPU 0 uses 16% (160 of 1000 MiB)\n");

    const busy = { ALWAYS_BUSY: "1" };
    Deno.removeSync(`${bin}/asked`);
    const anyway = await start({ ...busy, REACTANT_GPU_RECLAIM_TIMEOUT_SECONDS: "1" });
    assert.equal(anyway.out, "started with \n");
    assert.match(anyway.err, /still more than 15% in use after 1 s; starting anyway/);
    const roomy = await start({ ...busy, REACTANT_GPU_RECLAIM_MAX_USED_PERCENT: "16" });
    assert.deepEqual([roomy.out, roomy.err], ["started with \n", ""]);
    for (const timeout of ["0", "never", "-1"]) {
      const off = await start({ ...busy, REACTANT_GPU_RECLAIM_TIMEOUT_SECONDS: timeout });
      assert.deepEqual([off.out, off.err], ["started with \n", ""]);
    }
    // Who is told to stop meanwhile does, also as process 1, for which signals do nothing by themselves.
    await using waiting = startProgram(`${docker}/entrypoint.node.sh`, [], { PATH, ...busy });
    await waiting.waitFor(/uses 16%/);
    waiting.kill("SIGTERM");
    const { code, signal } = await waiting.exited;
    assert.deepEqual([code, signal], [0, null]);
    // Only the GPUs of this node count.
    writeScript(
      `${bin}/nvidia-smi`,
      `[ "$1" = -i ] || exit 9; echo "$2" > ${bin}/list; echo "0, 1, 1000"`,
    );
    const asked = async (env: Record<string, string>) => {
      await start(env);
      return Deno.readTextFileSync(`${bin}/list`).trim();
    };
    assert.equal(await asked({ CUDA_VISIBLE_DEVICES: "2,3" }), "2,3");
    assert.equal(await asked({ CUDA_VISIBLE_DEVICES: "2" }), "2");
    assert.equal(await asked({ CUDA_VISIBLE_DEVICES: "2,3", REACTANT_GPUS: "2" }), "0,1");
    assert.equal(await asked({ REACTANT_GPUS: " GPU-8a56, 2, " }), "GPU-8a56,2");
    writeScript(`${bin}/nvidia-smi`, 'echo "0, 160, 1000"');
    // Other commands, CPU nodes and gateways do not care.
    const command = await start({}, "bundle", "validate");
    assert.deepEqual([command.out, command.err], ["started with bundle validate\n", ""]);
    assert.equal((await start({ REACTANT_GPUS: "0" })).err, "");
    assert.equal((await start({ REACTANT_ROLE: "Gateway" })).err, "");
  } finally {
    Deno.removeSync(bin, { recursive: true });
  }
});

Deno.test("monitor_gpu2.sh counts the regions of clients and of the load generator", async () => {
  const csv = Deno.makeTempFileSync({ prefix: "monitor-test-" });
  // Other tests make regions and drop them meanwhile, so that only more than one's own can be relied on.
  const pools = ["reactant", "loadgen"].flatMap((baseName) =>
    Array.from(
      { length: 20 },
      () => new SharedMemoryPool({ byteLength: 2 ** 12, slots: 1, baseName }),
    )
  );
  try {
    const env = { PATH: "/usr/bin:/bin", MONITOR_ROWS: "1", CONTAINER: "none", ENGINE: "true" };
    assert.equal((await run(`${docker}/monitor_gpu2.sh`, [csv, "0"], env)).code, 0);
    const row = Deno.readTextFileSync(csv).trim().split("\n").at(-1)!;
    assert.ok(Number(row.split(",").at(-1)) >= pools.length, row);
  } finally {
    for (const pool of pools) pool[Symbol.dispose]();
    Deno.removeSync(csv);
  }
});

Deno.test("monitor_gpu2.sh writes one row per look, with NA for what cannot be read", async () => {
  const bin = Deno.makeTempDirSync({ prefix: "monitor-test-" });
  try {
    const csv = `${bin}/soak.csv`;
    const monitor = (rows: number, env: Record<string, string>) =>
      run(`${docker}/monitor_gpu2.sh`, [csv, "0", "3"], {
        PATH: `${bin}:/usr/bin:/bin`,
        MONITOR_ROWS: String(rows),
        ...env,
      });
    assert.equal((await monitor(1, { ENGINE: "no-such-engine" })).code, 0);
    writeScript(`${bin}/nvidia-smi`, '[ "$2" = 3 ] && echo "1234, 56"');
    writeScript(
      `${bin}/engine`,
      `case $1 in compose) echo "$COMPOSE_FILE" >${bin}/stack; echo abc ;;\n` +
        'stats) echo "1.5GiB / 31GiB,87.5%" ;; esac',
    );
    assert.equal((await monitor(2, { ENGINE: "engine", COMPOSE_FILE: "a.yml:b.yml" })).code, 0);
    assert.equal(Deno.readTextFileSync(`${bin}/stack`), "a.yml:b.yml\n");
    const [header, ...rows] = Deno.readTextFileSync(csv).trim().split("\n");
    assert.equal(
      header,
      "epoch,iso_time,gpu_mem_used_mib,gpu_util_pct,worker_mem,worker_cpu_pct,shm_regions",
    );
    assert.equal(rows.length, 3);
    assert.match(rows[0]!, /^\d+,\d{4}-\d\d-\d\dT[\d:]+Z,NA,NA,NA,NA,\d+$/);
    for (const row of rows.slice(1)) assert.match(row, /Z,1234,56,1\.5GiB,87\.5%,\d+$/);
  } finally {
    Deno.removeSync(bin, { recursive: true });
  }
});
