/**
 * The native transport against grpc-js, same machine, same run: echoing ModelInfer requests of 3 KB and
 * 1 MiB with many in flight, and passing 3 KB ones through a proxy as the gateway does. Every server is
 * a process of its own, and so is the load generator: nghttp2's h2load, which is faster than anything
 * it measures here.
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { partOf } from "./statistics.ts";

type Transport = "native" | "grpc-js";

interface Scenario {
  readonly name: string;
  readonly bytes: number;
  readonly inFlight: number;
  readonly requests: Record<Transport, number>;
  readonly hasProxy: boolean;
  /** Native over grpc-js, in requests per second. */
  readonly aim: number;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: "echo 3 KB, 16 in flight",
    bytes: 3 << 10,
    inFlight: 16,
    requests: { native: 150_000, "grpc-js": 15_000 },
    hasProxy: false,
    aim: 5,
  },
  {
    name: "echo 1 MiB, 4 in flight",
    bytes: 1 << 20,
    inFlight: 4,
    requests: { native: 1500, "grpc-js": 400 },
    hasProxy: false,
    aim: 2.5,
  },
  {
    name: "pass-through 3 KB, 16 in flight",
    bytes: 3 << 10,
    inFlight: 16,
    requests: { native: 60_000, "grpc-js": 5_000 },
    hasProxy: true,
    aim: 5,
  },
];

interface Figures {
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** Processor time of the server (of the proxy, where there is one). */
  readonly cpuUs: number;
}

const PATH = "/inference.GRPCInferenceService/ModelInfer";

/** `deno task bench transport [--percent N] [--rounds N] [--only TEXT] [--json]`. */
export async function run(args: string[], share: number): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      json: { type: "boolean", default: false },
    },
  });
  if (!await hasH2load()) {
    console.error(
      "bench transport: h2load is not installed (Debian: nghttp2-client); nothing measured",
    );
    process.exitCode = 1;
    return;
  }
  const results: unknown[] = [];
  for (const scenario of SCENARIOS) {
    if (!scenario.name.includes(values.only)) continue;
    console.log(`\n${scenario.name}`);
    const best = {} as Record<Transport, Figures>;
    // Interleaved, and the best of each kept: what else runs on the machine only ever slows one down.
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const transport of ["grpc-js", "native"] as const) {
        const figures = await measure(scenario, transport, share);
        if (!(best[transport]?.perSecond > figures.perSecond)) best[transport] = figures;
      }
    }
    for (const [transport, figures] of Object.entries(best)) print(transport, figures, scenario);
    const ratio = best.native.perSecond / best["grpc-js"].perSecond;
    console.log(
      `  ratio     ${ratio.toFixed(1)} (aim ${scenario.aim}), p99 ` +
        `${(best.native.p99Us / best["grpc-js"].p99Us).toFixed(2)} of grpc-js, CPU ` +
        `${(best.native.cpuUs / best["grpc-js"].cpuUs).toFixed(2)} of grpc-js`,
    );
    results.push({ scenario: scenario.name, ratio, ...best });
  }
  if (values.json) console.log(JSON.stringify(results));
}

function print(transport: string, figures: Figures, scenario: Scenario): void {
  const megabytes = figures.perSecond * scenario.bytes / 1e6;
  console.log(
    `  ${transport.padEnd(8)}  ${figures.perSecond.toFixed(0).padStart(7)} req/s  ` +
      `${megabytes.toFixed(0).padStart(5)} MB/s each way  p50 ${figures.p50Us.toFixed(0)} µs  ` +
      `p99 ${figures.p99Us.toFixed(0)} µs  ${figures.cpuUs.toFixed(1)} µs CPU per request`,
  );
}

async function measure(
  scenario: Scenario,
  transport: Transport,
  share: number,
): Promise<Figures> {
  const echo = await Peer.start("echo", transport);
  const proxy = scenario.hasProxy
    ? await Peer.start("proxy", transport, `127.0.0.1:${echo.port}`)
    : undefined;
  const measured = proxy ?? echo;
  const directory = await Deno.makeTempDir();
  try {
    const body = `${directory}/body`;
    await Deno.writeFile(body, framedModelInfer(scenario.bytes));
    const count = Math.max(scenario.inFlight, partOf(scenario.requests[transport], share));
    // The compiler needs a while to be done with the hot path.
    await h2load(measured.port, body, scenario.inFlight, Math.ceil(count / 5));
    const before = await measured.cpuSeconds();
    const { perSecond, timesUs } = await h2load(
      measured.port,
      body,
      scenario.inFlight,
      count,
      `${directory}/log`,
    );
    const cpuUs = (await measured.cpuSeconds() - before) * 1e6 / count;
    return { perSecond, p50Us: quantile(timesUs, 0.5), p99Us: quantile(timesUs, 0.99), cpuUs };
  } finally {
    await proxy?.stop();
    await echo.stop();
    await Deno.remove(directory, { recursive: true });
  }
}

/** A server process. */
class Peer {
  readonly #child: Deno.ChildProcess;
  readonly port: number;

  private constructor(child: Deno.ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(role: string, transport: Transport, ...rest: string[]): Promise<Peer> {
    const script = fileURLToPath(new URL("./transport_peer.ts", import.meta.url));
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", script, role, transport, ...rest],
      stdout: "piped",
    }).spawn();
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    reader.releaseLock();
    return new Peer(child, Number(new TextDecoder().decode(value)));
  }

  /** User and system time so far, of all threads. */
  async cpuSeconds(): Promise<number> {
    const stat = await Deno.readTextFile(`/proc/${this.#child.pid}/stat`);
    // Fields 14 and 15 (proc(5)), in ticks of 10 ms; the name before them may contain spaces.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  async stop(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.stdout.cancel();
    await this.#child.status;
  }
}

async function hasH2load(): Promise<boolean> {
  try {
    return (await new Deno.Command("h2load", { args: ["--version"] }).output()).success;
  } catch {
    return false;
  }
}

async function h2load(
  port: number,
  body: string,
  inFlight: number,
  requests: number,
  log?: string,
): Promise<{ perSecond: number; timesUs: number[] }> {
  const { stdout } = await new Deno.Command("h2load", {
    args: [
      ...["-n", String(requests), "-c", "1", "-m", String(inFlight), "-d", body],
      // Windows of 1 GiB: the servers are to be measured, not flow control.
      ...["-w", "30", "-W", "30"],
      ...["-H", "content-type: application/grpc", "-H", "te: trailers"],
      ...(log === undefined ? [] : [`--log-file=${log}`]),
      `http://127.0.0.1:${port}${PATH}`,
    ],
  }).output();
  const text = new TextDecoder().decode(stdout);
  const rate = /([\d.]+) req\/s/.exec(text);
  const done = /(\d+) succeeded, (\d+) failed/.exec(text);
  if (rate === null || done === null || Number(done[1]) !== requests) {
    throw new Error(`h2load did not finish its requests:\n${text}`);
  }
  const timesUs = log === undefined
    ? []
    : (await Deno.readTextFile(log)).trim().split("\n").map((line) => Number(line.split("\t")[2]));
  return { perSecond: Number(rate[1]), timesUs };
}

function quantile(values: number[], q: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? NaN;
}

/**
 * A length-prefixed ModelInferRequest: model "echo", input "x" FP32 with its raw contents, about
 * `bytes` long. Written here byte by byte, since transport knows no message type.
 */
function framedModelInfer(bytes: number): Uint8Array {
  const text = (field: number, value: string) => [
    field << 3 | 2,
    value.length,
    ...new TextEncoder().encode(value),
  ];
  const elements = Math.floor((bytes - 40) / 4);
  const shape = [0x18, ...varint(elements)];
  const tensor = [...text(1, "x"), ...text(2, "FP32"), ...shape];
  const head = [
    ...text(1, "echo"),
    ...[5 << 3 | 2, tensor.length, ...tensor],
    ...[7 << 3 | 2, ...varint(elements * 4)],
  ];
  const message = new Uint8Array(5 + head.length + elements * 4);
  new DataView(message.buffer).setUint32(1, message.length - 5);
  message.set(head, 5);
  return message;
}

function varint(value: number): number[] {
  const out: number[] = [];
  for (; value > 0x7f; value >>>= 7) out.push((value & 0x7f) | 0x80);
  return [...out, value];
}
