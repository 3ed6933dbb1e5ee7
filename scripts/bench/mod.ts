/**
 * `deno task bench NAME [options]`: benchmarks that print ratios against a baseline measured in the same
 * run. Machines differ and are noisy; a ratio taken on one of them in one run is what can be compared.
 *
 * `--percent N` (100) makes every round so much of its usual length, in requests or seconds. What a few
 * percent print is no measurement; it shows that the benchmark runs and that its answers are right.
 */

import process from "node:process";

const BENCHES: Record<string, { summary: string; load: () => Promise<{ run: Run }> }> = {
  infer: {
    summary: "one client's latency through gRPC over the bare host-device-execute-host loop",
    load: () => import("./infer.ts"),
  },
  startup: {
    summary: "starts that compile against starts that load from the executable cache",
    load: () => import("./startup.ts"),
  },
  serve: {
    summary: "the whole server under ghz, beside a canned answer and the in-process loop",
    load: () => import("./serve.ts"),
  },
  coalesce: {
    summary: "batches against single requests, and what the scheduler itself costs",
    load: () => import("./coalesce.ts"),
  },
  shm: {
    summary: "16 MiB inputs through shared memory against the wire",
    load: () => import("./shm.ts"),
  },
  weights: {
    summary:
      "forty models over memory for eight: hit rate, load bandwidth, throughput, shared memory",
    load: () => import("./weights.ts"),
  },
  gateway: {
    summary: "through the gateway against direct to a worker: throughput, p99, CPU, memory",
    load: () => import("./gateway.ts"),
  },
  transport: {
    summary: "the native HTTP/2 transport against grpc-js",
    load: () => import("./transport.ts"),
  },
};

/** `share` is how much of its usual requests or seconds a round takes, above 0. */
type Run = (args: string[], share: number) => Promise<void>;

/** The share that `--percent` says, and what else was given. */
function takePercent(args: readonly string[]): { share: number; rest: string[] } {
  const at = args.indexOf("--percent");
  if (at < 0) return { share: 1, rest: [...args] };
  return { share: Number(args[at + 1]) / 100, rest: args.toSpliced(at, 2) };
}

if (import.meta.main) {
  const [name, ...args] = Deno.args;
  const bench = name === undefined ? undefined : BENCHES[name];
  const { share, rest } = takePercent(args);
  if (!bench || !(share > 0)) {
    console.error("usage: deno task bench NAME [--percent N] [options]\n");
    for (const [known, { summary }] of Object.entries(BENCHES)) {
      console.error(`  ${known.padEnd(12)}${summary}`);
    }
    process.exitCode = 2;
  } else {
    await (await bench.load()).run(rest, share);
  }
}
