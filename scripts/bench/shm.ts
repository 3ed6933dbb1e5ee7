/**
 * `deno task bench shm [--rounds N]`: 16 MiB through system shared memory against the same through the wire,
 * one request in flight. One model only looks at the two ends of its input, and one makes its output of a
 * single number, so that the way there and back is nearly all there is to measure. A client that makes a
 * new input each time also writes it into the region, so that is measured too; and an input of integers,
 * which is copied where floating-point numbers are computed on in place.
 */

import { parseArgs } from "node:util";
import {
  decodeInferResponse,
  encodeInferRequest,
  GRPCInferenceService,
  type OutgoingRequest,
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
  await writeEndsBundle(folder.path, "ends", "f32");
  await writeEndsBundle(folder.path, "integer_ends", "i32");
  await writeFillBundle(folder.path);
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
  // A second half, for outputs.
  await file.truncate(2 * BYTES);
  await client.inference.call(GRPCInferenceService.method.systemSharedMemoryRegister, {
    name: "bench",
    key: path.replace("/dev/shm", ""),
    byteSize: BigInt(2 * BYTES),
  });
  const place = (offset: number) =>
    sharedMemoryParameters({ region: "bench", offset, byteSize: BYTES });

  const infer = async (request: OutgoingRequest) =>
    decodeInferResponse((await client.grpc.unary(INFER, encodeInferRequest(request))).message)
      .rawContents;
  const expected = [...data.subarray(0, 16), ...data.subarray(-16)].join();
  const send = async (
    tensor: Pick<OutgoingTensor, "data" | "parameters">,
    [modelName, datatype]: [string, string] = ["ends", "FP32"],
  ) => {
    const input = { name: "x", datatype, shape: [1, ELEMENTS], ...tensor };
    const [y] = await infer({ modelName, inputs: [input] });
    if (y!.join() !== expected) throw new Error("a wrong answer");
  };
  const fetch = async (outputs: OutgoingRequest["outputs"]) => {
    const x = new Uint8Array(Float32Array.of(Math.random()).buffer);
    const input = { name: "x", datatype: "FP32", shape: [1, 1], data: x };
    const [inline] = await infer({ modelName: "fill", inputs: [input], outputs });
    if (inline) {
      if (inline.length !== BYTES) throw new Error("a wrong answer");
      return;
    }
    const last = new Uint8Array(4);
    file.seekSync(-4, Deno.SeekMode.End);
    file.readSync(last);
    if (last.join() !== x.join()) throw new Error("a wrong answer");
  };
  const inRegion = { data: undefined, parameters: place(0) };
  const inputs = {
    wire: () => send({ data }),
    "shared memory": () => send(inRegion),
    "shared memory, written each time": () => {
      writeRegion();
      return send(inRegion);
    },
    "shared memory, integers": () => send(inRegion, ["integer_ends", "INT32"]),
  };
  const outputs = {
    wire: () => fetch([]),
    "shared memory": () => fetch([{ name: "y", parameters: place(BYTES) }]),
  };
  const rounds = Number(values.rounds);
  const calls = partOf(REQUESTS_PER_ROUND, share);
  console.log("one request in flight, median of the rounds' p50");
  await compare("16 MiB input", inputs, { rounds, calls });
  await compare("16 MiB output", outputs, { rounds, calls });
}

type Ways = Record<string, () => Promise<void>> & { wire: () => Promise<void> };

/** Times each way in turns, and prints it beside the wire of the same rounds. */
async function compare(
  title: string,
  ways: Ways,
  { rounds, calls }: { rounds: number; calls: number },
): Promise<void> {
  const medians = new Map<string, number[]>(Object.keys(ways).map((way) => [way, []]));
  // The first round warms up and is not counted.
  for (let round = 0; round <= rounds; round++) {
    for (const [way, once] of Object.entries(ways)) {
      const p50 = percentile(await timeEach(calls, once), 0.5);
      if (round > 0) medians.get(way)!.push(p50);
    }
  }
  const wire = medians.get("wire")!;
  console.log(title);
  for (const [way, times] of medians) {
    const ratios = times.map((time, round) => wire[round]! / time);
    console.log(
      `  ${way.padEnd(34)}${micros(percentile(times, 0.5)).padStart(9)}` +
        (way === "wire" ? "" : `  ${percentile(ratios, 0.5).toFixed(2)} times as fast`),
    );
  }
}

/** `x` FP32 [1, 1] to as much of it as the benchmark moves. */
function writeFillBundle(root: string): Promise<string> {
  const [x, y] = ["1x1xf32", `1x${ELEMENTS}xf32`];
  return writeBundle(root, "fill", {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [{ name: "x", dtype: "f32", shape: "na", dims: { a: 1 } }],
      executable_outputs: [{ name: "y", dtype: "f32", shape: "na", dims: { a: ELEMENTS } }],
      batching: { compiled_batch_sizes: [1] },
    }),
    "model.b1.mlir": stablehlo([x], [y], [
      `%0 = stablehlo.broadcast_in_dim %arg0, dims = [0, 1] : (tensor<${x}>) -> tensor<${y}>`,
    ], ["%0"]),
    "weights.safetensors": safetensors([]),
  });
}

/** `x` [1, 4194304] to its first and last four values. */
function writeEndsBundle(root: string, name: string, dtype: "f32" | "i32"): Promise<string> {
  const [x, end, y] = [`1x${ELEMENTS}x${dtype}`, `1x4x${dtype}`, `1x8x${dtype}`];
  return writeBundle(root, name, {
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: [{ name: "x", dtype, shape: "na", dims: { a: ELEMENTS } }],
      executable_outputs: [{ name: "y", dtype, shape: "na", dims: { a: 8 } }],
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
