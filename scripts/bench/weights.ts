/**
 * `deno task bench weights [--exponent N] [--rounds N]`: forty models over device memory for eight, asked
 * for as Zipf has it. What is missed against an ideal LRU of the same requests, how fast weights move
 * against a plain copy, what throughput is left of a server that has them all resident, and what the
 * weights take of the host's memory with four workers against one.
 */

import { parseArgs } from "node:util";
import { Mapping } from "../../ffi/libc/mod.ts";
import { temporaryDirectory, writeBundle } from "../../tests/harness/bundle_builder.ts";
import { connect, type TestClient } from "../../tests/harness/client.ts";
import { startServer, type TestServer } from "../../tests/harness/server.ts";
import { metric } from "../../tests/harness/weighted_bundle.ts";
import { ControlService } from "../../src/protocol/mod.ts";
import { partOf, percentile } from "./statistics.ts";
import { type LayerBundle, layerBundle, layerInput } from "./weights_bundle.ts";

const MODELS = 40;
const RESIDENT = 8;
const TRACE = 600;
const CLIENTS = 16;
const SECONDS = 4;
const ROWS = 16;
const WORKERS = 4;
/** What is aimed for: of a plain copy, of the all-resident server, and at most of one worker's memory. */
const AIMS = { bandwidth: 0.6, throughput: 0.6, memory: 1.1 };

export async function run(args: string[], share: number): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      exponent: { type: "string", default: "1" },
      rounds: { type: "string", default: "3" },
    },
  });
  const exponent = Number(values.exponent);
  await using folder = await temporaryDirectory();
  const bundles: LayerBundle[] = [];
  for (let index = 0; index < MODELS; index++) bundles.push(layerBundle(index, ROWS));
  const { weightBytes } = bundles[0]!;
  for (const { name, files } of bundles) await writeBundle(folder.path, name, files);
  const megabytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  console.log(
    `${MODELS} models of ${
      megabytes(weightBytes)
    }, room for ${RESIDENT}; Zipf, exponent ${exponent}`,
  );
  // Half a model more than eight, for what a dispatch needs besides.
  const budgetArgs = [
    ...["--device-memory-bytes", String(Math.floor((RESIDENT + 0.5) * weightBytes))],
    ...["--mem-fraction", "1", "--weight-cache-wiggle-fraction", "0"],
  ];
  const sharedArgs = ["--shared-host-weights", "--shared-host-weights-mode", "600"];
  const start = (extra: readonly string[]) =>
    startServer({
      modelDirs: [folder.path],
      args: ["--model-control-mode", "static", ...extra],
      timeoutMs: 300_000,
    });
  const names = bundles.map(({ name }) => name);

  await using stack = new AsyncDisposableStack();
  const onDemand = stack.use(await start([...budgetArgs, ...sharedArgs]));
  await sharedMemory(
    onDemand,
    () => start([...budgetArgs, ...sharedArgs]),
    names,
    MODELS * weightBytes,
  );
  const client = stack.use(connect(onDemand));
  await hitRate(onDemand, client, names, weightBytes, exponent, partOf(TRACE, share));
  const resident = stack.use(await start([]));
  await throughput({
    onDemand,
    resident,
    names,
    exponent,
    rounds: Number(values.rounds),
    seconds: SECONDS * share,
  });
}

/** The same requests, one after the other, through the server and through a textbook LRU. */
async function hitRate(
  server: TestServer,
  client: TestClient,
  names: readonly string[],
  weightBytes: number,
  exponent: number,
  requests: number,
): Promise<void> {
  const capacity = Math.floor(await metric(server, "worker_weight_cache_max_bytes") / weightBytes);
  await client.inference.call(ControlService.method.compactMemory, {});
  const figures = () =>
    Promise.all(
      [
        "worker_weight_loads_total",
        "worker_weight_load_bytes_total",
        "worker_weight_load_seconds_total",
      ]
        .map((name) => metric(server, name)),
    ) as Promise<[number, number, number]>;
  const before = await figures();
  const next = zipf(names, exponent, 1);
  using copies = new PlainCopies(weightBytes);
  const list: string[] = [];
  let misses = 0;
  for (let request = 0; request < requests; request++) {
    const name = next();
    const at = list.indexOf(name);
    if (at >= 0) list.splice(at, 1);
    else {
      misses++;
      if (list.length === capacity) list.shift();
    }
    list.push(name);
    await client.inference.infer({ modelName: name, inputs: [layerInput(ROWS)] });
    // Among the loads, so that whatever else the machine does is shared by both.
    if (at < 0) await copies.measure();
  }
  const after = await figures();
  const [loads, bytes, seconds] = after.map((value, index) => value - before[index]!) as [
    number,
    number,
    number,
  ];
  const rate = (missed: number) => `${(100 * (1 - missed / requests)).toFixed(2)} %`;
  console.log(
    `hit rate, ${requests} requests in a row: ${rate(loads)}, ideal LRU of ${capacity}: ${
      rate(misses)
    }` +
      (loads === misses ? " (equal)" : " (NOT equal)"),
  );
  const bandwidth = bytes / seconds;
  const { warm, fresh } = copies.bandwidths;
  const gigabytes = (value: number) => `${(value / 1e9).toFixed(2)} GB/s`;
  console.log(
    `loads to the device: ${gigabytes(bandwidth)}; memcpy of the same bytes into memory that was ` +
      `used before: ${gigabytes(warm)}, ratio ${
        ratio(bandwidth / warm, AIMS.bandwidth)
      }; into new ` +
      `memory: ${gigabytes(fresh)}, ratio ${(bandwidth / fresh).toFixed(2)}`,
  );
}

/** Plain copies of as many bytes as a model's weights have, from and to as many places as they have. */
class PlainCopies implements Disposable {
  readonly #byteLength: number;
  readonly #sources: readonly Mapping[];
  readonly #used: readonly Mapping[];
  #rounds = 0;
  #warmMs = 0;
  #freshMs = 0;

  constructor(byteLength: number) {
    this.#byteLength = byteLength;
    const filled = () => {
      const mapping = Mapping.anonymous(byteLength);
      mapping.bytes().fill(3);
      return mapping;
    };
    this.#sources = Array.from({ length: MODELS }, filled);
    this.#used = Array.from({ length: RESIDENT }, filled);
  }

  /** Copies once into memory that was used before and once into new memory. */
  async measure(): Promise<void> {
    const source = this.#sources[this.#rounds % MODELS]!.bytes();
    const used = this.#used[this.#rounds++ % RESIDENT]!;
    const startMs = performance.now();
    await used.copyFrom(source, 0);
    const warmMs = performance.now();
    using target = Mapping.anonymous(this.#byteLength);
    await target.copyFrom(source, 0);
    this.#freshMs += performance.now() - warmMs;
    this.#warmMs += warmMs - startMs;
  }

  /** Bytes per second, over all copies. */
  get bandwidths(): { warm: number; fresh: number } {
    const bytes = this.#rounds * this.#byteLength;
    return { warm: 1000 * bytes / this.#warmMs, fresh: 1000 * bytes / this.#freshMs };
  }

  [Symbol.dispose](): void {
    for (const mapping of [...this.#sources, ...this.#used]) mapping[Symbol.dispose]();
  }
}

/** Closed-loop clients against both servers, in turns. */
async function throughput(
  { onDemand, resident, names, exponent, rounds, seconds }: {
    onDemand: TestServer;
    resident: TestServer;
    names: readonly string[];
    exponent: number;
    rounds: number;
    seconds: number;
  },
): Promise<void> {
  const ratios: number[] = [];
  const perSecond = async (server: TestServer, seed: number) => {
    await using client = connect(server);
    const endMs = performance.now() + seconds * 1000;
    const counts = await Promise.all(
      Array.from({ length: CLIENTS }, async (_, index) => {
        const next = zipf(names, exponent, seed * CLIENTS + index);
        let count = 0;
        for (; performance.now() < endMs; count++) {
          await client.inference.infer({ modelName: next(), inputs: [layerInput(ROWS)] });
        }
        return count;
      }),
    );
    return counts.reduce((sum, count) => sum + count, 0) / seconds;
  };
  for (let round = 1; round <= rounds; round++) {
    const all = await perSecond(resident, round);
    const loadsBefore = await metric(onDemand, "worker_weight_loads_total");
    const some = await perSecond(onDemand, round);
    const loads = await metric(onDemand, "worker_weight_loads_total") - loadsBefore;
    ratios.push(some / all);
    console.log(
      `  ${CLIENTS} clients: all resident ${all.toFixed(0)} requests/s, on demand ` +
        `${some.toFixed(0)} with ${(loads / seconds).toFixed(0)} loads/s: ${
          (some / all).toFixed(2)
        }`,
    );
  }
  const median = percentile(ratios, 0.5);
  console.log(`throughput on demand over all resident: ${ratio(median, AIMS.throughput)}`);
}

/** What the weights take of the host with several workers against one. */
async function sharedMemory(
  first: TestServer,
  start: () => Promise<TestServer>,
  names: readonly string[],
  weightBytes: number,
): Promise<void> {
  // What no load has read yet is in nobody's page tables, and so in nobody's figures.
  await askEach(first, names);
  const one = proportionalSet([first]);
  await using stack = new AsyncDisposableStack();
  const others: TestServer[] = [];
  for (let worker = 1; worker < WORKERS; worker++) others.push(stack.use(await start()));
  for (const server of others) await askEach(server, names);
  const all = proportionalSet([first, ...others]);
  console.log(
    `host memory of weights (Pss_Shmem): one worker ${kilobytes(one.shared)}, ${WORKERS} workers ` +
      `${kilobytes(all.shared)}, ratio ${(all.shared / one.shared).toFixed(3)} ` +
      `(aim: at most ${AIMS.memory}); the weights have ${kilobytes(weightBytes / 1024)}`,
  );
  console.log(
    `  whole processes (Pss; on a CPU with the device's part, ${RESIDENT} models each): ` +
      `${kilobytes(one.all)} and ${kilobytes(all.all)}, ratio ${(all.all / one.all).toFixed(2)}`,
  );
}

async function askEach(server: TestServer, names: readonly string[]): Promise<void> {
  await using client = connect(server);
  for (const modelName of names) {
    await client.inference.infer({ modelName, inputs: [layerInput(ROWS)] });
  }
}

/** Memory of processes, in KiB; what several share counts once. */
function proportionalSet(servers: readonly TestServer[]): { all: number; shared: number } {
  const sum = (field: string) =>
    servers.reduce((total, { pid }) => {
      const text = Deno.readTextFileSync(`/proc/${pid}/smaps_rollup`);
      return total + Number(new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(text)![1]);
    }, 0);
  return { all: sum("Pss"), shared: sum("Pss_Shmem") };
}

function kilobytes(value: number): string {
  return `${(value / 1024).toFixed(0)} MiB`;
}

function ratio(value: number, aim: number): string {
  return `${value.toFixed(2)} (aim: at least ${aim})`;
}

/** Names with probability proportional to 1 / rank^exponent, from a fixed seed. */
function zipf(names: readonly string[], exponent: number, seed: number): () => string {
  let total = 0;
  const cumulative = names.map((_, rank) => total += (rank + 1) ** -exponent);
  let state = Math.imul(seed, 2654435761) >>> 0;
  return () => {
    // Numerical Recipes' constants.
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const point = state / 2 ** 32 * total;
    return names[cumulative.findIndex((upTo) => point < upTo)]!;
  };
}
