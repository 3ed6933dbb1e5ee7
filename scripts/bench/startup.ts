/**
 * `deno task bench startup`: what the executable cache saves. Twenty models are started with an empty
 * cache, then with the one that start filled: time spent compiling against time spent loading what was
 * compiled, and time to ready. Both starts must answer alike, to the bit.
 */

import { fileURLToPath } from "node:url";
import { InferenceClient } from "../../src/client/mod.ts";
import { elementCount, type NamedTensor } from "../../src/tensor/mod.ts";
import { GrpcClient } from "../../src/transport/mod.ts";
import {
  safetensors,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { startServer } from "../../tests/harness/server.ts";
import { randomFloats } from "./mlp_bundle.ts";
import { partOf, percentile } from "./statistics.ts";

/** Besides `digits`, which is a program as JAX exports it. */
const SYNTHETIC_MODELS = 19;
const BATCH_SIZES = [1, 8, 32];
const FEATURES = 64;
const LAYERS = 4;
const WARM_STARTS = 3;
const DIGITS = fileURLToPath(new URL("../../examples/digits/bundle", import.meta.url));

/** One start of the server. */
interface Start {
  readonly programs: number;
  readonly cached: number;
  /** Compiling or loading, summed over the programs. */
  readonly programSeconds: number;
  /** From starting the process until every model is ready. */
  readonly readySeconds: number;
  /** By model and batch size, every bit. */
  readonly answers: ReadonlyMap<string, string>;
}

export async function run(_args: readonly string[], share: number): Promise<void> {
  const warmStarts = partOf(WARM_STARTS, share);
  const synthetic = partOf(SYNTHETIC_MODELS, share);
  await using folder = await temporaryDirectory();
  const models = `${folder.path}/models`;
  for (let index = 0; index < synthetic; index++) await writeModel(models, index);
  const modelDirs = [models, DIGITS];
  const cacheDir = `${folder.path}/cache`;

  console.log(`${synthetic + 1} models, batch sizes ${BATCH_SIZES}`);
  const cold = await measure("cold", synthetic, modelDirs, cacheDir);
  if (cold.cached !== 0) throw new Error("two models share a program");
  const warm: Start[] = [];
  for (let round = 1; round <= warmStarts; round++) {
    const start = await measure(`warm ${round}`, synthetic, modelDirs, cacheDir);
    for (const [request, answer] of cold.answers) {
      if (start.answers.get(request) !== answer) throw new Error(`${request} answers differently`);
    }
    if (start.cached !== start.programs) throw new Error("a warm start compiled something");
    warm.push(start);
  }
  const compared = cold.answers.size * warmStarts;
  console.log(`${compared} answers of warm starts are those of the cold one, to the bit`);
  const median = (of: (start: Start) => number) => percentile(warm.map(of), 0.5);
  const compileRatio = cold.programSeconds / median(({ programSeconds }) => programSeconds);
  const readyRatio = cold.readySeconds / median(({ readySeconds }) => readySeconds);
  console.log(
    `compiling over loading: ${compileRatio.toFixed(1)} (aim: at least 10); ` +
      `time to ready: ${readyRatio.toFixed(1)}`,
  );
}

async function measure(
  label: string,
  synthetic: number,
  modelDirs: readonly string[],
  cacheDir: string,
): Promise<Start> {
  const startMs = performance.now();
  await using server = await startServer({
    modelDirs,
    args: ["--cache-dir", cacheDir],
    timeoutMs: 300_000,
  });
  const readySeconds = (performance.now() - startMs) / 1000;
  const loaded = server.events.filter(({ message }) => message === "model loaded");
  if (loaded.length !== synthetic + 1) {
    throw new Error(`only ${loaded.length} models loaded`);
  }
  const sum = (field: string) => loaded.reduce((total, event) => total + Number(event[field]), 0);
  const start = {
    programs: sum("programs"),
    cached: sum("programsCached"),
    programSeconds: sum("programSeconds"),
    readySeconds,
    answers: await answers(server.grpcPort, synthetic),
  };
  console.log(
    `  ${label.padEnd(8)}${start.programs} programs, ${start.cached} from the cache: ` +
      `${start.programSeconds.toFixed(3)} s, ${start.readySeconds.toFixed(2)} s to ready`,
  );
  return start;
}

async function answers(port: number, synthetic: number): Promise<Map<string, string>> {
  const grpc = new GrpcClient({ target: `127.0.0.1:${port}` });
  const client = new InferenceClient(async (path, message, options) =>
    (await grpc.unary(path, message, options)).message
  );
  const found = new Map<string, string>();
  const ask = async (modelName: string, name: string, rows: number) => {
    const shape = [rows, FEATURES];
    const input: NamedTensor = {
      name,
      datatype: "FP32",
      shape,
      data: randomFloats(elementCount(shape), rows),
    };
    const { outputs } = await client.infer({ modelName, inputs: [input] });
    const bits = outputs.map((output) => [output.name, output.shape, [...output.data]]);
    found.set(`${modelName}, ${rows} rows`, JSON.stringify(bits));
  };
  for (const rows of BATCH_SIZES) {
    await ask("digits", "image", rows);
    for (let index = 0; index < synthetic; index++) await ask(nameOf(index), "x", rows);
  }
  await grpc.close();
  return found;
}

function nameOf(index: number): string {
  return `mlp${index}`;
}

/** A multilayer perceptron with tanh; each has a width of its own, so that no two share a program. */
async function writeModel(root: string, index: number): Promise<void> {
  const width = 32 + 8 * index;
  const widths = [FEATURES, ...new Array<number>(LAYERS - 1).fill(width), 10];
  const shapes = widths.slice(1).map((outputs, layer) => [widths[layer]!, outputs]);
  await writeBundle(root, nameOf(index), {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: FEATURES } }],
      executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: 10 } }],
      batching: { compiled_batch_sizes: BATCH_SIZES },
    }),
    ...Object.fromEntries(
      BATCH_SIZES.map((size) => [`model.b${size}.mlir`, program(size, widths)]),
    ),
    "weights.safetensors": safetensors(shapes.map((shape, layer) => ({
      name: `kernel${layer}`,
      dtype: "F32",
      shape,
      data: randomFloats(elementCount(shape), layer + 1),
    }))),
  });
}

function program(batch: number, widths: readonly number[]): string {
  const type = (rows: number, columns: number) => `${rows}x${columns}xf32`;
  const kernels = widths.slice(1).map((outputs, layer) => type(widths[layer]!, outputs));
  const rows = widths.map((width) => type(batch, width));
  const body = kernels.flatMap((kernel, layer) => [
    `%h${layer} = stablehlo.dot_general ${layer === 0 ? "%arg0" : `%t${layer - 1}`}, ` +
    `%arg${layer + 1}, contracting_dims = [1] x [0] : ` +
    `(tensor<${rows[layer]}>, tensor<${kernel}>) -> tensor<${rows[layer + 1]}>`,
    `%t${layer} = stablehlo.tanh %h${layer} : tensor<${rows[layer + 1]}>`,
  ]);
  return stablehlo([rows[0]!, ...kernels], [rows.at(-1)!], body, [`%t${kernels.length - 1}`]);
}
