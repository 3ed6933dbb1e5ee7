/**
 * Starts whole servers for tests: real processes on free loopback ports, stopped by their own pid.
 * A `TestServer` owns its process; disposing it ends the process and waits for it.
 */

import { fileURLToPath } from "node:url";
import { TextLineStream } from "./lines.ts";
import { freePort } from "./ports.ts";
import { packageUnderTest } from "./program.ts";

/** Many times the default grace: one that takes longer has not stopped at all. */
const STOP_MS = 120_000;

const root = fileURLToPath(new URL("../../", import.meta.url));

export interface StartOptions {
  readonly modelDirs: readonly string[];
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** `ready` (default) waits until every model is loaded or failed; `listening` only for the ports. */
  readonly until?: "ready" | "listening";
  readonly timeoutMs?: number;
  /** The whole command line after the program, instead of that of a worker. */
  readonly commandLine?: (ports: { grpcPort: number; httpPort: number }) => readonly string[];
  /** A packaged program to start instead of the sources. */
  readonly executable?: string;
}

/** One line of the server's log, parsed. */
export interface LogEvent {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface TestServer extends AsyncDisposable {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly pid: number;
  /** Everything logged so far. */
  readonly events: readonly LogEvent[];
  /** Resolves with the first log event, past or future, that the predicate accepts. */
  waitForEvent(accept: (event: LogEvent) => boolean, timeoutMs?: number): Promise<LogEvent>;
  /** GETs a path of the admin port. */
  http(path: string): Promise<{ status: number; body: string }>;
  kill(signal: Deno.Signal): void;
  readonly exited: Promise<Deno.CommandStatus>;
}

/** Starts one worker without a supervisor and waits for it; its log is in the error if it fails. */
export async function startServer(options: StartOptions): Promise<TestServer> {
  for (let attempt = 1;; attempt++) {
    try {
      return await start(options);
    } catch (error) {
      // A process that is no test may take a free port between our look and the server's bind.
      if (attempt === 3 || !/in use/.test(String(error))) throw error;
    }
  }
}

async function start(options: StartOptions): Promise<TestServer> {
  const grpcPort = freePort();
  const httpPort = freePort();
  const executable = options.executable ?? packageUnderTest();
  const fromSource = ["run", "-A", "--quiet", "--config", `${root}deno.json`, `${root}main.ts`];
  const child = new Deno.Command(executable ?? Deno.execPath(), {
    args: [
      ...(executable === undefined ? fromSource : []),
      ...options.commandLine?.({ grpcPort, httpPort }) ?? [
        ...["serve", "--role", "worker"],
        ...options.modelDirs.flatMap((dir) => ["--model-dir", dir]),
        ...["--host", "127.0.0.1", "--port", `${grpcPort}`, "--metrics-port", `${httpPort}`],
        ...["--log-format", "json", ...(options.args ?? [])],
      ],
    ],
    env: options.env as Record<string, string>,
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();

  const events: LogEvent[] = [];
  const other: string[] = [];
  const waiters = new Set<() => void>();
  const reading = (async () => {
    const lines = child.stderr.pipeThrough(new TextDecoderStream()).pipeThrough(
      new TextLineStream(),
    );
    for await (const line of lines) {
      try {
        events.push(JSON.parse(line));
      } catch {
        other.push(line);
      }
      for (const wake of waiters) wake();
    }
  })();
  let status: Deno.CommandStatus | undefined;
  const exited = child.status.then(async (value) => {
    await reading;
    status = value;
    for (const wake of waiters) wake();
    return value;
  });

  const describe = () =>
    [...events.map((event) => JSON.stringify(event)), ...other].slice(-30).join("\n");
  const waitForEvent = (accept: (event: LogEvent) => boolean, timeoutMs = 300_000) => {
    const { promise, resolve, reject } = Promise.withResolvers<LogEvent>();
    let next = 0;
    const look = () => {
      while (next < events.length) {
        const event = events[next++]!;
        if (accept(event)) return resolve(event);
      }
      if (status) reject(new Error(`the server exited with ${status.code}:\n${describe()}`));
    };
    const timer = setTimeout(
      () => reject(new Error(`no such log event after ${timeoutMs} ms:\n${describe()}`)),
      timeoutMs,
    );
    waiters.add(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      waiters.delete(look);
    });
  };

  const server: TestServer = {
    grpcPort,
    httpPort,
    pid: child.pid,
    events,
    waitForEvent,
    exited,
    async http(path) {
      const response = await fetch(`http://127.0.0.1:${httpPort}${path}`);
      return { status: response.status, body: await response.text() };
    },
    kill: (signal) => child.kill(signal),
    async [Symbol.asyncDispose]() {
      if (status) return;
      child.kill("SIGTERM");
      let isKilled = false;
      const timer = setTimeout(() => {
        isKilled = true;
        child.kill("SIGKILL");
      }, STOP_MS);
      await exited;
      clearTimeout(timer);
      if (isKilled) throw new Error(`the server did not end on SIGTERM:\n${describe()}`);
    },
  };
  try {
    const wanted = options.until ?? "ready";
    await waitForEvent((event) => event.message === wanted, options.timeoutMs);
    return server;
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}
