/**
 * Starts whole nodes for tests: a supervisor and its children, on free loopback ports. A `TestNode` owns
 * all of them; disposing it ends the supervisor, and whatever is left of its children.
 */

import { fileURLToPath } from "node:url";
import { TextLineStream } from "./lines.ts";
import { packageUnderTest } from "./program.ts";
import { freePorts } from "./ports.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface NodeOptions {
  readonly modelRepo: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Workers; each gets free ports of its own. */
  readonly workers: number;
  /** Default: none. */
  readonly gpus?: "auto";
  /** The Deno that runs the sources; default: that of the tests. */
  readonly deno?: string;
  /** A packaged program's file to start instead of the sources; none: `TEST_PROGRAM`, if it is set. */
  readonly program?: string;
}

export interface TestNode extends AsyncDisposable {
  readonly pid: number;
  /** Standard output so far, by line. */
  readonly lines: readonly string[];
  /** Standard error so far, by line. */
  readonly complaints: readonly string[];
  /** Where the public gRPC and HTTP ports are, when the node has them. */
  readonly grpcPort: number;
  readonly httpPort: number;
  /** Of each worker. */
  readonly workerPorts: readonly number[];
  /** The folder the node file is written into. */
  readonly runtimeDir: string;
  /** Resolves with the match of the first line, past or future, that fits; `after` skips lines. */
  waitForLine(pattern: RegExp, after?: number): Promise<RegExpExecArray>;
  /** The process of a child that was started last. */
  childPid(name: string): number;
  kill(signal: Deno.Signal): void;
  readonly exited: Promise<Deno.CommandStatus>;
}

/** Generous: test machines are small and busy. */
const WAIT_MS = 300_000;

/** Starts a node and returns at once. */
export function startNode(options: NodeOptions): TestNode {
  const folder = Deno.makeTempDirSync({ prefix: "test-node-" });
  const ports = freePorts(2 + 2 * options.workers);
  const [grpcPort, httpPort, ...rest] = ports as [number, number, ...number[]];
  const workerPorts = rest.slice(0, options.workers);
  const workers = workerPorts.map((port, index) =>
    `  - {name: worker${index}, port: ${port}, ` +
    `endpoints: {metrics_port: ${rest[options.workers + index]}}}\n`
  );
  const nodeFile = `${folder}/given.yaml`;
  Deno.writeTextFileSync(
    nodeFile,
    `model_repo: ${options.modelRepo}\ngpus: ${
      options.gpus ?? 0
    }\nglobal: {endpoints: {host: 127.0.0.1}}\n` +
      `workers:\n${workers.join("")}`,
  );
  const program = options.program ?? packageUnderTest();
  const fromSource = ["run", "-A", "--quiet", "--config", `${root}deno.json`, `${root}main.ts`];
  const child = new Deno.Command(program ?? options.deno ?? Deno.execPath(), {
    args: [
      ...(program === undefined ? fromSource : []),
      "serve",
      ...["--node-file", nodeFile, "--runtime-dir", `${folder}/run`],
      ...(options.args ?? []),
    ],
    env: {
      REACTANT_GATEWAY_LISTEN_GRPC: `127.0.0.1:${grpcPort}`,
      REACTANT_GATEWAY_LISTEN_METRICS: `127.0.0.1:${httpPort}`,
      REACTANT_GATEWAY_HEALTH_INTERVAL_SECONDS: "1",
      ...options.env,
    },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const complaints: string[] = [];
  const waiters = new Set<() => void>();
  const wake = () => waiters.forEach((waiter) => waiter());
  const collect = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, into: string[]) => {
    const text = stream.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of text) {
      into.push(line);
      wake();
    }
  };
  const reading = Promise.all([
    collect(child.stdout, lines),
    collect(child.stderr, complaints),
  ]);
  let hasEnded = false;
  const exited = child.status.then(async (status) => {
    await reading;
    hasEnded = true;
    wake();
    return status;
  });
  const waitForLine = (pattern: RegExp, after = 0) => {
    const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
    let next = after;
    const describe = () => [...lines.slice(-40), ...complaints].join("\n");
    const look = () => {
      while (next < lines.length) {
        const match = pattern.exec(lines[next++]!);
        if (match !== null) return resolve(match);
      }
      if (hasEnded) reject(new Error(`the node ended without ${pattern}:\n${describe()}`));
    };
    const timer = setTimeout(
      () => reject(new Error(`no line like ${pattern}:\n${describe()}`)),
      WAIT_MS,
    );
    waiters.add(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      waiters.delete(look);
    });
  };
  const started = () =>
    lines.map((line) => /^\[supervisor\] .*\bstarted (\S+) \(pid (\d+)\)/.exec(line))
      .filter((match) => match !== null);
  return {
    pid: child.pid,
    lines,
    complaints,
    grpcPort,
    httpPort,
    workerPorts,
    runtimeDir: `${folder}/run`,
    waitForLine,
    childPid(name) {
      const match = started().findLast(([, child]) => child === name);
      if (match === undefined) throw new Error(`${name} was not started:\n${lines.join("\n")}`);
      return Number(match[2]);
    },
    kill: (signal) => child.kill(signal),
    exited,
    async [Symbol.asyncDispose]() {
      if (!hasEnded) {
        killQuietly(child.pid, "SIGTERM");
        const timer = setTimeout(() => killQuietly(child.pid, "SIGKILL"), WAIT_MS);
        await exited;
        clearTimeout(timer);
      }
      // Only what still is what this node started, should a test have gone wrong.
      for (const [, , pid] of started()) {
        if (commandLine(Number(pid))?.includes(`${folder}/run`)) {
          killQuietly(Number(pid), "SIGKILL");
        }
      }
      Deno.removeSync(folder, { recursive: true });
    },
  };
}

/** Whether a process exists and is not merely waiting for its parent to notice its end. */
export function isAlive(pid: number): boolean {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    if (stat.slice(stat.lastIndexOf(")") + 2)[0] !== "Z") return true;
    // Its other threads may still be ending, and until then it has what it had open.
    return [...Deno.readDirSync(`/proc/${pid}/task`)].some(({ name }) => name !== String(pid));
  } catch {
    return false;
  }
}

function commandLine(pid: number): string | undefined {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`);
  } catch {
    return undefined;
  }
}

function killQuietly(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch {
    // It ended before.
  }
}
