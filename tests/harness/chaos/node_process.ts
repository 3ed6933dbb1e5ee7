/**
 * A whole node for chaos: supervisor, gateway and CPU workers on free loopback ports, with the pids of
 * every child it ever had. Disposing it ends the supervisor and waits.
 */

import { fileURLToPath } from "node:url";
import { TextLineStream } from "../lines.ts";
import { freePorts } from "../ports.ts";
import { until } from "../until.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const STOP_MS = 300_000;

export interface NodeOptions {
  readonly modelDir: string;
  readonly workers: number;
  /** Where the node file goes; the caller removes it. */
  readonly folder: string;
}

/** A child the supervisor started. */
export interface StartedChild {
  readonly name: string;
  readonly pid: number;
  readonly atMs: number;
}

export interface ChaosNode extends AsyncDisposable {
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Every port of the node. */
  readonly ports: readonly number[];
  readonly pid: number;
  /** Every child so far, in the order of their starts. */
  readonly children: readonly StartedChild[];
  readonly exited: Promise<Deno.CommandStatus>;
  /** The last lines of its log. */
  tail(): string;
  kill(signal: Deno.Signal): void;
  http(path: string): Promise<{ status: number; body: string }>;
}

/** Starts a node and waits until every worker is ready at the gateway. */
export async function startChaosNode(options: NodeOptions): Promise<ChaosNode> {
  const { modelDir, workers, folder } = options;
  const ports = freePorts(2 * workers + 2);
  const [grpcPort, httpPort] = ports.slice(-2) as [number, number];
  const nodeFile = `${folder}/node.yaml`;
  await Deno.writeTextFile(
    nodeFile,
    JSON.stringify({
      model_repo: modelDir,
      base_port: ports[0],
      metrics_base_port: ports[workers],
      gpus: 0,
      shared_host_weights: true,
      // A budget, so that weights are held on the host, and there once for all workers.
      global: { runtime: { shared_host_weights_mode: "600", device_memory_bytes: 2 ** 30 } },
    }),
  );
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--no-prompt", "--config", `${root}deno.json`, `${root}main.ts`],
      ...["serve", "--node-file", nodeFile, "--runtime-dir", `${folder}/run`],
    ],
    env: {
      REACTANT_CPU_WORKERS: String(workers),
      REACTANT_GATEWAY_LISTEN_GRPC: `127.0.0.1:${grpcPort}`,
      REACTANT_GATEWAY_LISTEN_METRICS: `127.0.0.1:${httpPort}`,
      REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "1",
      REACTANT_GATEWAY_SCHEDULING_MODE: "least_outstanding",
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const children: StartedChild[] = [];
  const read = async (stream: ReadableStream<Uint8Array>) => {
    const text = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of text) {
      lines.push(line);
      if (lines.length > 2000) lines.shift();
      const started = /^\[supervisor\] started (\S+) \(pid (\d+)\)/.exec(line);
      if (started) {
        children.push({ name: started[1]!, pid: Number(started[2]), atMs: performance.now() });
      }
    }
  };
  const reading = Promise.all([read(child.stdout), read(child.stderr)]);
  let hasExited = false;
  const exited = child.status.then(async (status) => {
    hasExited = true;
    await reading;
    return status;
  });
  const node: ChaosNode = {
    grpcPort,
    httpPort,
    ports,
    pid: child.pid,
    children,
    exited,
    tail: () => lines.slice(-60).join("\n"),
    kill: (signal) => child.kill(signal),
    async http(path) {
      const response = await fetch(`http://127.0.0.1:${httpPort}${path}`);
      return { status: response.status, body: await response.text() };
    },
    async [Symbol.asyncDispose]() {
      if (hasExited) return;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
      await exited;
      clearTimeout(timer);
    },
  };
  try {
    await until(async () => {
      if (hasExited) throw new Error("the node exited");
      return (await readyWorkers(node)).length === workers;
    }, "every worker is ready");
    return node;
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw new Error(`The node did not come up: ${error}\n${node.tail()}`);
  }
}

/** Names of the workers that the gateway holds ready; none while it cannot be asked. */
export async function readyWorkers(node: Pick<ChaosNode, "http">): Promise<string[]> {
  try {
    const { body } = await node.http("/metrics");
    return [...body.matchAll(/^gateway_worker_ready\{.*worker="([^"]+)".*\} 1$/gm)]
      .map((match) => match[1]!);
  } catch {
    return [];
  }
}
