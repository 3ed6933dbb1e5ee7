/**
 * `deno task bench serve [--rounds N]`: the whole server under ghz, with the requests that other servers
 * were measured with: a small perceptron (784-512-10) with 1, 16 and 64 requests in flight, and 1 MiB
 * tensors with 4. Beside it, in turns and in the same run: our own transport with a canned answer (the same
 * wire, no model), a Go server with a canned answer, and the model in this process (no wire). Where the other
 * servers were measured the Go server reached 160 µs, 24 600 requests and 467 MB per second; the last column
 * is our aim there as a share of that, to be compared with the column before it on a machine of any speed.
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { encodeInferRequest, encodeInferResponse } from "../../src/protocol/mod.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { joinMessage } from "../../src/transport/mod.ts";
import { temporaryDirectory } from "../../tests/harness/bundle_builder.ts";
import { NO_GO } from "../../tests/harness/go_tools.ts";
import { startServer } from "../../tests/harness/server.ts";
import { type GoFloor, startGoFloor } from "./go_floor.ts";
import { type GhzFigures, hasGhz, runGhz } from "./ghz.ts";
import { type InProcess, openInProcess } from "./in_process.ts";
import { mlpInput, randomFloats, writeMlpBundle } from "./mlp_bundle.ts";
import { Peer } from "./peer.ts";
import { partOf, percentile, timeEach } from "./statistics.ts";
import { WIDE, writeWideBundle } from "./wide_bundle.ts";

const MLP_SIZES = [1, 4, 16, 32];

interface Scenario {
  readonly name: string;
  readonly model: "mlp" | "wide";
  readonly inFlight: number;
  readonly requests: number;
  /** Rows that one dispatch can serve with so many requests in flight. */
  readonly rows: number;
  readonly shows: "p50" | "req/s" | "MB/s";
  /** What we aim at, by what the Go server reached on the machine of both figures. */
  readonly aim?: number;
}

const SCENARIOS: readonly Scenario[] = [
  {
    name: "MLP, 1 in flight",
    model: "mlp",
    inFlight: 1,
    requests: 3000,
    rows: 1,
    shows: "p50",
    aim: 300 / 160,
  },
  {
    name: "MLP, 16",
    model: "mlp",
    inFlight: 16,
    requests: 20_000,
    rows: 16,
    shows: "req/s",
    aim: 15_000 / 24_600,
  },
  {
    name: "MLP, 64",
    model: "mlp",
    inFlight: 64,
    requests: 20_000,
    rows: 32,
    shows: "req/s",
  },
  { name: "1 MiB, 4", model: "wide", inFlight: 4, requests: 600, rows: 1, shows: "MB/s", aim: 1 },
];

interface Row {
  readonly served: number[];
  readonly canned: number[];
  /** Empty without Go. */
  readonly goFloor: number[];
  readonly inProcess: number[];
}

export async function run(args: string[], share: number): Promise<void> {
  const { values } = parseArgs({ args, options: { rounds: { type: "string", default: "3" } } });
  if (!hasGhz()) {
    console.error(`bench serve: no ghz, since ${NO_GO}; nothing measured`);
    process.exitCode = 1;
    return;
  }
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory());
  const inputs: Record<Scenario["model"], NamedTensor> = {
    mlp: mlpInput(),
    wide: { name: "x", datatype: "FP32", shape: [1, WIDE], data: randomFloats(WIDE, 6) },
  };
  const models = {} as Record<
    Scenario["model"],
    { local: InProcess; message: string; canned: Peer; goFloor: GoFloor | undefined }
  >;
  for (const [model, input] of Object.entries(inputs) as [Scenario["model"], NamedTensor][]) {
    const bundle = model === "mlp"
      ? await writeMlpBundle(`${folder.path}/models`, MLP_SIZES)
      : await writeWideBundle(`${folder.path}/models`);
    const local = stack.use(await openInProcess(bundle));
    const message = `${folder.path}/${model}.request`;
    await Deno.writeFile(
      message,
      joinMessage(encodeInferRequest({ modelName: model, inputs: [input] })),
    );
    const data = await local.once(1, [input]);
    const shape = [1, data.length / 4];
    const answer = `${folder.path}/${model}.answer`;
    await Deno.writeFile(
      answer,
      joinMessage(encodeInferResponse({
        modelName: model,
        outputs: [{ name: "y", datatype: "FP32", shape, data }],
      })),
    );
    models[model] = {
      local,
      message,
      canned: stack.use(await Peer.start("canned_peer.ts", [answer])),
      goFloor: stack.use(await startGoFloor(answer)),
    };
  }
  const server = stack.use(await startServer({ modelDirs: [`${folder.path}/models`] }));

  const table = SCENARIOS.map((): Row => ({ served: [], canned: [], goFloor: [], inProcess: [] }));
  // The first round warms both servers up and is not counted.
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [index, scenario] of SCENARIOS.entries()) {
      const { local, message, canned, goFloor } = models[scenario.model];
      const ghz = (port: number) =>
        runGhz({
          port,
          message,
          inFlight: scenario.inFlight,
          requests: Math.max(scenario.inFlight, partOf(scenario.requests, share)),
        });
      const row: Record<keyof Row, number> = {
        served: figureOf(scenario, await ghz(server.grpcPort)),
        canned: figureOf(scenario, await ghz(canned.port)),
        goFloor: goFloor === undefined ? NaN : figureOf(scenario, await ghz(goFloor.port)),
        inProcess: await inProcessFigure(scenario, local, inputs[scenario.model], share),
      };
      if (round === 0) continue;
      for (const key of Object.keys(row) as (keyof Row)[]) table[index]![key].push(row[key]);
    }
  }
  print(table);
}

function figureOf({ shows }: Scenario, { p50Us, perSecond }: GhzFigures): number {
  if (shows === "p50") return p50Us;
  return shows === "req/s" ? perSecond : perSecond * WIDE * 4 / 1e6;
}

/** One dispatch after the other, each with as many rows as the server can put into one. */
async function inProcessFigure(
  scenario: Scenario,
  local: InProcess,
  input: NamedTensor,
  share: number,
): Promise<number> {
  const { rows } = scenario;
  const data = new Uint8Array(rows * input.data.length);
  for (let row = 0; row < rows; row++) data.set(input.data, row * input.data.length);
  const batch = { ...input, shape: input.shape.with(0, rows), data };
  const times = await timeEach(
    partOf(scenario.model === "mlp" ? 1500 : 300, share),
    () => local.once(rows, [batch]),
  );
  const p50Us = percentile(times, 0.5);
  return figureOf(scenario, { p50Us, p99Us: p50Us, perSecond: rows * 1e6 / p50Us });
}

function print(table: readonly Row[]): void {
  console.log(
    "scenario            unit    served   canned  Go canned  in process  served/canned" +
      "  served/in process  served/Go  aim",
  );
  for (const [index, { name, shows, aim }] of SCENARIOS.entries()) {
    const row = table[index]!;
    const median = (key: keyof Row) => percentile(row[key], 0.5).toFixed(0);
    const ratio = (key: keyof Row) =>
      percentile(row.served.map((value, round) => value / row[key][round]!), 0.5).toFixed(2);
    console.log(
      name.padEnd(20) + (shows === "p50" ? "p50 µs" : shows).padEnd(6) +
        median("served").padStart(8) + median("canned").padStart(9) +
        median("goFloor").padStart(11) + median("inProcess").padStart(12) +
        ratio("canned").padStart(15) + ratio("inProcess").padStart(19) +
        ratio("goFloor").padStart(11) + (aim?.toFixed(2) ?? "").padStart(6),
    );
  }
  console.log(
    "medians of the rounds; MB/s each way; in process: rows per second at that batch size; " +
      "p50: less is better",
  );
}
