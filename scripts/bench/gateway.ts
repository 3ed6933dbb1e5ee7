/**
 * `deno task bench gateway [--rounds N]`: the same requests through a gateway and straight to the worker
 * behind it, in turns and in the same run. Once the worker is a real one, once a canned answer, which
 * leaves only the gateway to be measured. Then messages of 100 MiB, and what the gateway keeps of them.
 *
 * Client, gateway and worker are three processes: on two cores they share, and what goes through the
 * gateway has less of a machine than what does not.
 */

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import process from "node:process";
import { encodeInferRequest, encodeInferResponse } from "../../src/protocol/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { GrpcClient, joinMessage } from "../../src/transport/mod.ts";
import { temporaryDirectory } from "../../tests/harness/bundle_builder.ts";
import { startGateway } from "../../tests/harness/fleet.ts";
import { startServer, type TestServer } from "../../tests/harness/server.ts";
import { NO_GO } from "../../tests/harness/go_tools.ts";
import { type GhzFigures, hasGhz, runGhz } from "./ghz.ts";
import { mlpInput, randomFloats, writeMlpBundle } from "./mlp_bundle.ts";
import { Peer } from "./peer.ts";
import { partOf, percentile } from "./statistics.ts";
import { WIDE, writeWideBundle } from "./wide_bundle.ts";

const INFER = "/inference.GRPCInferenceService/ModelInfer";
/** Linux reports process times in this unit to user space (`USER_HZ`, time(7)). */
const TICKS_PER_SECOND = 100;
const HUGE_BYTES = 100 << 20;
const HUGE_PER_ROUND = 5;

interface Scenario {
  readonly name: string;
  readonly model: "mlp" | "wide";
  readonly inFlight: number;
  readonly requests: number;
}

const SCENARIOS: readonly Scenario[] = [
  { name: "3 KB, 1 in flight", model: "mlp", inFlight: 1, requests: 2000 },
  { name: "3 KB, 16", model: "mlp", inFlight: 16, requests: 15_000 },
  { name: "1 MiB, 4", model: "wide", inFlight: 4, requests: 500 },
];

/** A worker and the gateway in front of it. */
interface Pair {
  readonly name: string;
  readonly portOf: (model: Scenario["model"]) => number;
  readonly gatewayOf: (model: Scenario["model"]) => TestServer;
}

interface Round {
  readonly direct: GhzFigures;
  readonly through: GhzFigures;
  readonly cpuMicros: number;
}

export async function run(args: string[], share: number): Promise<void> {
  const { values } = parseArgs({ args, options: { rounds: { type: "string", default: "3" } } });
  if (!hasGhz()) {
    console.error(`bench gateway: no ghz, since ${NO_GO}; nothing measured`);
    process.exitCode = 1;
    return;
  }
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory());
  const messages = await writeMessages(folder.path);
  const pairs: Pair[] = [
    await realPair(stack, folder.path),
    await cannedPair(stack, folder.path),
  ];
  console.log(`${navigator.hardwareConcurrency} processors`);
  console.log(
    "worker  requests           direct/s  through/s  ratio  p99 direct  p99 through  gateway CPU",
  );
  for (const pair of pairs) {
    for (const scenario of SCENARIOS) {
      const rounds: Round[] = [];
      // The first round warms everything up and is not counted.
      for (let round = 0; round <= Number(values.rounds); round++) {
        const measured = await measure(pair, scenario, messages[scenario.model], share);
        if (round > 0) rounds.push(measured);
      }
      print(pair, scenario, rounds);
    }
  }
  console.log("medians of the rounds; p99 in µs; gateway CPU in µs per request, both ways");
  await measureMemory(pairs[1]!.gatewayOf("mlp"), partOf(HUGE_PER_ROUND, share));
}

async function measure(
  pair: Pair,
  scenario: Scenario,
  message: string,
  share: number,
): Promise<Round> {
  const { model, inFlight } = scenario;
  const requests = Math.max(inFlight, partOf(scenario.requests, share));
  const gateway = pair.gatewayOf(model);
  const direct = await runGhz({ port: pair.portOf(model), message, inFlight, requests });
  const before = processorMicros(gateway.pid);
  const through = await runGhz({ port: gateway.grpcPort, message, inFlight, requests });
  return { direct, through, cpuMicros: (processorMicros(gateway.pid) - before) / requests };
}

function print(pair: Pair, { name }: Scenario, rounds: readonly Round[]): void {
  const median = (value: (round: Round) => number) => percentile(rounds.map(value), 0.5);
  const column = (value: number, width: number, digits = 0) =>
    value.toFixed(digits).padStart(width);
  console.log(
    pair.name.padEnd(8) + name.padEnd(18) +
      column(median(({ direct }) => direct.perSecond), 9) +
      column(median(({ through }) => through.perSecond), 11) +
      column(median(({ direct, through }) => through.perSecond / direct.perSecond), 7, 2) +
      column(median(({ direct }) => direct.p99Us), 12) +
      column(median(({ through }) => through.p99Us), 13) +
      column(median(({ cpuMicros }) => cpuMicros), 13),
  );
}

/** What the gateway holds after each handful of very large messages. */
async function measureMemory(gateway: TestServer, perRound: number): Promise<void> {
  const client = new GrpcClient({ target: `127.0.0.1:${gateway.grpcPort}` });
  const data = new Uint8Array(HUGE_BYTES);
  const message = encodeInferRequest({
    modelName: "mlp",
    inputs: [{ name: "x", datatype: "UINT8", shape: [HUGE_BYTES], data }],
  });
  const resident = [residentMebibytes(gateway.pid)];
  for (let round = 0; round < 5; round++) {
    for (let count = 0; count < perRound; count++) await client.unary(INFER, message);
    resident.push(residentMebibytes(gateway.pid));
  }
  await client.close();
  console.log(
    `gateway's memory before and after each ${perRound} messages of 100 MiB: ` +
      `${resident.map((value) => value.toFixed(0)).join(", ")} MiB`,
  );
}

/** One encoded request per model, in files. */
async function writeMessages(folder: string): Promise<Record<Scenario["model"], string>> {
  const inputs: Record<Scenario["model"], NamedTensor> = {
    mlp: mlpInput(),
    wide: { name: "x", datatype: "FP32", shape: [1, WIDE], data: randomFloats(WIDE, 6) },
  };
  const files = {} as Record<Scenario["model"], string>;
  for (const [modelName, input] of Object.entries(inputs) as [Scenario["model"], NamedTensor][]) {
    files[modelName] = `${folder}/${modelName}.request`;
    await Deno.writeFile(
      files[modelName],
      joinMessage(encodeInferRequest({ modelName, inputs: [input] })),
    );
  }
  return files;
}

async function realPair(stack: AsyncDisposableStack, folder: string): Promise<Pair> {
  await writeMlpBundle(`${folder}/models`, [1, 4, 16]);
  await writeWideBundle(`${folder}/models`);
  const worker = stack.use(await startServer({ modelDirs: [`${folder}/models`] }));
  const gateway = stack.use(await gatewayFor(worker.grpcPort));
  return { name: "real", portOf: () => worker.grpcPort, gatewayOf: () => gateway };
}

async function cannedPair(stack: AsyncDisposableStack, folder: string): Promise<Pair> {
  const pairs = {} as Record<Scenario["model"], { peer: Peer; gateway: TestServer }>;
  for (const [model, outputs] of [["mlp", 10], ["wide", WIDE]] as const) {
    const answer = `${folder}/${model}.answer`;
    const data = randomFloats(outputs, 7);
    const tensor: NamedTensor = { name: "y", datatype: "FP32", shape: [1, outputs], data };
    await Deno.writeFile(
      answer,
      joinMessage(encodeInferResponse({ modelName: model, outputs: [tensor] })),
    );
    const peer = stack.use(await Peer.start("canned_peer.ts", [answer, model]));
    pairs[model] = { peer, gateway: stack.use(await gatewayFor(peer.port)) };
  }
  return {
    name: "canned",
    portOf: (model) => pairs[model].peer.port,
    gatewayOf: (model) => pairs[model].gateway,
  };
}

function gatewayFor(port: number): Promise<TestServer> {
  return startGateway(["--gateway-workers", `127.0.0.1:${port}`]);
}

/** Processor time a process has spent. */
function processorMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // utime and stime, fields 14 and 15 of proc_pid_stat(5), counted behind the command in brackets.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 1e6 / TICKS_PER_SECOND;
}

function residentMebibytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024;
}
