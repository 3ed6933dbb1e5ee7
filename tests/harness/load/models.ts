/**
 * The models of the mixed load, one for each way of being served, and what a client may ask of each with
 * the answer it must get. Every number is a small integer in a floating-point coat, so that answers are
 * exact; they are computed here from the models' definitions, in double precision.
 */

import type {
  InferResponse,
  OutgoingRequest,
  OutgoingTensor,
  RequestedOutput,
} from "../../../src/protocol/mod.ts";
import type { Random } from "../../../src/protocol/testing/random.ts";
import {
  type BundleFiles,
  denseProgram,
  float32Bytes,
  safetensors,
  stablehlo,
  writeBundle,
} from "../bundle_builder.ts";
import type { Slot } from "./regions.ts";

/** A request and how to judge its answer. */
export interface Exchange {
  readonly request: OutgoingRequest;
  /** What is wrong with an answer; `undefined`: nothing. */
  check(answer: InferResponse): string | undefined;
}

/** A request that must fail, and how. */
export interface Refusal {
  readonly request: OutgoingRequest | Uint8Array;
  readonly status: string;
  readonly says: RegExp;
  /** Set where the request only ends through its deadline. */
  readonly deadlineInMs?: number;
}

export interface LoadModel {
  readonly name: string;
  readonly files: BundleFiles;
  /** A right request. `isAbandoned`: its answer may never be looked at. */
  ask(random: Random, slot: Slot, isAbandoned: boolean): Exchange;
  /** A request whose hook fails. */
  fail?(random: Random): Refusal;
}

const BATCHES = [1, 4, 16, 32];

function manifest(fields: Record<string, unknown>): string {
  return JSON.stringify({ format_version: "2.0", axis_order: "row_major", ...fields });
}

function tensor(name: string, dtype: string, shape: string, extent?: number) {
  return { name, dtype, shape, dims: extent === undefined ? {} : { [shape.at(-1)!]: extent } };
}

function programs(sizes: readonly number[], program: (batch: number) => string): BundleFiles {
  return Object.fromEntries(sizes.map((size) => [`model.b${size}.mlir`, program(size)]));
}

const NO_WEIGHTS = { "weights.safetensors": safetensors([]) };

/** Integers in [-limit, limit]. */
function integers(random: Random, count: number, limit = 9): number[] {
  return Array.from({ length: count }, () => random.below(2 * limit + 1) - limit);
}

function floats(name: string, shape: number[], values: readonly number[]): OutgoingTensor {
  return { name, datatype: "FP32", shape, data: float32Bytes(values) };
}

/** An exchange of inline tensors: one output `y`, byte for byte. */
function inline(
  modelName: string,
  inputs: OutgoingTensor[],
  output: { name?: string; datatype: string; shape: number[]; data: Uint8Array },
): Exchange {
  const name = output.name ?? "y";
  return {
    request: { modelName, inputs },
    check: (answer) => {
      if (answer.outputs.length !== 1) return `${answer.outputs.length} outputs`;
      const found = answer.outputs[0]!;
      const head = (of: { datatype: string; shape: readonly number[] }) =>
        `${of.datatype}[${of.shape}]`;
      if (found.name !== name || head(found) !== head(output)) {
        return `got ${found.name} ${head(found)}, not ${name} ${head(output)}`;
      }
      return differs(answer.rawContents[0], output.data);
    },
  };
}

function differs(found: Uint8Array | undefined, wanted: Uint8Array): string | undefined {
  if (!found) return "no contents";
  if (found.length !== wanted.length) return `${found.length} bytes, not ${wanted.length}`;
  const at = found.findIndex((byte, index) => byte !== wanted[index]);
  return at < 0 ? undefined : `byte ${at} of ${wanted.length} is ${found[at]}, not ${wanted[at]}`;
}

/** `x · kernel + bias`, row by row, with kernel[i][j] = (31·i + 7·j) mod 11 − 5 and bias[j] = j − 2. */
function denseRow(x: readonly number[], outputs: number): number[] {
  return Array.from(
    { length: outputs },
    (_, j) => x.reduce((sum, value, i) => sum + value * kernelAt(i, j), j - 2),
  );
}

function kernelAt(i: number, j: number): number {
  return (31 * i + 7 * j) % 11 - 5;
}

function denseWeights(inputs: number, outputs: number): Uint8Array {
  const kernel = Array.from(
    { length: inputs * outputs },
    (_, at) => kernelAt(Math.floor(at / outputs), at % outputs),
  );
  const bias = Array.from({ length: outputs }, (_, j) => j - 2);
  return safetensors([
    { name: "kernel", dtype: "F32", shape: [inputs, outputs], data: float32Bytes(kernel) },
    { name: "bias", dtype: "F32", shape: [outputs], data: float32Bytes(bias) },
  ]);
}

function dense(name: string, inputs: number, outputs: number, sizes: number[]): LoadModel {
  return {
    name,
    files: {
      "manifest.yaml": manifest({
        executable_inputs: [tensor("x", "f32", "na", inputs)],
        executable_outputs: [tensor("y", "f32", "na", outputs)],
        batching: { compiled_batch_sizes: sizes },
      }),
      "weights.safetensors": denseWeights(inputs, outputs),
      ...programs(sizes, (batch) => denseProgram({ batch, inputs, outputs })),
    },
    ask: (random) => {
      const rows = 1 + random.below(Math.min(6, sizes.at(-1)!));
      const x = Array.from({ length: rows }, () => integers(random, inputs));
      const y = x.flatMap((row) => denseRow(row, outputs));
      return inline(name, [floats("x", [rows, inputs], x.flat())], {
        datatype: "FP32",
        shape: [rows, outputs],
        data: float32Bytes(y),
      });
    },
  };
}

/** One row at a time: nothing to coalesce. Also the stage that `chain` calls. */
const plain = dense("plain", 3, 4, [1]);
/** Requests of several rows that share dispatches. */
const batched = dense("batched", 16, 8, BATCHES);

/** `y = x·x + x` for rows of 2, 4 or 8. */
const variants: LoadModel = {
  name: "variants",
  files: {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x", "f32", "ns", -1)],
      executable_outputs: [tensor("y", "f32", "ns", -1)],
      input_shapes: [{ s: 2 }, { s: 4 }, { s: 8 }],
      batching: { compiled_batch_sizes: [1, 4] },
    }),
    ...NO_WEIGHTS,
    ...Object.fromEntries([2, 4, 8].flatMap((extent, index) =>
      [1, 4].map((batch) => {
        const type = `${batch}x${extent}xf32`;
        const body = [
          `%0 = stablehlo.multiply %arg0, %arg0 : tensor<${type}>`,
          `%1 = stablehlo.add %0, %arg0 : tensor<${type}>`,
        ];
        return [`model.v${index}.b${batch}.mlir`, stablehlo([type], [type], body, ["%1"])];
      })
    )),
  },
  ask: (random) => {
    const shape = [1 + random.below(4), random.pick([2, 4, 8])];
    const x = integers(random, shape[0]! * shape[1]!);
    return inline("variants", [floats("x", shape, x)], {
      datatype: "FP32",
      shape,
      data: float32Bytes(x.map((value) => value * value + value)),
    });
  },
};

const WORD_ROOM = 32;

/** Adds one to every byte of each string and turns it round. `!`, `?` and `~` in front make it fail. */
const WORDS_HOOK = `
const ROOM = ${WORD_ROOM};
register_model("words", {
  async preprocess([text]) {
    const rows = text.shape[0];
    const view = new DataView(text.data.buffer, text.data.byteOffset, text.data.byteLength);
    const padded = new Uint8Array(rows * ROOM);
    const lengths = new Int32Array(rows);
    for (let row = 0, at = 0; row < rows; row++) {
      const length = view.getUint32(at, true);
      const word = text.data.subarray(at + 4, at + 4 + length);
      if (word[0] === 0x21) throw new RangeError("the word does not want to go in");
      if (word[0] === 0x7e) await new Promise(() => {});
      padded.set(word, row * ROOM);
      lengths[row] = length;
      at += 4 + length;
    }
    return [
      { name: "padded", datatype: "UINT8", shape: [rows, ROOM], data: padded },
      { name: "length", datatype: "INT32", shape: [rows], data: new Uint8Array(lengths.buffer) },
    ];
  },
  postprocess(outputs) {
    const padded = outputs.find(({ name }) => name === "shifted")!;
    const length = outputs.find(({ name }) => name === "same_length")!;
    const lengths = new DataView(length.data.buffer, length.data.byteOffset);
    const parts: number[] = [];
    for (let row = 0; row < length.shape[0]; row++) {
      const count = lengths.getInt32(row * 4, true);
      const word = [...padded.data.subarray(row * ROOM, row * ROOM + count)].reverse();
      if (word.at(-1) === 0x40) throw new RangeError("the word does not want to come out");
      parts.push(count, 0, 0, 0, ...word);
    }
    return [{
      name: "text", datatype: "BYTES", shape: [length.shape[0]], data: Uint8Array.from(parts),
    }];
  },
});
`;

function letters(random: Random): number[] {
  return Array.from({ length: random.below(WORD_ROOM - 1) }, () => 0x61 + random.below(25));
}

function words(name: string, list: readonly (readonly number[])[]): OutgoingTensor {
  const data = Uint8Array.from(list.flatMap((word) => [word.length, 0, 0, 0, ...word]));
  return { name, datatype: "BYTES", shape: [list.length], data };
}

const text: LoadModel = {
  name: "words",
  files: {
    "manifest.yaml": manifest({
      client_inputs: [tensor("text", "bytes", "n")],
      client_outputs: [tensor("text", "bytes", "n")],
      executable_inputs: [tensor("padded", "u8", "nd", WORD_ROOM), tensor("length", "i32", "n")],
      executable_outputs: [
        tensor("shifted", "u8", "nd", WORD_ROOM),
        tensor("same_length", "i32", "n"),
      ],
      batching: { compiled_batch_sizes: [1, 4, 8] },
    }),
    "model.ts": WORDS_HOOK,
    ...NO_WEIGHTS,
    ...programs([1, 4, 8], (batch) => {
      const types = [`${batch}x${WORD_ROOM}xui8`, `${batch}xi32`];
      return stablehlo(types, types, [
        `%0 = stablehlo.constant dense<1> : tensor<${types[0]}>`,
        `%1 = stablehlo.add %arg0, %0 : tensor<${types[0]}>`,
      ], ["%1", "%arg1"]);
    }),
  },
  ask: (random) => {
    const list = Array.from({ length: 1 + random.below(3) }, () => letters(random));
    const wanted = words("text", list.map((word) => word.map((byte) => byte + 1).reverse()));
    return inline("words", [words("text", list)], {
      name: "text",
      datatype: "BYTES",
      shape: [list.length],
      data: wanted.data!,
    });
  },
  fail: (random) => {
    const kind = random.below(40);
    const [mark, status, says]: [string, string, RegExp] = kind === 0
      ? ["~", "DEADLINE_EXCEEDED", /deadline/i]
      : kind < 20
      ? ["!", "INTERNAL", /preprocess of model "words" failed: .*want to go in/]
      : ["?", "INTERNAL", /postprocess of model "words" failed: .*want to come out/];
    const list = [letters(random), [mark.charCodeAt(0), ...letters(random)]];
    return {
      request: { modelName: "words", inputs: [words("text", list)] },
      status,
      says,
      deadlineInMs: mark === "~" ? 150 : undefined,
    };
  },
};

/** `plain`, its first three results halved where positive, `plain` again; 99 in front makes it fail. */
const CHAIN_HOOK = `
register_meta("chain", async (inputs, call) => {
  const given = new Float32Array(inputs[0].data.slice().buffer);
  if (given[0] === 99) throw new RangeError("the glue does not hold");
  const [first] = await call("plain", inputs);
  if (given[0] === 98) return await call("plain", []);
  const values = new Float32Array(first.data.slice().buffer);
  const [memory] = await call.scratch([12]);
  const glue = new Float32Array(memory.buffer, memory.byteOffset, 3);
  for (let i = 0; i < 3; i++) glue[i] = values[i] > 0 ? Math.floor(values[i] / 2) : values[i];
  const x = { name: "x", datatype: "FP32", shape: [1, 3], data: memory };
  const [second] = await call("plain", [x]);
  return [{ ...second, name: "z" }];
});
`;

const chain: LoadModel = {
  name: "chain",
  files: {
    "manifest.yaml": manifest({
      kind: "meta",
      meta: { calls: ["plain"] },
      client_inputs: [tensor("x", "f32", "na", 3)],
      client_outputs: [tensor("z", "f32", "na", 4)],
    }),
    "model.ts": CHAIN_HOOK,
  },
  ask: (random) => {
    const x = integers(random, 3);
    const middle = denseRow(x, 4).slice(0, 3).map((value) =>
      value > 0 ? Math.floor(value / 2) : value
    );
    return inline("chain", [floats("x", [1, 3], x)], {
      name: "z",
      datatype: "FP32",
      shape: [1, 4],
      data: float32Bytes(denseRow(middle, 4)),
    });
  },
  fail: (random) => {
    const [mark, says] = random.pick<[number, RegExp]>([
      [99, /run of model "chain" failed: .*the glue does not hold/],
      [98, /"chain" called "plain" wrongly/],
    ]);
    const inputs = [floats("x", [1, 3], [mark, ...integers(random, 2)])];
    return { request: { modelName: "chain", inputs }, status: "INTERNAL", says };
  },
};

/** `y = 2x + 1` without any axis. */
const scalar: LoadModel = {
  name: "scalar",
  files: {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x", "f32", "")],
      executable_outputs: [tensor("y", "f32", "")],
    }),
    ...NO_WEIGHTS,
    "model.mlir": stablehlo(["f32"], ["f32"], [
      "%0 = stablehlo.add %arg0, %arg0 : tensor<f32>",
      "%1 = stablehlo.constant dense<1.0> : tensor<f32>",
      "%2 = stablehlo.add %0, %1 : tensor<f32>",
    ], ["%2"]),
  },
  ask: (random) => {
    const [x] = integers(random, 1, 1000);
    const data = float32Bytes([2 * x! + 1]);
    return inline("scalar", [floats("x", [], [x!])], { datatype: "FP32", shape: [], data });
  },
};

/** The upper halves of FP32 numbers, which is what BF16 is where nothing is rounded. */
function bfloat16(values: readonly number[]): Uint8Array {
  const bits = new Uint32Array(new Float32Array(values).buffer);
  return new Uint8Array(Uint16Array.from(bits, (word) => word >>> 16).buffer);
}

/** `y = 2x` in BF16. */
const bf16: LoadModel = {
  name: "bf16",
  files: {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x", "bf16", "nd", 8)],
      executable_outputs: [tensor("y", "bf16", "nd", 8)],
      batching: { compiled_batch_sizes: [1, 4] },
    }),
    ...NO_WEIGHTS,
    ...programs([1, 4], (batch) => {
      const type = `${batch}x8xbf16`;
      return stablehlo([type], [type], [
        `%0 = stablehlo.add %arg0, %arg0 : tensor<${type}>`,
      ], ["%0"]);
    }),
  },
  ask: (random) => {
    const rows = 1 + random.below(3);
    const x = integers(random, rows * 8, 100);
    const shape = [rows, 8];
    const data = bfloat16(x.map((value) => 2 * value));
    return inline("bf16", [{ name: "x", datatype: "BF16", shape, data: bfloat16(x) }], {
      datatype: "BF16",
      shape,
      data,
    });
  },
};

const WIDTH = 256;

/** `a` and `b` to `sum` and `difference`, INT32, all four in shared memory. */
const shared: LoadModel = {
  name: "shared",
  files: {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("a", "i32", "nd", WIDTH), tensor("b", "i32", "nd", WIDTH)],
      executable_outputs: [
        tensor("sum", "i32", "nd", WIDTH),
        tensor("difference", "i32", "nd", WIDTH),
      ],
      batching: { compiled_batch_sizes: [1, 2, 4] },
    }),
    ...NO_WEIGHTS,
    ...programs([1, 2, 4], (batch) => {
      const type = `${batch}x${WIDTH}xi32`;
      return stablehlo([type, type], [type, type], [
        `%0 = stablehlo.add %arg0, %arg1 : tensor<${type}>`,
        `%1 = stablehlo.subtract %arg0, %arg1 : tensor<${type}>`,
      ], ["%0", "%1"]);
    }),
  },
  ask: (random, slot, isAbandoned) => {
    const rows = 1 + random.below(4);
    const size = rows * WIDTH * 4;
    const shape = [rows, WIDTH];
    const given = { a: integers(random, rows * WIDTH), b: integers(random, rows * WIDTH) };
    const bytes = (values: number[]) => new Uint8Array(Int32Array.from(values).buffer);
    const inputs = (["a", "b"] as const).map((name): OutgoingTensor => {
      slot.write(name, bytes(given[name]));
      return {
        name,
        datatype: "INT32",
        shape,
        data: undefined,
        parameters: slot.at(name, size),
      };
    });
    const wanted = {
      sum: bytes(given.a.map((value, index) => value + given.b[index]!)),
      difference: bytes(given.a.map((value, index) => value - given.b[index]!)),
    };
    const names = isAbandoned ? (["sum"] as const) : (["sum", "difference"] as const);
    const outputs = names.map((name): RequestedOutput => ({
      name,
      parameters: slot.at(isAbandoned ? "abandoned" : name, size),
    }));
    return {
      request: { modelName: "shared", inputs, outputs },
      check: (answer) => {
        if (answer.outputs.length !== names.length || answer.rawContents.length > 0) {
          return "the answer carries what belongs in shared memory";
        }
        // Another request that was abandoned may have written to the same place since.
        if (isAbandoned) return;
        for (const name of names) {
          const wrong = differs(slot.read(name, size), wanted[name]);
          if (wrong !== undefined) return `${name}: ${wrong}`;
        }
      },
    };
  },
};

/** Every model of the load. */
export const LOAD_MODELS: readonly LoadModel[] = [
  plain,
  batched,
  variants,
  text,
  chain,
  scalar,
  bf16,
  shared,
];

/** Writes all bundles into a folder. */
export async function writeLoadBundles(root: string): Promise<void> {
  for (const { name, files } of LOAD_MODELS) await writeBundle(root, name, files);
}
