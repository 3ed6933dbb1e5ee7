/** Models that give back what they get, one for every datatype, and a few with rules of their own. */
import { DATATYPES } from "../../src/tensor/mod.ts";
import {
  type BundleFiles,
  safetensors,
  stablehlo,
  writeBundle,
} from "../harness/bundle_builder.ts";

const MLIR_TYPES: Record<string, string> = {
  BOOL: "i1",
  UINT8: "ui8",
  UINT16: "ui16",
  UINT32: "ui32",
  UINT64: "ui64",
  INT8: "i8",
  INT16: "i16",
  INT32: "i32",
  INT64: "i64",
  FP16: "f16",
  BF16: "bf16",
  FP32: "f32",
  FP64: "f64",
};

const BATCH_SIZES = [1, 2, 4];

function manifest(fields: Record<string, unknown>): string {
  return JSON.stringify({ format_version: "2.0", axis_order: "row_major", ...fields });
}

function forBatches(program: (batch: number) => string): BundleFiles {
  return Object.fromEntries(
    BATCH_SIZES.map((batch) => [`model.b${batch}.mlir`, program(batch)]),
  );
}

/** `x` [n, 3] to `y` [n, 3], unchanged. */
function echo(token: string, mlirType: string): BundleFiles {
  const tensor = (name: string) => ({ name, dtype: token, shape: "nd", dims: { d: 3 } });
  return {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
      batching: { compiled_batch_sizes: BATCH_SIZES },
    }),
    ...forBatches((batch) => {
      const type = `${batch}x3x${mlirType}`;
      return stablehlo([type], [type], [], ["%arg0"]);
    }),
  };
}

/** `x` INT32 [n, 300000] to `y`, unchanged: 1.2 MB a row. */
function wide(): BundleFiles {
  const tensor = (name: string) => ({ name, dtype: "i32", shape: "nd", dims: { d: 300_000 } });
  return {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
      batching: { compiled_batch_sizes: BATCH_SIZES },
    }),
    ...forBatches((batch) => {
      const type = `${batch}x300000xi32`;
      return stablehlo([type], [type], [], ["%arg0"]);
    }),
  };
}

/** `a` and `b` [n, 2] to `sum` [n, 2] and `difference` [n, 2]. */
function pair(): BundleFiles {
  const tensor = (name: string) => ({ name, dtype: "f32", shape: "nd", dims: { d: 2 } });
  return {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("a"), tensor("b")],
      executable_outputs: [tensor("sum"), tensor("difference")],
      batching: { compiled_batch_sizes: BATCH_SIZES },
    }),
    ...forBatches((batch) => {
      const type = `${batch}x2xf32`;
      return stablehlo([type, type], [type, type], [
        `%0 = stablehlo.add %arg0, %arg1 : tensor<${type}>`,
        `%1 = stablehlo.subtract %arg0, %arg1 : tensor<${type}>`,
      ], ["%0", "%1"]);
    }),
  };
}

/** `x`, a scalar, to `y`, twice as much. */
function scalar(): BundleFiles {
  const tensor = (name: string) => ({ name, dtype: "f32", shape: "", dims: {} });
  return {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
    }),
    "model.mlir": stablehlo(["f32"], ["f32"], [
      "%0 = stablehlo.add %arg0, %arg0 : tensor<f32>",
    ], ["%0"]),
  };
}

/** `x` [n, s] to `y` [n, s], unchanged, for s of 2 and 4. */
function variants(): BundleFiles {
  const tensor = (name: string) => ({ name, dtype: "f32", shape: "ns", dims: { s: -1 } });
  const programs = [2, 4].flatMap((extent, index) =>
    BATCH_SIZES.map((batch) => {
      const type = `${batch}x${extent}xf32`;
      return [`model.v${index}.b${batch}.mlir`, stablehlo([type], [type], [], ["%arg0"])];
    })
  );
  return {
    "manifest.yaml": manifest({
      executable_inputs: [tensor("x")],
      executable_outputs: [tensor("y")],
      input_shapes: [{ s: 2 }, { s: 4 }],
      batching: { compiled_batch_sizes: BATCH_SIZES },
    }),
    ...Object.fromEntries(programs),
  };
}

const STRING_BYTES = 64;

/** Packs each element into a row of the program and takes it out again. */
const STRINGS_HOOK = `
const ROOM = ${STRING_BYTES};
register_model("strings", {
  preprocess([text]) {
    // For tests of deadlines: no machine is quick enough for this one.
    if (text.data[4] === 0x15) return new Promise(() => {});
    const rows = text.shape[0];
    const view = new DataView(text.data.buffer, text.data.byteOffset, text.data.byteLength);
    const padded = new Uint8Array(rows * ROOM);
    const lengths = new Int32Array(rows);
    for (let row = 0, at = 0; row < rows; row++) {
      const length = view.getUint32(at, true);
      if (length > ROOM) throw new RangeError(\`element \${row} is longer than \${ROOM} bytes\`);
      padded.set(text.data.subarray(at + 4, at + 4 + length), row * ROOM);
      lengths[row] = length;
      at += 4 + length;
    }
    return [
      { name: "padded", datatype: "UINT8", shape: [rows, ROOM], data: padded },
      { name: "length", datatype: "INT32", shape: [rows], data: new Uint8Array(lengths.buffer) },
    ];
  },
  postprocess(outputs) {
    const padded = outputs.find(({ name }) => name === "padded_out")!;
    const length = outputs.find(({ name }) => name === "length_out")!;
    const rows = length.shape[0];
    const lengths = new DataView(length.data.buffer, length.data.byteOffset);
    const parts: number[] = [];
    for (let row = 0; row < rows; row++) {
      const count = lengths.getInt32(row * 4, true);
      parts.push(count, 0, 0, 0, ...padded.data.subarray(row * ROOM, row * ROOM + count));
    }
    return [{ name: "text", datatype: "BYTES", shape: [rows], data: Uint8Array.from(parts) }];
  },
});
`;

/** `text` BYTES [n] to `text` BYTES [n], unchanged, through a hook; never, if it begins with NAK. */
function strings(): BundleFiles {
  const text = { name: "text", dtype: "bytes", shape: "n" };
  const padded = (name: string) => ({ name, dtype: "u8", shape: "nd", dims: { d: STRING_BYTES } });
  const length = (name: string) => ({ name, dtype: "i32", shape: "n" });
  return {
    "manifest.yaml": manifest({
      client_inputs: [text],
      client_outputs: [text],
      executable_inputs: [padded("padded"), length("length")],
      executable_outputs: [padded("padded_out"), length("length_out")],
      batching: { compiled_batch_sizes: BATCH_SIZES },
    }),
    "model.ts": STRINGS_HOOK,
    ...forBatches((batch) => {
      const types = [`${batch}x${STRING_BYTES}xui8`, `${batch}xi32`];
      return stablehlo(types, types, [], ["%arg0", "%arg1"]);
    }),
  };
}

/** Writes every model of this file into a folder: `echo_fp32` and so on, `pair`, `scalar`, `variants`, `strings`, `wide`. */
export async function writeEchoBundles(root: string): Promise<void> {
  const bundles = new Map([
    ["pair", pair()],
    ["scalar", scalar()],
    ["variants", variants()],
    ["strings", strings()],
    ["wide", wide()],
  ]);
  for (const { datatype, token } of DATATYPES) {
    const type = MLIR_TYPES[datatype];
    if (type !== undefined) bundles.set(`echo_${datatype.toLowerCase()}`, echo(token, type));
  }
  const noWeights = { "weights.safetensors": safetensors([]) };
  for (const [name, files] of bundles) await writeBundle(root, name, { ...files, ...noWeights });
}
