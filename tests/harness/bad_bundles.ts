/** Every kind of bundle that must be refused, each with the message it must be refused with. */
import {
  type BundleFiles,
  denseBundle,
  denseBundleWith,
  denseProgram,
  denseWeights,
  float32Bytes,
  type ManifestValue,
  rawSafetensors,
  safetensors,
  type TensorData,
} from "./bundle_builder.ts";

/** One kind of bad bundle. */
export interface BadBundle {
  /** Also the directory and model name. */
  readonly name: string;
  readonly files: BundleFiles;
  /** What the message says, after the model's name. */
  readonly message: RegExp;
  /** Where the defect shows. `program`: only once compiled; `hook`: only once the hook file runs. */
  readonly stage: "load" | "program" | "hook";
}

function inManifest(name: string, change: (manifest: ManifestValue) => void, message: RegExp) {
  return { name, files: denseBundleWith(change), message, stage: "load" } as const;
}

function inFile(name: string, file: string, content: string | Uint8Array, message: RegExp) {
  return { name, files: { ...denseBundle(), [file]: content }, message, stage: "load" } as const;
}

function inWeights(name: string, content: Uint8Array, message: RegExp) {
  return inFile(name, "weights.safetensors", content, message);
}

function inProgram(name: string, content: string | Uint8Array, message: RegExp) {
  return { ...inFile(name, "model.b2.mlir", content, message), stage: "program" } as const;
}

function without(name: string, file: string, message: RegExp) {
  const files = denseBundle();
  delete files[file];
  return { name, files, message, stage: "load" } as const;
}

/** A header over the data of `denseBundle`, with changed fields. */
function header(fields: Record<string, unknown>): Uint8Array {
  const all = {
    __metadata__: { argument_order: '["kernel","bias"]' },
    kernel: { dtype: "F32", shape: [4, 3], data_offsets: [0, 48] },
    bias: { dtype: "F32", shape: [4], data_offsets: [48, 64] },
    ...fields,
  };
  return rawSafetensors(JSON.stringify(all), new Uint8Array(64));
}

function reorder(order: string): Uint8Array {
  return safetensors(denseWeights(), { argument_order: order });
}

function withKernel(kernel: Partial<TensorData>): Uint8Array {
  const [dense, bias] = denseWeights();
  return safetensors([{ ...dense!, ...kernel }, bias!]);
}

const goodWeights = denseBundle()["weights.safetensors"] as Uint8Array;
const manifestText = denseBundle()["manifest.yaml"] as string;
const bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" +
  [..."bcdefghi"].map((c, i) => `${c}: &${c} [${Array(9).fill(`*${"abcdefghi"[i]}`)}]`).join("\n");

const MANIFESTS: BadBundle[] = [
  inFile("manifest-not-yaml", "manifest.yaml", "a: [1,", /manifest.yaml is not valid YAML/),
  inFile("manifest-empty", "manifest.yaml", "", /manifest.yaml must hold a mapping, got null/),
  inFile("manifest-not-utf8", "manifest.yaml", new Uint8Array([0x61, 0x3a, 0xff]), /is not UTF-8/),
  inFile("manifest-huge", "manifest.yaml", "#".repeat(300_000), /more than the 262144 allowed/),
  inFile("manifest-alias-bomb", "manifest.yaml", bomb, /not valid YAML: .*alias/i),
  inFile("manifest-deep", "manifest.yaml", "a: " + "[".repeat(50_000), /not valid YAML/),
  inFile(
    "manifest-key-twice",
    "manifest.yaml",
    manifestText.replace("{", '{"format_version": 2,'),
    /the key "format_version" twice/,
  ),
  inFile(
    "manifest-tag",
    "manifest.yaml",
    "format_version: !!js/function 'x'",
    /not valid YAML: Unresolved tag/,
  ),
  inManifest("version", (m) => m.format_version = "3.0", /"format_version" must be 2.0, got "3.0"/),
  inManifest("kind", (m) => m.kind = "ensemble", /"kind" must be model or meta/),
  inManifest("axis-order", (m) => m.axis_order = "C", /must be column_major or row_major, got "C"/),
  inManifest("axis-order-typo", (m) => m.axis_oder = "row_major", /did you mean "axis_order"/),
  inManifest("no-outputs", (m) => delete m.executable_outputs, /"executable_outputs" is required/),
  inManifest("null-inputs", (m) => m.executable_inputs = null, /must be a list, got null/),
  inFile(
    "dims-nan",
    "manifest.yaml",
    manifestText.replace('"d":3', '"d": .nan'),
    /"executable_inputs\[0\].dims.d" must be an integer, got NaN/,
  ),
  inFile(
    "dims-float",
    "manifest.yaml",
    manifestText.replace('"d":3', '"d":3.0'),
    /dims.d" must be an integer, got 3/,
  ),
  inManifest("dims-negative", (m) => m.executable_inputs[0].dims.d = -3, /at least 1, or -1/),
  inManifest("dims-zero", (m) => m.executable_inputs[0].dims.d = 0, /at least 1, or -1 .*, got 0/),
  inManifest("dims-huge", (m) => m.executable_inputs[0].dims.d = 2 ** 52, /at most 2147483647/),
  inManifest("dims-batch", (m) => m.executable_inputs[0].dims.n = 1, /it is the batch axis/),
  inManifest("dims-missing", (m) => m.executable_inputs[0].dims = {}, /dims.d" is required/),
  inManifest("dims-unused", (m) => m.executable_inputs[0].dims.z = 1, /names no axis of the shape/),
  inManifest("letter-twice", (m) => m.executable_inputs[0].shape = "ddn", /the letter "d" twice/),
  inManifest("two-batch-axes", (m) => m.executable_inputs[0].shape = "dnb", /two batch axes/),
  inManifest("shape-digits", (m) => m.executable_inputs[0].shape = "3n", /one letter per axis/),
  inManifest("dtype", (m) => m.executable_inputs[0].dtype = "float", /must be one of bool, u8/),
  inManifest("bytes", (m) => m.executable_inputs[0].dtype = "bytes", /no program can take or give/),
  inManifest("fp8", (m) => m.executable_outputs[0].dtype = "f8_e5m2", /clients cannot send/),
  inManifest(
    "name-twice",
    (m) => m.executable_inputs.push(m.executable_inputs[0]),
    /"executable_inputs" has two tensors named "x"/,
  ),
  inManifest(
    "partly-batched",
    (m) => m.executable_inputs.push({ name: "z", dtype: "f32", shape: "" }),
    /a batch axis in all tensors or in none; these have none: "z"/,
  ),
  inManifest("client-no-hook", (m) => m.client_inputs = m.executable_inputs, /needs a hook file/),
  inManifest("batch-size-0", (m) => m.batching.compiled_batch_sizes = [0], /at least 1, got 0/),
  inManifest("batch-size-text", (m) => m.batching.compiled_batch_sizes = ["1"], /an integer, got/),
  inManifest(
    "no-input-shapes",
    (m) => m.executable_inputs[0].dims.d = -1,
    /"input_shapes" is required/,
  ),
  inManifest("meta-no-hook", (m) => m.kind = "meta", /"meta" needs a hook file \(model.ts\)/),
];

const FILES: BadBundle[] = [
  without("no-program-2", "model.b2.mlir", /lists 2, but model.b2.mlir does not exist/),
  without("no-weights", "weights.safetensors", /weights.safetensors is missing/),
  inFile("program-b0", "model.b0.mlir", "x", /model.b0.mlir names the batch size 0/),
  inFile("program-empty", "model.b1.mlir", "", /model.b1.mlir is empty/),
  inFile("program-twice", "model.b02.mlir", "x", /for the same batch size/),
  {
    name: "no-program",
    files: {
      "manifest.yaml": manifestText,
      "weights.safetensors": goodWeights,
      "model.mlir.bak": "x",
    },
    message: /has no program: neither model.mlir nor model.b\{N\}.mlir exists/,
    stage: "load",
  },
  inManifest("no-variant-program", (m) => {
    m.executable_inputs[0].dims.d = -1;
    m.input_shapes = [{ d: 3 }];
  }, /has no program for input_shapes\[0\] \(d=3\): neither model.v0.mlir/),
  inManifest("nothing-to-choose-by", (m) => {
    m.executable_inputs[0].shape = "d";
    m.executable_outputs[0].shape = "c";
  }, /no executable input has a batch axis to choose by/),
  inFile(
    "julia-hook",
    "model.jl",
    "register_model()",
    /has model.jl, which this server cannot run/,
  ),
];

const WEIGHTS: BadBundle[] = [
  inWeights("weights-empty", new Uint8Array(), /the file has 0 bytes/),
  inWeights(
    "weights-truncated",
    goodWeights.slice(0, -1),
    /but the file has 63 bytes of data: it is/,
  ),
  inWeights(
    "weights-half-header",
    goodWeights.slice(0, 40),
    /claims .* remain: the file is truncated/,
  ),
  inWeights(
    "weights-tail",
    new Uint8Array([...goodWeights, 0]),
    /but the file has 65 bytes of data/,
  ),
  inWeights("header-huge", rawSafetensors("{}", undefined, 2n ** 40n), /more than the 100000000/),
  inWeights("header-not-json", rawSafetensors("{kernel}"), /not valid JSON/),
  inWeights(
    "header-not-utf8",
    rawSafetensors(Uint8Array.from('{"\xe9":1}', (c) => c.charCodeAt(0))),
    /the header is not UTF-8/,
  ),
  inWeights("header-deep", rawSafetensors('{"w":' + "[".repeat(50_000)), /not valid JSON/),
  inWeights(
    "weight-twice",
    rawSafetensors('{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{}}'),
    /two entries named "w"/,
  ),
  inWeights(
    "offsets-overlap",
    header({ bias: { dtype: "F32", shape: [4], data_offsets: [44, 60] } }),
    /"bias" starts at 44, inside the tensor before it/,
  ),
  inWeights(
    "offsets-gap",
    header({ bias: { dtype: "F32", shape: [2], data_offsets: [56, 64] } }),
    /"bias" starts at 56, leaving a gap after byte 48/,
  ),
  inWeights(
    "offsets-outside",
    header({ bias: { dtype: "F32", shape: [2 ** 20], data_offsets: [48, 48 + 2 ** 22] } }),
    /"bias" ends at 4194352, but the file has 64 bytes of data/,
  ),
  inWeights(
    "offsets-reversed",
    header({ bias: { dtype: "F32", shape: [4], data_offsets: [64, 48] } }),
    /"bias" has the byte range 64 to 48/,
  ),
  inWeights(
    "size-wrong",
    header({ bias: { dtype: "F32", shape: [5], data_offsets: [48, 64] } }),
    /but F32\[5\] takes 20 bytes/,
  ),
  inWeights(
    "size-overflow",
    header({ bias: { dtype: "F32", shape: [2 ** 50, 2 ** 50], data_offsets: [48, 64] } }),
    /takes Infinity bytes/,
  ),
  inWeights(
    "extent-negative",
    header({ bias: { dtype: "F32", shape: [-4], data_offsets: [48, 64] } }),
    /a negative number as the shape of "bias"/,
  ),
  inWeights(
    "weight-type",
    header({ bias: { dtype: "C64", shape: [2], data_offsets: [48, 64] } }),
    /"bias" has the unsupported type "C64"/,
  ),
  inWeights("no-order", safetensors(denseWeights(), {}), /2 tensors but no argument_order/),
  inWeights("order-not-json", reorder("kernel,bias"), /argument_order is not valid JSON/),
  inWeights("order-not-names", reorder("[1,2]"), /argument_order is not valid JSON/),
  inWeights("order-unknown", reorder('["kernel","beta"]'), /lists "beta", which is not there/),
];

const PROGRAMS: BadBundle[] = [
  inProgram("mlir-text", "this is not MLIR", /model.b2.mlir does not compile/),
  inProgram("mlir-binary", new Uint8Array(64).fill(0xa5), /model.b2.mlir does not compile/),
  inProgram("mlir-types", denseProgram().replace("2x4xf32", "2x9xf32"), /does not compile/),
  inProgram("mlir-no-main", denseProgram().replace("@main", "@other"), /does not compile/),
  inProgram(
    "program-batch",
    denseProgram({ batch: 3 }),
    /input "x" \(parameter 0\): expected FP32\[2,3\] from the manifest, found FP32\[3,3\]/,
  ),
  inProgram(
    "program-type",
    denseProgram({ type: "f64" }),
    /input "x" \(parameter 0\): expected FP32\[2,3\] from the manifest, found FP64\[2,3\]/,
  ),
  {
    ...inManifest("input-extent", (m) => m.executable_inputs[0].dims.d = 7, /\(parameter 0\)/),
    message: /input "x" \(parameter 0\): expected FP32\[1,7\] from the manifest, found FP32\[1,3\]/,
    stage: "program",
  },
  {
    ...inManifest("input-rank", (m) => {
      m.executable_inputs[0] = { name: "x", dtype: "f32", shape: "den", dims: { d: 3, e: 1 } };
    }, /./),
    message: /expected FP32\[1,1,3\] from the manifest, found FP32\[1,3\]/,
    stage: "program",
  },
  {
    ...inManifest("output-type", (m) => m.executable_outputs[0].dtype = "i32", /./),
    message: /output "y" \(result 0\): expected INT32\[1,4\] from the manifest, found FP32\[1,4\]/,
    stage: "program",
  },
  {
    ...inManifest("output-surplus", (m) => {
      m.executable_outputs.push({ name: "z", dtype: "f32", shape: "n" });
    }, /./),
    message: /it gives 1 result, expected 2 executable outputs/,
    stage: "program",
  },
  {
    ...inManifest("input-surplus", (m) => {
      m.executable_inputs.push({ name: "z", dtype: "f32", shape: "n" });
    }, /./),
    message: /it takes 3 parameters, expected 4: 2 executable inputs and 2 weights/,
    stage: "program",
  },
  {
    ...inWeights("weight-missing", reorder('["kernel"]'), /./),
    message: /it takes 3 parameters, expected 2: 1 executable input and 1 weight of argument_order/,
    stage: "program",
  },
  {
    ...inWeights(
      "weight-other-type",
      withKernel({ dtype: "BF16", data: new Uint8Array(24) }),
      /./,
    ),
    message:
      /weight "kernel" \(parameter 1\): expected BF16\[3,4\] from weights.safetensors, found FP32/,
    stage: "program",
  },
  {
    ...inWeights(
      "weight-extent",
      withKernel({ shape: [4, 2], data: float32Bytes(new Array(8).fill(1)) }),
      /./,
    ),
    message: /weight "kernel" \(parameter 1\): expected FP32\[2,4\] from .*, found FP32\[3,4\]/,
    stage: "program",
  },
  {
    ...inWeights("weight-reversed", withKernel({ shape: [3, 4] }), /./),
    message: /expected FP32\[4,3\] from .*, found FP32\[3,4\] \(the axes are reversed/,
    stage: "program",
  },
  {
    ...inWeights("weight-order", reorder('["bias","kernel"]'), /./),
    message: /weight "bias" \(parameter 1\): expected FP32\[4\] from .*, found FP32\[3,4\]/,
    stage: "program",
  },
];

const HOOKS: BadBundle[] = [
  {
    ...inFile(
      "hook-not-utf8",
      "model.ts",
      new Uint8Array([0xff, 0xfe]),
      /model.ts is not UTF-8 text/,
    ),
    stage: "hook",
  },
  { ...inFile("hook-syntax", "model.ts", "export function {", /./), stage: "hook" },
  {
    ...inFile("hook-throws", "model.ts", 'throw new Error("no vocabulary")', /no vocabulary/),
    stage: "hook",
  },
];

/** All of them. */
export const BAD_BUNDLES: readonly BadBundle[] = [
  ...MANIFESTS,
  ...FILES,
  ...WEIGHTS,
  ...PROGRAMS,
  ...HOOKS,
];
