/**
 * `deno task bench coalesce [--rounds N] [--layers N]`: 64 closed-loop clients against a model whose time goes into
 * dispatching, a chain of many small layers, compiled for batches of 1, 4, 16 and 32; and against the same
 * model compiled for single requests only, in turns. Then the scheduler alone.
 */

import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { encodeInferRequest, encodeInferResponse } from "../../src/protocol/mod.ts";
import { joinMessage } from "../../src/transport/mod.ts";
import {
  rowMajorBundle,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { connect } from "../../tests/harness/client.ts";
import { TextLineStream } from "../../tests/harness/lines.ts";
import { startServer } from "../../tests/harness/server.ts";
import { openInProcess } from "./in_process.ts";
import { randomFloats } from "./mlp_bundle.ts";
import { schedulerCost } from "./scheduler_cost.ts";
import { percentile } from "./statistics.ts";

const CLIENTS = 64;
const SIZES = [1, 4, 16, 32];
const SECONDS_PER_ROUND = 3;
const WIDTH = 64;
/** What dispatches of a dispatch-bound model are to gain by sharing. */
const AIM = 3;

export async function run(args: string[], share: number): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: "string", default: "4" },
      layers: { type: "string", default: "100" },
    },
  });
  await serverRatio({
    rounds: Number(values.rounds),
    layers: Number(values.layers),
    seconds: SECONDS_PER_ROUND * share,
  });
  await schedulerTable(share);
}

async function serverRatio(
  { rounds, layers, seconds }: { rounds: number; layers: number; seconds: number },
): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory());
  const bundle = await writeLayersBundle(folder.path, "batched", SIZES, layers);
  await writeLayersBundle(folder.path, "single", [1], layers);
  const input = {
    name: "x",
    datatype: "FP32" as const,
    shape: [1, WIDTH],
    data: randomFloats(WIDTH, 3),
  };
  let data: Uint8Array;
  {
    await using local = await openInProcess(bundle);
    data = await local.once(1, [input]);
  }
  const server = stack.use(await startServer({ modelDirs: [folder.path] }));
  const client = stack.use(connect(server));
  const load = async (model: string) => {
    const [request, answer] = [`${folder.path}/${model}.request`, `${folder.path}/${model}.answer`];
    const outputs = [{ name: "y", datatype: "FP32", shape: [1, WIDTH], data }];
    const message = encodeInferRequest({ modelName: model, inputs: [input] });
    await Deno.writeFile(request, joinMessage(message));
    await Deno.writeFile(answer, joinMessage(encodeInferResponse({ modelName: model, outputs })));
    return stack.use(new Load(server.grpcPort, request, answer));
  };
  const [batched, single] = [await load("batched"), await load("single")];
  await batched.perSecond(seconds);
  await single.perSecond(seconds);
  const histogram = async () => {
    const [statistics] = await client.inference.modelStatistics("batched");
    return new Map(
      statistics!.batchStats.map((entry) => [
        Number(entry.batchSize),
        Number(entry.computeInfer!.count),
      ]),
    );
  };

  const before = await histogram();
  const ratios: number[] = [];
  console.log(`${CLIENTS} closed-loop clients, ${layers} layers of ${WIDTH}, requests per second`);
  for (let round = 1; round <= rounds; round++) {
    const [together, alone] = [
      await batched.perSecond(seconds),
      await single.perSecond(seconds),
    ];
    ratios.push(together / alone);
    console.log(
      `  round ${round}: batches of ${SIZES} ${together.toFixed(0)}, single ${alone.toFixed(0)}, ` +
        `ratio ${(together / alone).toFixed(1)}`,
    );
  }
  console.log(`  median ratio ${percentile(ratios, 0.5).toFixed(1)} (aim: at least ${AIM})`);
  const after = await histogram();
  const dispatches = SIZES.map((size) => (after.get(size) ?? 0) - (before.get(size) ?? 0));
  const all = dispatches.reduce((sum, count) => sum + count, 0);
  console.log("  dispatches by size, from ModelStatistics");
  for (const [index, size] of SIZES.entries()) {
    const share = dispatches[index]! / all;
    console.log(
      `    ${String(size).padStart(3)}  ${String(dispatches[index]).padStart(6)}  ` +
        `${(share * 100).toFixed(1).padStart(5)} %  ${"#".repeat(Math.round(share * 50))}`,
    );
  }
}

async function schedulerTable(share: number): Promise<void> {
  console.log("scheduler alone, processor time per request (64 callers, a run that costs nothing)");
  console.log("  models      busy  discipline  batches   one by one");
  for (
    const [models, busy, discipline] of [
      [1, 1, "fair"],
      [1, 1, "fifo"],
      [1, 1, "edf"],
      [100, 1, "fair"],
      [100, 100, "fair"],
      [100, 100, "edf"],
    ] as const
  ) {
    const common = { models, busy, discipline, share };
    const together = await schedulerCost({ ...common, sizes: SIZES });
    const alone = await schedulerCost({ ...common, sizes: [1] });
    console.log(
      `  ${String(models).padStart(6)}${String(busy).padStart(10)}  ${discipline.padEnd(10)}` +
        `${together.toFixed(2).padStart(6)} µs${alone.toFixed(2).padStart(9)} µs`,
    );
  }
}

/** Clients in a process of their own. */
class Load implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;

  constructor(port: number, request: string, answer: string) {
    const script = fileURLToPath(new URL("closed_loop.ts", import.meta.url));
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", script, `${port}`, request, answer, `${CLIENTS}`],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream())
      .pipeThrough(new TextLineStream()).getReader();
  }

  /** Runs the clients for some seconds and gives their answers per second. */
  async perSecond(seconds: number): Promise<number> {
    await this.#writer.write(new TextEncoder().encode(`${seconds}\n`));
    const { value, done } = await this.#lines.read();
    if (done) throw new Error("the clients ended early");
    return Number(value);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#lines.cancel();
    await this.#child.status;
  }
}

/** `x` FP32 [n, 64] through layers `y = max(x · kernel, 0) + x`, all with one kernel. */
function writeLayersBundle(
  root: string,
  name: string,
  sizes: readonly number[],
  layers: number,
): Promise<string> {
  const kernel = `${WIDTH}x${WIDTH}xf32`;
  const program = (type: string) => {
    const body = [`%zero = stablehlo.constant dense<0.0> : tensor<${type}>`];
    let last = "%arg0";
    for (let layer = 0; layer < layers; layer++) {
      body.push(
        `%d${layer} = stablehlo.dot_general ${last}, %arg1, contracting_dims = [1] x [0] : ` +
          `(tensor<${type}>, tensor<${kernel}>) -> tensor<${type}>`,
        `%m${layer} = stablehlo.maximum %d${layer}, %zero : tensor<${type}>`,
        `%s${layer} = stablehlo.add %m${layer}, ${last} : tensor<${type}>`,
      );
      last = `%s${layer}`;
    }
    return stablehlo([type, kernel], [type], body, [last]);
  };
  const data = randomFloats(WIDTH ** 2, 9);
  const weights = [{ name: "kernel", dtype: "F32", shape: [WIDTH, WIDTH], data }];
  const tensors = { inputs: ["x"], outputs: ["y"], dtype: "f32", width: WIDTH };
  return writeBundle(root, name, rowMajorBundle({ ...tensors, sizes, program, weights }));
}
