/**
 * Many callers with large tensors of their own, through a gateway and straight to the worker, of whom some
 * leave early, come too late or hang up. Memory is used again all the while, and overwritten in between:
 * nobody may get a byte that is not of his own request.
 */

import assert from "node:assert/strict";
import { InferenceClient } from "../../src/client/mod.ts";
import { ServerError } from "../../src/errors.ts";
import type { NamedTensor } from "../../src/tensor/mod.ts";
import { type CallOptions, GrpcClient } from "../../src/transport/mod.ts";
import {
  safetensors,
  stablehlo,
  temporaryDirectory,
  writeBundle,
} from "../harness/bundle_builder.ts";
import { startFleet } from "../harness/fleet.ts";

/** Elements of a row: 256 KiB. */
const ROW = 65_536;
const CALLERS = 6;
const CALLS = 20;

/** Keeps what it was given, and looks at it again whenever it is called. */
const KEEPING_HOOKS = `
const kept = [];
const look = (tensors) => {
  for (const { data, first, last } of kept) {
    if (data[0] !== first || data[data.length - 1] !== last) throw new Error("a kept tensor changed");
  }
  for (const { data } of tensors) kept.push({ data, first: data[0], last: data[data.length - 1] });
  while (kept.length > 8) kept.shift();
  // What a hook gives is taken from it.
  return tensors.map((tensor) => ({ ...tensor, data: tensor.data.slice() }));
};
register_model("hooked", { preprocess: look, postprocess: look });`;

async function writeModels(root: string): Promise<void> {
  const tensor = (name: string) => ({ name, dtype: "f32", shape: "na", dims: { a: ROW } });
  const files = (inputs: string[], operation: string, sizes: number[]) => ({
    "manifest.yaml": JSON.stringify({
      format_version: "2.0",
      axis_order: "row_major",
      executable_inputs: inputs.map(tensor),
      executable_outputs: [tensor("out")],
      batching: { compiled_batch_sizes: sizes },
    }),
    "weights.safetensors": safetensors([]),
    ...Object.fromEntries(sizes.map((size) => {
      const type = `${size}x${ROW}xf32`;
      const program = stablehlo(inputs.map(() => type), [type], [
        `%0 = stablehlo.${operation} : tensor<${type}>`,
      ], ["%0"]);
      return [`model.b${size}.mlir`, program];
    })),
  });
  await writeBundle(root, "negate", files(["x"], "negate %arg0", [1, 2, 4]));
  await writeBundle(root, "subtract", files(["x", "y"], "subtract %arg0, %arg1", [1]));
  await writeBundle(root, "hooked", {
    ...files(["x"], "negate %arg0", [1, 2, 4]),
    "model.ts": KEEPING_HOOKS,
  });
}

/** Whole numbers, which floats hold exactly; other ones for every seed. */
function values(rows: number, seed: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: rows * ROW }, (_, at) => (at % 977) + seed * 1000);
}

function tensorOf(name: string, rows: number, data: Float32Array<ArrayBuffer>): NamedTensor {
  return { name, datatype: "FP32", shape: [rows, ROW], data: new Uint8Array(data.buffer) };
}

function randomFrom(seed: number): () => number {
  return () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
}

/** One call with what it must give. */
function makeCall(seed: number, random: () => number) {
  const modelName = ["negate", "negate", "subtract", "hooked"][Math.floor(random() * 4)]!;
  const rows = modelName === "subtract" ? 1 : [1, 1, 2, 3, 4][Math.floor(random() * 5)]!;
  const x = values(rows, seed);
  const y = values(rows, seed + 5000);
  const isDifference = modelName === "subtract";
  return {
    request: {
      modelName,
      inputs: [tensorOf("x", rows, x), ...(isDifference ? [tensorOf("y", rows, y)] : [])],
    },
    expected: x.map((value, at) => isDifference ? value - y[at]! : -value),
  };
}

function check(data: Uint8Array, expected: Float32Array, what: string): void {
  assert.equal(data.length, expected.byteLength, what);
  const got = new Float32Array(new Uint8Array(data).buffer);
  assert.equal(expected.findIndex((value, at) => value !== got[at]), -1, what);
}

async function callMany(target: string, caller: number, done: { ok: number; ended: number }) {
  const random = randomFrom(caller * 7919 + 1);
  let grpc = new GrpcClient({ target, maxReceiveBytes: 1 << 25 });
  for (let call = 0; call < CALLS; call++) {
    const seed = caller * CALLS + call;
    const { request, expected } = makeCall(seed, random);
    const fate = random();
    const leaving = new AbortController();
    const options: CallOptions = {
      signal: leaving.signal,
      compression: fate > 0.95 ? "gzip" : "identity",
      ...(fate < 0.1 ? { deadlineMs: performance.now() + 1 + random() * 20 } : {}),
    };
    const client = new InferenceClient(async (path, message) =>
      (await grpc.unary(path, message, options)).message
    );
    const answer = client.infer(request);
    if (fate >= 0.1 && fate < 0.2) setTimeout(() => leaving.abort(), random() * 20);
    const isHangup = fate >= 0.2 && fate < 0.25;
    if (isHangup) setTimeout(() => void grpc.close(), random() * 20);
    try {
      const { outputs: [output] } = await answer;
      check(output!.data, expected, `${target} call ${seed} of ${request.modelName}`);
      done.ok++;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      assert.ok(fate < 0.25, error.message);
      assert.match(error.status, /^(CANCELLED|DEADLINE_EXCEEDED)$/, error.message);
      done.ended++;
    }
    if (!isHangup) continue;
    await grpc.close();
    grpc = new GrpcClient({ target, maxReceiveBytes: 1 << 25 });
  }
  await grpc.close();
}

Deno.test("large tensors stay those of their own request, whoever leaves meanwhile", async () => {
  const variable = "REACTANTSERVER_POISON";
  const before = Deno.env.get(variable);
  Deno.env.set(variable, "1");
  try {
    await using folder = await temporaryDirectory();
    await writeModels(folder.path);
    await using fleet = await startFleet({ modelDirs: [folder.path], workers: 1 });
    const ports = [fleet.gateway.grpcPort, fleet.workers[0]!.grpcPort];
    const done = { ok: 0, ended: 0 };
    await Promise.all(
      Array.from(
        { length: CALLERS },
        (_, caller) => callMany(`127.0.0.1:${ports[caller % 2]}`, caller, done),
      ),
    );
    assert.equal(done.ok + done.ended, CALLERS * CALLS);
    assert.ok(done.ok > CALLERS * CALLS / 2, `${done.ok} calls were answered`);
    assert.ok(done.ended > 0);
    for (const server of [fleet.gateway, ...fleet.workers]) {
      const failures = server.events.filter(({ level }) => /error/i.test(String(level)));
      assert.deepEqual(failures, []);
    }
  } finally {
    if (before === undefined) Deno.env.delete(variable);
    else Deno.env.set(variable, before);
  }
});
