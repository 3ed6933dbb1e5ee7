/**
 * Eight models with every way of being served on one server, and many clients that send right requests,
 * cancel, run out of time, make hooks fail, ask for nonsense and hang up. Every answer is checked.
 *
 *     deno run -A tests/harness/load/mixed_load.ts [--seconds 60] [--seed 1] [--clients 24]
 *
 * A third of the time (at most 20 s) warms up; the rest are rounds of the same length. After each the server
 * is left alone for a moment and its memory, descriptors and native handles are read. What it keeps, it
 * keeps in every round; `growing` tells whether there were rounds in which it kept nothing to speak of.
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { GRPCInferenceService } from "../../../src/protocol/mod.ts";
import { Random } from "../../../src/protocol/testing/random.ts";
import { GrpcClient } from "../../../src/transport/mod.ts";
import { temporaryDirectory } from "../bundle_builder.ts";
import { connect } from "../client.ts";
import { startServer, type TestServer } from "../server.ts";
import { LoadClient } from "./client.ts";
import { readMetrics, type Series, total } from "./metrics.ts";
import { LOAD_MODELS, writeLoadBundles } from "./models.ts";
import { SharedObject, SLOT_BYTES } from "./regions.ts";
import { MODES, Tally } from "./tally.ts";

export interface MixedLoadOptions {
  readonly seconds: number;
  readonly seed: number;
  /** Requests in flight at most, the cut-off ones aside. */
  readonly clients: number;
}

/** One look at the server while nothing was going on, or the least of several during the load. */
export interface Footprint {
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly descriptors: number;
  readonly nativeHandles: number;
}

export interface MixedLoadReport {
  readonly tally: Tally;
  /** Calls that never ended. */
  readonly lost: number;
  readonly seconds: number;
  /** At rest, after the warm-up and after each round. */
  readonly atRest: readonly Footprint[];
  /** Least memory in the first and the last third of the measured time. */
  readonly early: Footprint;
  readonly late: Footprint;
  /** What the server still had to do when all clients had gone. */
  readonly leftOver: number;
  readonly hookWorkersLost: number;
  readonly dispatches: number;
  readonly served: number;
  /** Errors in the server's log: there are none for what clients do wrong. */
  readonly errors: readonly unknown[];
}

const CONNECTIONS = 4;
const SAMPLE_EVERY_MS = 500;
const ROUNDS = 4;
/**
 * More follow while some kind of call has not happened yet, or memory is not at rest. A leak fails all of
 * them, so more only give noise more chances to settle.
 */
const MAX_ROUNDS = 20;
/** What a round may add: hook workers come and go, each with half a dozen descriptors and its own heap. */
const SLACK: Readonly<Partial<Record<keyof Footprint, number>>> = {
  descriptors: 6,
  heapBytes: 2 ** 23,
  residentBytes: 2 ** 24,
};
const FLAT_ROUNDS = 2;
/** No call waits for anything longer than a few hundred milliseconds on an idle machine. */
const LOST_AFTER_MS = 300_000;
const REST_ATTEMPTS = 3000;

export async function runMixedLoad(options: MixedLoadOptions): Promise<MixedLoadReport> {
  await using folder = await temporaryDirectory();
  await writeLoadBundles(folder.path);
  await using server = await startServer({
    modelDirs: [folder.path],
    // Two hook workers for each model, whatever the machine.
    args: ["--worker-threads", "4"],
    // V8 lets garbage lie while there is room, for longer than this load lasts; with little room, what
    // stays is what is really kept.
    env: { DENO_V8_FLAGS: "--max-old-space-size=64" },
  });
  using object = new SharedObject(options.clients);
  const slots = Array.from({ length: options.clients }, (_, index) => object.slot(index));
  {
    await using admin = connect(server);
    for (const { region, start } of slots) {
      await admin.inference.call(GRPCInferenceService.method.systemSharedMemoryRegister, {
        name: region,
        key: object.key,
        offset: BigInt(start),
        byteSize: BigInt(SLOT_BYTES),
      });
    }
  }
  const target = `127.0.0.1:${server.grpcPort}`;
  const tally = new Tally();
  const connections = Array.from({ length: CONNECTIONS }, () => new GrpcClient({ target }));
  const clients = slots.map((slot, index) =>
    new LoadClient({
      target,
      grpc: connections[index % CONNECTIONS]!,
      random: new Random(options.seed * 1009 + index),
      slot,
      tally,
    })
  );
  const load = async (seconds: number) => {
    const endMs = performance.now() + seconds * 1000;
    const all = Promise.all(clients.map((client) => client.run(() => performance.now() >= endMs)));
    const samples: Footprint[] = [];
    const sampling = (async () => {
      while (performance.now() < endMs) {
        await delay(SAMPLE_EVERY_MS);
        samples.push(footprint(await readMetrics(server)));
      }
    })();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const tooLong = new Promise((resolve) => {
      timer = setTimeout(resolve, seconds * 1000 + LOST_AFTER_MS);
    });
    await Promise.race([all, tooLong]);
    clearTimeout(timer);
    await sampling;
    return samples;
  };

  const warmUp = Math.min(20, options.seconds / 3);
  await load(warmUp);
  await atRest(server);
  const rest = [footprint(await readMetrics(server))];
  tally.latencies.clear();
  const samples: Footprint[] = [];
  let lost = 0;
  let leftOver = 0;
  const isComplete = () =>
    tally.statuses.size === MODES.length && tally.latencies.size === LOAD_MODELS.length;
  const isDone = () => isComplete() && growing(rest).length === 0;
  for (let round = 0; round < (isDone() ? ROUNDS : MAX_ROUNDS); round++) {
    samples.push(...await load((options.seconds - warmUp) / ROUNDS));
    lost = tally.open;
    leftOver = await atRest(server);
    rest.push(footprint(await readMetrics(server)));
    if (lost > 0) break;
  }
  const last = await readMetrics(server);
  await Promise.all(connections.map((connection) => connection.close()));
  const third = Math.ceil(samples.length / 3);
  return {
    tally,
    lost,
    seconds: options.seconds,
    atRest: rest,
    early: least(samples.slice(0, third)),
    late: least(samples.slice(-third)),
    leftOver,
    hookWorkersLost: total(last, "worker_hook_workers_lost_total"),
    dispatches: total(last, "worker_dispatch_total"),
    served: total(last, "worker_requests_served_total"),
    errors: server.events.filter(({ level }) => level === "error"),
  };
}

/** Waits until the server has nothing in progress; gives what is left after five minutes. */
async function atRest(server: TestServer): Promise<number> {
  for (let attempt = 0;; attempt++) {
    const series = await readMetrics(server);
    const busy = total(series, "worker_inflight_requests") + total(series, "worker_queue_depth");
    if (busy === 0 || attempt === REST_ATTEMPTS) return busy;
    await delay(100);
  }
}

function footprint(series: Series): Footprint {
  return {
    residentBytes: total(series, "process_resident_memory_bytes"),
    heapBytes: total(series, "v8_heap_used_bytes"),
    descriptors: total(series, "process_open_fds"),
    nativeHandles: total(series, "worker_native_handles"),
  };
}

function least(samples: readonly Footprint[]): Footprint {
  const of = (key: keyof Footprint) => Math.min(...samples.map((sample) => sample[key]));
  return {
    residentBytes: of("residentBytes"),
    heapBytes: of("heapBytes"),
    descriptors: of("descriptors"),
    nativeHandles: of("nativeHandles"),
  };
}

/** What grew in every round but one at the most, by more than its slack. */
export function growing(atRest: readonly Footprint[]): string[] {
  return Object.entries(SLACK).filter(([key, slack]) => {
    const sizes = atRest.map((rest) => rest[key as keyof Footprint]);
    const flat = sizes.slice(1).filter((size, index) => size <= sizes[index]! + slack);
    return flat.length < FLAT_ROUNDS;
  }).map(([key]) => key);
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The report as text. */
export function describe(report: MixedLoadReport): string {
  const { tally } = report;
  const mebibytes = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const pair = (name: string, key: keyof Footprint, format: (value: number) => string) =>
    `  ${name.padEnd(16)}${report.atRest.map((rest) => format(rest[key])).join(" -> ")} at rest, ` +
    `${format(report.early[key])} -> ${format(report.late[key])} at least under load`;
  return [
    `${tally.sent} calls in ${report.seconds} s, ${tally.wrong} wrong, ${report.lost} lost; ` +
    `${report.served} served in ${report.dispatches} dispatches, ` +
    `${report.hookWorkersLost} hook workers replaced`,
    ...[...tally.statuses].map(([mode, counts]) =>
      `  ${mode.padEnd(16)}${[...counts].map(([status, n]) => `${status} ${n}`).join(", ")}`
    ),
    "latency of right requests, ms",
    ...LOAD_MODELS.map(({ name }) => {
      const list = Float64Array.from(tally.latencies.get(name) ?? []).sort();
      const at = (share: number) => list[Math.floor((list.length - 1) * share)]?.toFixed(2);
      return `  ${name.padEnd(16)}p50 ${at(0.5)}  p99 ${at(0.99)}  max ${at(1)}  (${list.length})`;
    }),
    "server, after the warm-up -> after each round",
    pair("resident", "residentBytes", mebibytes),
    pair("heap", "heapBytes", mebibytes),
    pair("descriptors", "descriptors", String),
    pair("native handles", "nativeHandles", String),
    ...tally.complaints.map((complaint) => `WRONG ${complaint}`),
    ...report.errors.map((error) => `ERROR ${JSON.stringify(error)}`),
  ].join("\n");
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "60" },
      seed: { type: "string", default: "1" },
      clients: { type: "string", default: "24" },
    },
  });
  const report = await runMixedLoad({
    seconds: Number(values.seconds),
    seed: Number(values.seed),
    clients: Number(values.clients),
  });
  console.log(describe(report));
  if (report.tally.wrong > 0 || report.lost > 0 || report.errors.length > 0) process.exitCode = 1;
}
