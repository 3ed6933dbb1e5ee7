/**
 * `deno task bench NAME [options]`: benchmarks that print ratios against a baseline measured in the same
 * run. Machines differ and are noisy; a ratio taken on one of them in one run is what can be compared.
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

type Run = (args: string[]) => Promise<void>;

if (import.meta.main) {
  const [name, ...args] = Deno.args;
  const bench = name === undefined ? undefined : BENCHES[name];
  if (!bench) {
    console.error("usage: deno task bench NAME [options]\n");
    for (const [known, { summary }] of Object.entries(BENCHES)) {
      console.error(`  ${known.padEnd(12)}${summary}`);
    }
    process.exitCode = 2;
  } else {
    await (await bench.load()).run(args);
  }
}
