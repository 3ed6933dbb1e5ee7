/**
 * A node under load while its processes are killed, stopped and slowed, one blow after the other from a
 * seed. Every answer is checked, and what is left behind afterwards is counted.
 *
 *     deno run -A tests/harness/chaos/chaos.ts [--seconds 120] [--seed 1] [--workers 3] [--clients 12]
 *
 * One worker at least is always left in peace, so with a replica on each no request has a reason to fail
 * while the gateway lives. When the gateway itself is killed, calls in flight break with UNAVAILABLE and
 * the client sends them again, as any client of a proxy has to.
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { ServerError } from "../../../src/errors.ts";
import { decodeInferResponse, encodeInferRequest } from "../../../src/protocol/mod.ts";
import { Random } from "../../../src/protocol/testing/random.ts";
import { GrpcClient } from "../../../src/transport/mod.ts";
import { temporaryDirectory, writeBundle } from "../bundle_builder.ts";
import { LOAD_MODELS } from "../load/models.ts";
import type { Slot } from "../load/regions.ts";
import { isAlive } from "../node.ts";
import { isFree } from "../ports.ts";
import { until } from "../until.ts";
import { type ChaosNode, readyWorkers, startChaosNode, type StartedChild } from "./node_process.ts";

const INFER = "/inference.GRPCInferenceService/ModelInfer";
const MODELS = LOAD_MODELS.filter(({ name }) =>
  ["plain", "batched", "scalar", "bf16"].includes(name)
);
/** Longest that a client's connection backs off before it tries the new gateway. */
const RECONNECT_MS = 30_000;
/** Longest that a request may take over all its tries. */
const PATIENCE_MS = 300_000;

export interface ChaosOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly workers: number;
  readonly clients: number;
}

/** What is done to a process. */
type Blow = "worker killed" | "worker stopped" | "worker slowed" | "gateway killed";

export interface ChaosReport {
  readonly answered: number;
  /** Answers that were not the right ones, and calls that failed for good. */
  readonly complaints: readonly string[];
  /** Calls that broke off with the gateway and were sent again. */
  readonly sentAgain: number;
  /** How often each blow fell. */
  readonly blows: ReadonlyMap<Blow, number>;
  /** From each blow (for stopped and slowed ones from its end) to all being well again, in ms. */
  readonly recoveryMs: ReadonlyMap<Blow, readonly number[]>;
  readonly exitCode: number;
  /** Processes, ports and shared-memory objects that outlived the node. */
  readonly leftOver: readonly string[];
  readonly latencyMs: { readonly p50: number; readonly p99: number; readonly max: number };
  readonly log: string;
}

/** Runs the chaos; prints nothing. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await using folder = await temporaryDirectory();
  const modelDir = `${folder.path}/models`;
  await Deno.mkdir(modelDir);
  for (const { name, files } of MODELS) await writeBundle(modelDir, name, files);
  const node = await startChaosNode({ modelDir, workers: options.workers, folder: folder.path });
  await using _stopped = node;
  const load = new Load(node, options);
  const blows = new Blows(node, options, load.gatewayAbsences);
  const clients = load.run();
  await blows.run();
  load.isOver = true;
  await clients;
  node.kill("SIGTERM");
  const { code } = await node.exited;
  const leftOver = [
    ...node.children.filter(({ pid }) => isAlive(pid)).map(({ name, pid }) => `${name} (${pid})`),
    ...node.ports.filter((port) => !isFree(port)).map((port) => `port ${port}`),
    ...sharedMemoryOf(modelDir),
  ];
  const sorted = load.latencies.sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, sorted.length * share | 0)] ?? 0;
  return {
    answered: load.latencies.length,
    complaints: load.complaints,
    sentAgain: load.sentAgain,
    blows: blows.counts,
    recoveryMs: blows.recoveryMs,
    exitCode: code,
    leftOver,
    latencyMs: { p50: at(0.5), p99: at(0.99), max: at(1) },
    log: node.tail(),
  };
}

/** Those that come at least once, however long that takes. */
const NEEDED: readonly Blow[] = ["worker killed", "gateway killed"];
const WORKER_BLOWS: readonly Blow[] = ["worker killed", "worker stopped", "worker slowed"];

/** Clients in a closed loop. */
class Load {
  isOver = false;
  sentAgain = 0;
  readonly latencies: number[] = [];
  readonly complaints: string[] = [];
  /** When the gateway was killed; `toMs` once it serves again. */
  readonly gatewayAbsences: { toMs: number | undefined }[] = [];
  readonly #node: ChaosNode;
  readonly #options: ChaosOptions;

  constructor(node: ChaosNode, options: ChaosOptions) {
    this.#node = node;
    this.#options = options;
  }

  async run(): Promise<void> {
    const { seed, clients } = this.#options;
    const connections = [0, 1].map(() =>
      new GrpcClient({ target: `127.0.0.1:${this.#node.grpcPort}` })
    );
    try {
      await Promise.all(Array.from({ length: clients }, async (_, index) => {
        const random = new Random(seed * 1000 + index);
        while (!this.isOver) await this.#ask(connections[index % 2]!, random);
      }));
    } finally {
      for (const connection of connections) await connection.close();
    }
  }

  async #ask(grpc: GrpcClient, random: Random): Promise<void> {
    // None of these models uses shared memory.
    const { request, check } = random.pick(MODELS).ask(random, undefined as unknown as Slot, false);
    const message = encodeInferRequest(request);
    const startMs = performance.now();
    while (true) {
      const triedMs = performance.now();
      try {
        const answer = await grpc.unary(INFER, message, { deadlineMs: startMs + PATIENCE_MS });
        this.latencies.push(performance.now() - startMs);
        const wrong = check(decodeInferResponse(answer.message));
        if (wrong !== undefined) this.complaints.push(`${request.modelName}: ${wrong}`);
        return;
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
        const isGatewayGone = error.status === "UNAVAILABLE" && this.#gatewayWasDown(triedMs);
        if (!isGatewayGone || performance.now() > startMs + PATIENCE_MS) {
          this.complaints.push(
            `${request.modelName}: ${error.status} after ${
              Math.round(performance.now() - startMs)
            } ms: ${error.message}`,
          );
          return;
        }
        this.sentAgain++;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** Whether there was no gateway, or one that knew no worker yet, at any time since. */
  #gatewayWasDown(sinceMs: number): boolean {
    return this.gatewayAbsences.some(({ toMs }) =>
      toMs === undefined || toMs + RECONNECT_MS >= sinceMs
    );
  }
}

/** One blow after the other, some while the last one's victim is still down. */
class Blows {
  readonly counts = new Map<Blow, number>();
  readonly recoveryMs = new Map<Blow, number[]>();
  readonly #node: ChaosNode;
  readonly #options: ChaosOptions;
  readonly #random: Random;
  readonly #absences: { toMs: number | undefined }[];
  readonly #victims = new Set<string>();
  readonly #pending = new Set<Promise<void>>();
  #gatewayKills = 0;
  /** What is still to come before every kind comes again. */
  #kinds: Blow[] = ["worker killed"];

  constructor(
    node: ChaosNode,
    options: ChaosOptions,
    absences: { toMs: number | undefined }[],
  ) {
    this.#absences = absences;
    this.#node = node;
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  async run(): Promise<void> {
    const { seconds } = this.#options;
    const startMs = performance.now();
    const isTime = () => performance.now() - startMs < seconds * 1000;
    while (isTime() || !NEEDED.every((blow) => this.counts.has(blow))) {
      await pause(500 + this.#random.below(1500));
      const victim = await this.#victim();
      // The gateway comes back slower each time, so it is spared after one kill every 40 s.
      if (performance.now() - startMs > this.#gatewayKills * 40_000 + 6000) {
        this.#gatewayKills++;
        await this.#strike("gateway killed", "gateway");
      } else if (victim !== undefined) {
        this.#strike(this.#nextBlow(), victim);
      }
    }
    await Promise.all(this.#pending);
  }

  #nextBlow(): Blow {
    if (this.#kinds.length === 0) this.#kinds = [...WORKER_BLOWS];
    return this.#kinds.splice(this.#random.below(this.#kinds.length), 1)[0]!;
  }

  /** A worker that may be struck: at least one other is ready and left alone. */
  async #victim(): Promise<string | undefined> {
    const ready = (await readyWorkers(this.#node)).filter((name) => !this.#victims.has(name));
    return ready.length < 2 ? undefined : this.#random.pick(ready);
  }

  #strike(blow: Blow, name: string): Promise<void> {
    this.counts.set(blow, (this.counts.get(blow) ?? 0) + 1);
    this.#victims.add(name);
    const child = this.#node.children.findLast((started) => started.name === name)!;
    const done = this.#carryOut(blow, child).finally(() => {
      this.#victims.delete(name);
      this.#pending.delete(done);
    });
    this.#pending.add(done);
    return done;
  }

  async #carryOut(blow: Blow, child: StartedChild): Promise<void> {
    const { pid, name } = child;
    const absence = { toMs: undefined as number | undefined };
    if (blow === "gateway killed") this.#absences.push(absence);
    if (blow === "worker killed" || blow === "gateway killed") {
      send(pid, "SIGKILL");
    } else if (blow === "worker stopped") {
      send(pid, "SIGSTOP");
      await pause(2000 + this.#random.below(12_000));
      send(pid, "SIGCONT");
    } else {
      const endMs = performance.now() + 3000;
      while (performance.now() < endMs) {
        send(pid, "SIGSTOP");
        await pause(180);
        send(pid, "SIGCONT");
        await pause(20);
      }
    }
    const fromMs = performance.now();
    if (blow === "gateway killed") {
      // On a busy machine it may live, and answer, for a moment more.
      await until(() => !isAlive(pid), "the gateway is dead");
      await until(async () => (await readyWorkers(this.#node)).length > 0, "the gateway is back");
      absence.toMs = performance.now();
    } else {
      if (blow === "worker killed") {
        const restarted = () =>
          this.#node.children.some((it) => it.name === name && it.atMs > fromMs);
        await until(restarted, `${name} is started again`);
      }
      await until(async () => (await readyWorkers(this.#node)).includes(name), `${name} is back`);
    }
    const list = this.recoveryMs.get(blow) ?? [];
    this.recoveryMs.set(blow, [...list, performance.now() - fromMs]);
  }
}

function send(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch (error) {
    // It may have ended by itself, having been taken for hung.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Shared-memory objects whose header names a weights file in this folder; others are other processes'. */
function sharedMemoryOf(modelDir: string): string[] {
  return [...Deno.readDirSync("/dev/shm")].map(({ name }) => `/dev/shm/${name}`).filter((path) => {
    try {
      using file = Deno.openSync(path);
      const header = new Uint8Array(4096);
      file.readSync(header);
      return new TextDecoder().decode(header).includes(`${modelDir}/`);
    } catch {
      // It was somebody else's, and is gone.
      return false;
    }
  });
}

/** The report as lines of text. */
export function describeChaos(report: ChaosReport): string {
  const { answered, complaints, sentAgain, latencyMs, exitCode, leftOver } = report;
  const rows = [...report.blows].map(([blow, count]) => {
    const times = [...report.recoveryMs.get(blow) ?? []].sort((a, b) => a - b);
    const seconds = (ms: number | undefined) => ms === undefined ? "-" : (ms / 1000).toFixed(1);
    return `  ${blow.padEnd(15)} ${count} times; well again after ${
      seconds(times[times.length >> 1])
    } s (median), ${seconds(times.at(-1))} s (longest)`;
  });
  return [
    `${answered} answers, ${complaints.length} wrong or failed, ${sentAgain} sent again`,
    `latency p50 ${latencyMs.p50.toFixed(1)} ms, p99 ${latencyMs.p99.toFixed(1)} ms, longest ${
      latencyMs.max.toFixed(0)
    } ms`,
    ...rows,
    `exit code ${exitCode}; left over: ${leftOver.join(", ") || "nothing"}`,
    ...complaints.slice(0, 10).map((complaint) => `  ! ${complaint}`),
  ].join("\n");
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "120" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
      workers: { type: "string", default: "3" },
      clients: { type: "string", default: "12" },
    },
  });
  const options = Object.fromEntries(
    Object.entries(values).map(([key, value]) => [key, Number(value)]),
  ) as unknown as ChaosOptions;
  console.log(`seed ${options.seed}, ${options.seconds} s, ${options.workers} workers`);
  const report = await runChaos(options);
  console.log(describeChaos(report));
  const isWell = report.complaints.length + report.leftOver.length + report.exitCode === 0;
  if (!isWell) console.log(report.log);
  process.exitCode = isWell ? 0 : 1;
}
