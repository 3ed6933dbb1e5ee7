/** A whole node for a soak: the supervisor, its CPU workers and, with two of them, the gateway. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort } from "../../tests/harness/ports.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface NodeOptions {
  /** For the node file, the log and what workers cache. */
  readonly folder: string;
  readonly modelRepo: string;
  readonly workers: number;
  /** The `global` block of the node file. */
  readonly global: Record<string, unknown>;
  /** Variables besides those that make it a node of CPU workers on free ports. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A running node. Disposing stops it and waits. */
export interface SoakNode extends AsyncDisposable {
  readonly pid: number;
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Everything its processes printed, in one file. */
  readonly logFile: string;
  /** Ends the node and gives the supervisor's exit code. */
  stop(): Promise<number>;
}

/** What a process says that cannot have its port. */
const IN_USE = /address (already )?in use|AddrInUse|EADDRINUSE/i;
const READY_WITHIN_MS = 180_000;
const STOP_WITHIN_MS = 40_000;

/** Starts a node and waits until everything in it is ready. */
export async function startNode(options: NodeOptions): Promise<SoakNode> {
  for (let attempt = 1;; attempt++) {
    try {
      return await start(options);
    } catch (error) {
      // Another process may take a free port between our look and the bind.
      if (attempt === 3 || !IN_USE.test(String(error))) throw error;
    }
  }
}

async function start(options: NodeOptions): Promise<SoakNode> {
  const { folder, modelRepo, workers, global, env } = options;
  const [grpcPort, httpPort] = [freePort(), freePort()];
  const file = join(folder, "node.yaml");
  const logFile = join(folder, "node.log");
  // JSON is YAML.
  await Deno.writeTextFile(
    file,
    JSON.stringify({
      model_repo: modelRepo,
      gpus: 0,
      workers: Array.from({ length: workers }, (_, index) => ({
        name: `worker${index}`,
        port: freePort(),
        // Ports of metrics are base + i, and no other worker's.
      })),
      metrics_base_port: consecutivePorts(workers),
      global: { cache_dir: join(folder, "cache"), ...global },
    }),
  );
  const log = await Deno.open(logFile, { create: true, write: true, truncate: true });
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", join(root, "main.ts"), "serve", "--role", "all"],
    env: {
      REACTANT_NODE_FILE: file,
      REACTANT_GPUS: "0",
      REACTANT_GATEWAY_LISTEN_GRPC: `127.0.0.1:${grpcPort}`,
      REACTANT_GATEWAY_LISTEN_METRICS: `127.0.0.1:${httpPort}`,
      REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "2",
      ...env,
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const pumps = Promise.all([child.stdout, child.stderr].map((stream) => copy(stream, log)))
    .finally(() => log.close());
  let code: number | undefined;
  const exited = child.status.then(async (status) => {
    await pumps;
    return code = status.code;
  });
  const stop = async () => {
    if (code === undefined) {
      child.kill("SIGTERM");
      const timer = setTimeout(() => code ?? child.kill("SIGKILL"), STOP_WITHIN_MS);
      await exited;
      clearTimeout(timer);
    }
    return await exited;
  };
  try {
    await waitUntilReady(httpPort, workers, async () => {
      if (code !== undefined) return `it exited with ${code}`;
      // The supervisor would go on restarting whoever lost its port.
      const text = await Deno.readTextFile(logFile);
      return IN_USE.exec(text)?.[0];
    });
    return {
      pid: child.pid,
      grpcPort,
      httpPort,
      logFile,
      stop,
      async [Symbol.asyncDispose]() {
        await stop();
      },
    };
  } catch (error) {
    await stop();
    const tail = (await Deno.readTextFile(logFile)).split("\n").slice(-30).join("\n");
    throw new Error(`the node did not become ready: ${(error as Error).message}\n${tail}`);
  }
}

/** The first of several free ports in a row. */
function consecutivePorts(count: number): number {
  for (;;) {
    const first = freePort();
    if (first + count > 65_535) continue;
    try {
      for (let port = first; port < first + count; port++) {
        Deno.listen({ hostname: "127.0.0.1", port }).close();
      }
      return first;
    } catch {
      // One of them is taken; look elsewhere.
    }
  }
}

async function copy(stream: ReadableStream<Uint8Array>, log: Deno.FsFile): Promise<void> {
  for await (const chunk of stream) {
    for (let at = 0; at < chunk.length;) at += log.writeSync(chunk.subarray(at));
  }
}

/** Ready means every worker: `/readyz` alone is content with one of several. */
async function waitUntilReady(
  httpPort: number,
  workers: number,
  findProblem: () => Promise<string | undefined>,
): Promise<void> {
  const endMs = performance.now() + READY_WITHIN_MS;
  while (performance.now() < endMs) {
    const problem = await findProblem();
    if (problem !== undefined) throw new Error(problem);
    try {
      const ready = await fetch(`http://127.0.0.1:${httpPort}/readyz`);
      await ready.body?.cancel();
      const page = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
      const readyWorkers = page.match(/^gateway_worker_ready\{.*\} 1$/gm)?.length ?? 0;
      if (ready.ok && (workers === 1 || readyWorkers === workers)) return;
    } catch {
      // Not listening yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error(`not within ${READY_WITHIN_MS / 1000} s`);
}
