/**
 * `deno task bench shm [--rounds N]`: a 16 MiB input through system shared memory against the same through
 * the wire, one request in flight. The model only looks at the two ends of its input, so that the way there
 * is all there is to measure. A client that makes a new input each time also writes it into the region, so
 * that is measured too.
 */

import { parseArgs } from "node:util";
import {
  decodeInferResponse,
  encodeInferRequest,
  GRPCInferenceService,
  type OutgoingTensor,
  sharedMemoryParameters,
} from "../../src/protocol/mod.ts";
import {
  safetensors,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { connect } from "../../tests/harness/client.ts";
import { startServer } from "../../tests/harness/server.ts";
import { randomFloats } from "./mlp_bundle.ts";
import { micros, partOf, percentile, timeEach } from "./statistics.ts";

const ELEMENTS = 4 << 20;
const BYTES = ELEMENTS * 4;
const REQUESTS_PER_ROUND = 25;
const INFER = "/inference.GRPCInferenceService/ModelInfer";

export async function run(args: string[], share: number): Promise<void> {
  const { values } = parseArgs({ args, options: { rounds: { type: "string", default: "5" } } });
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryDirectory());
  await writeEndsBundle(folder.path);
  const server = stack.use(await startServer({ modelDirs: [folder.path] }));
  const client = stack.use(connect(server));
  const data = randomFloats(ELEMENTS, 8);
  const path = await Deno.makeTempFile({ dir: "/dev/shm", prefix: "reactant-bench-" });
  stack.defer(() => Deno.remove(path));
  const file = stack.use(await Deno.open(path, { read: true, write: true }));
  const writeRegion = () => {
    file.seekSync(0, Deno.SeekMode.Start);
    for (let at = 0; at < BYTES;) at += file.writeSync(data.subarray(at));
  };
  writeRegion();
  await client.inference.call(GRPCInferenceService.method.systemSharedMemoryRegister, {
    name: "bench",
    key: path.replace("/dev/shm", ""),
    byteSize: BigInt(BYTES),
  });

  const expected = [...data.subarray(0, 16), ...data.subarray(-16)].join();
  const send = async (tensor: Pick<OutgoingTensor, "data" | "parameters">) => {
    const input = { name: "x", datatype: "FP32", shape: [1, ELEMENTS], ...tensor };
    const request = encodeInferRequest({ modelName: "ends", inputs: [input] });
    const { rawContents } = decodeInferResponse((await client.grpc.unary(INFER, request)).message);
    if (rawContents[0]!.join() !== expected) throw new Error("a wrong answer");
  };
  const parameters = sharedMemoryParameters({ region: "bench", offset: 0, byteSize: BYTES });
  const ways = {
    wire: () => send({ data }),
    "shared memory": () => send({ data: undefined, parameters }),
    "shared memory, written each time": () => {
      writeRegion();
      return send({ data: undefined, parameters });
    },
  };
  const medians = new Map<string, number[]>(Object.keys(ways).map((way) => [way, []]));
  // The first round warms up and is not counted.
  for (let round = 0; round <= Number(values.rounds); round++) {
    for (const [way, once] of Object.entries(ways)) {
      const p50 = percentile(await timeEach(partOf(REQUESTS_PER_ROUND, share), once), 0.5);
      if (round > 0) medians.get(way)!.push(p50);
    }
  }
  const wire = medians.get("wire")!;
  console.log("16 MiB input, one request in flight, median of the rounds' p50");
  for (const [way, times] of medians) {
    const ratios = times.map((time, round) => wire[round]! / time);
    console.log(
      `  ${way.padEnd(34)}${micros(percentile(times, 0.5)).padStart(9)}` +
        (way === "wire" ? "" : `  ${percentile(ratios, 0.5).toFixed(2)} times as fast`),
    );
  }
}

/** `x` FP32 [1, 4194304] to its first and last four values. */
function writeEndsBundle(root: string): Promise<string> {
  const [x, end, y] = [`1x${ELEMENTS}xf32`, "1x4xf32", "1x8xf32"];
  return writeBundle(root, "ends", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: ELEMENTS } }],
      executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: 8 } }],
      batching: { compiled_batch_sizes: [1] },
    }),
    "model.b1.mlir": stablehlo([x], [y], [
      `%0 = stablehlo.slice %arg0 [0:1, 0:4] : (tensor<${x}>) -> tensor<${end}>`,
      `%1 = stablehlo.slice %arg0 [0:1, ${ELEMENTS - 4}:${ELEMENTS}] : ` +
      `(tensor<${x}>) -> tensor<${end}>`,
      `%2 = stablehlo.concatenate %0, %1, dim = 1 : ` +
      `(tensor<${end}>, tensor<${end}>) -> tensor<${y}>`,
    ], ["%2"]),
    "weights.safetensors": safetensors([]),
  });
}
