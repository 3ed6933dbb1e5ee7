/** Several workers and a gateway in front of them, each a process of its own, stopped by their pids. */

import { startServer, type TestServer } from "./server.ts";
import { until } from "./until.ts";

export interface FleetOptions {
  readonly modelDirs: readonly string[];
  /** Default 3. */
  readonly workers?: number;
  readonly workerArgs?: readonly string[];
  readonly gatewayArgs?: readonly string[];
}

export interface Fleet extends AsyncDisposable {
  /** Named `worker0`, `worker1` and so on, also in the gateway's metrics. */
  readonly workers: readonly TestServer[];
  readonly gateway: TestServer;
}

/** Starts a fleet and waits until every worker is ready at the gateway. */
export async function startFleet(options: FleetOptions): Promise<Fleet> {
  await using stack = new AsyncDisposableStack();
  const { workers: count = 3, modelDirs, workerArgs = [], gatewayArgs = [] } = options;
  const cache = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(cache, { recursive: true }));
  const start = async (index: number) =>
    stack.use(
      await startServer({
        modelDirs,
        args: [
          ...["--worker-name", `worker${index}`, "--worker-threads", "1"],
          ...["--cache-dir", cache, ...workerArgs],
        ],
      }),
    );
  // The first one compiles; the others find what it compiled.
  const first = await start(0);
  const others = Array.from({ length: count - 1 }, (_, index) => start(index + 1));
  const workers = [first, ...await Promise.all(others)];
  const names = workers.map((_, index) => `worker${index}`);
  const gateway = stack.use(
    await startGateway([
      ...["--gateway-workers", workers.map(({ grpcPort }) => `127.0.0.1:${grpcPort}`).join(",")],
      "--gateway-worker-metrics",
      workers.map(({ httpPort }) => `127.0.0.1:${httpPort}`).join(","),
      ...["--gateway-worker-names", names.join(",")],
      ...["--gateway-health-interval-seconds", "1", ...gatewayArgs],
    ]),
  );
  await until(async () => await readyWorkers(gateway) === count, "every worker is ready");
  const owned = stack.move();
  return { workers, gateway, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Starts a gateway alone and waits until it is ready. */
export function startGateway(args: readonly string[]): Promise<TestServer> {
  return startServer({
    modelDirs: [],
    commandLine: ({ grpcPort, httpPort }) => [
      ...["serve", "--role", "gateway-process", "--gateway-logging-format", "json"],
      ...["--gateway-listen-grpc", `127.0.0.1:${grpcPort}`],
      ...["--gateway-listen-metrics", `127.0.0.1:${httpPort}`],
      ...args,
    ],
  });
}

/** Workers that the gateway holds ready. */
export async function readyWorkers(gateway: TestServer): Promise<number> {
  const { body } = await gateway.http("/metrics");
  return body.split("\n").filter((line) => /^gateway_worker_ready\{.*\} 1$/.test(line)).length;
}

/** The sum of the samples whose text before the value begins like this. */
export async function sampleSum(server: TestServer, start: string): Promise<number> {
  const { body } = await server.http("/metrics");
  return body.split("\n").filter((line) => line.startsWith(start))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
}
