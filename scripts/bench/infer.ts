/**
 * `deno task bench infer`: what serving costs over the bare loop. One client, one request in flight:
 * latency through gRPC, divided by that of the host → device → execute → host loop of the same model,
 * both on this machine, in turns, in this run. Then the server's memory over tens of thousands of
 * requests.
 */

import { InferenceClient } from "../../src/client/mod.ts";
import { loadBundle } from "../../src/bundle/mod.ts";
import { openPjrtBackend } from "../../src/runtime/mod.ts";
import { GrpcClient } from "../../src/transport/mod.ts";
import { temporaryDirectory } from "../../tests/harness/bundle_builder.ts";
import { startServer, type TestServer } from "../../tests/harness/server.ts";
import { CPU_PLUGIN, mlpInput, writeMlpBundle } from "./mlp_bundle.ts";
import { micros, partOf, percentile, timeEach } from "./statistics.ts";

/**
 * The aim is for a bare loop of about 0.2 ms; this size took 0.28 to 0.45 ms on a 2-core VM and 512 units
 * 0.1 ms. The shorter the loop, the larger the ratio, since what serving adds hardly depends on it.
 */
const HIDDEN = 1024;
const ROUNDS = 5;
const REQUESTS_PER_ROUND = 1000;
const MEMORY_REQUESTS = 10_000;
/** After the first one, in which heaps and pools find their size. */
const MEMORY_ROUNDS = 3;
/** Figures of the server's `/metrics` that would grow with a leak. */
const MEMORY_SERIES = [
  "process_resident_memory_bytes",
  "process_open_fds",
  "v8_heap_used_bytes",
  'worker_native_handles{kind="buffer"}',
  'worker_native_handles{kind="event"}',
];

export async function run(_args: readonly string[], share: number): Promise<void> {
  const requests = partOf(REQUESTS_PER_ROUND, share);
  const memoryRequests = partOf(MEMORY_REQUESTS, share);
  await using folder = await temporaryDirectory();
  const directory = await writeMlpBundle(folder.path, [1], HIDDEN);
  await using bare = await openBareLoop(directory);
  await using server = await startServer({ modelDirs: [folder.path] });
  const grpc = new GrpcClient({ target: `127.0.0.1:${server.grpcPort}` });
  const client = new InferenceClient(async (path, message, options) =>
    (await grpc.unary(path, message, options)).message
  );
  const request = { modelName: "mlp", inputs: [mlpInput()] };
  const served = () => client.infer(request);

  // Both must give the same numbers before it means anything how fast they are.
  const [expected, { outputs: [found] }] = await Promise.all([bare.once(), served()]);
  if (Deno.inspect(expected) !== Deno.inspect(new Uint8Array(found!.data))) {
    throw new Error("the served result differs from the bare loop's");
  }

  await timeEach(requests, served);
  await timeEach(requests, bare.once);
  console.log(`MLP 784-${HIDDEN}-10, batch 1, one request in flight, p50 per round`);
  const ratios: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    const bareP50 = percentile(await timeEach(requests, bare.once), 0.5);
    const servedTimes = await timeEach(requests, served);
    const servedP50 = percentile(servedTimes, 0.5);
    ratios.push(servedP50 / bareP50);
    console.log(
      `  round ${round}: bare ${micros(bareP50)}, served ${micros(servedP50)} ` +
        `(p99 ${micros(percentile(servedTimes, 0.99))}), ratio ${(servedP50 / bareP50).toFixed(2)}`,
    );
  }
  console.log(`  median ratio ${percentile(ratios, 0.5).toFixed(2)} (aim: at most 2)`);

  console.log(`memory of the server, after every ${memoryRequests} requests`);
  const readings = [];
  for (let round = 0; round <= MEMORY_ROUNDS; round++) {
    await timeEach(memoryRequests, served);
    readings.push(await memory(server));
  }
  for (const series of MEMORY_SERIES) {
    const values = readings.map((reading) => format(reading, series).padStart(10));
    console.log(`  ${series.padEnd(40)}${values.join("")}`);
  }
  await grpc.close();
}

/** The same model in this process, without any server. */
async function openBareLoop(directory: string) {
  await using stack = new AsyncDisposableStack();
  const backend = stack.use(
    await openPjrtBackend({ pluginPath: CPU_PLUGIN, platform: "cpu" }),
  );
  const bundle = stack.use(await loadBundle(directory));
  if (bundle.kind !== "model") throw new Error("not a model");
  const program = stack.use(
    await backend.compile(await Deno.readFile(bundle.programs[0]!.files[0]!.path)),
  );
  const weights = await Promise.all(
    bundle.weights.specs.map(async (spec, index) =>
      stack.use(await backend.upload(spec, await bundle.weights.read(index)))
    ),
  );
  const input = mlpInput();
  const owned = stack.move();
  return {
    once: async () => (await backend.run(program, [input], weights)).outputs[0]!,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function memory(server: TestServer): Promise<ReadonlyMap<string, number>> {
  const { body } = await server.http("/metrics");
  const values = new Map<string, number>();
  for (const line of body.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!match) continue;
    const labels = match[2]?.split(",").filter((label) => !/^(worker|gpu)=/.test(label)).join(",");
    values.set(labels ? `${match[1]}{${labels}}` : match[1]!, Number(match[3]));
  }
  return values;
}

function format(values: ReadonlyMap<string, number>, series: string): string {
  const value = values.get(series);
  if (value === undefined) return "-";
  return series.endsWith("_bytes") ? `${(value / 2 ** 20).toFixed(1)} MiB` : String(value);
}
