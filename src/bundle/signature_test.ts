import assert from "node:assert/strict";
import {
  denseBundleWith,
  type ManifestValue,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { BundleError } from "../errors.ts";
import type { Datatype, TensorSpec } from "../tensor/mod.ts";
import { loadBundle, type ModelBundle } from "./bundle.ts";
import type { ProgramFile } from "./programs.ts";
import { checkSignature, type ProgramSignature } from "./signature.ts";

function spec(datatype: Datatype, ...shape: number[]): TensorSpec {
  return { datatype, shape };
}

/** What the dense test program for `batch` rows really takes and gives. */
function denseSignature(batch: number): ProgramSignature {
  return {
    parameters: [spec("FP32", batch, 3), spec("FP32", 3, 4), spec("FP32", 4)],
    results: [spec("FP32", batch, 4)],
  };
}

function withParameter(index: number, parameter: TensorSpec): ProgramSignature {
  const signature = denseSignature(2);
  return { ...signature, parameters: signature.parameters.with(index, parameter) };
}

function withResult(result: TensorSpec): ProgramSignature {
  return { ...denseSignature(2), results: [result] };
}

async function withBundle(
  change: (manifest: ManifestValue) => void,
  test: (bundle: ModelBundle, program: (name: string) => ProgramFile) => void,
  lone = false,
): Promise<void> {
  await using root = await temporaryDirectory();
  const files = denseBundleWith(change);
  files["model.v0.b1.mlir"] = files["model.b1.mlir"]!;
  if (lone) {
    files["model.mlir"] = files["model.b1.mlir"]!;
    delete files["model.b1.mlir"];
    delete files["model.b2.mlir"];
  }
  using bundle = await loadBundle(await writeBundle(root.path, "dense", files));
  assert.ok(bundle.kind === "model");
  const programs = bundle.programs.flatMap(({ files }) => files);
  test(bundle, (name) => programs.find(({ fileName }) => fileName === name)!);
}

const unchanged = () => {};

Deno.test("checkSignature() accepts a program that fits and says its batch size", () =>
  withBundle(unchanged, (bundle, program) => {
    assert.equal(checkSignature(bundle, program("model.b1.mlir"), denseSignature(1)).batchSize, 1);
    assert.equal(checkSignature(bundle, program("model.b2.mlir"), denseSignature(2)).batchSize, 2);
  }));

const MISMATCHES: [string, ProgramSignature, string][] = [
  [
    "a batch extent that is not the file's",
    denseSignature(1),
    'input "x" (parameter 0): expected FP32[2,3] from the manifest, found FP32[1,3]; ' +
    'output "y" (result 0): expected FP32[2,4] from the manifest, found FP32[1,4]',
  ],
  [
    "an input of another type",
    withParameter(0, spec("INT32", 2, 3)),
    'input "x" (parameter 0): expected FP32[2,3] from the manifest, found INT32[2,3]',
  ],
  [
    "an input of another rank",
    withParameter(0, spec("FP32", 2, 3, 1)),
    'input "x" (parameter 0): expected FP32[2,3] from the manifest, found FP32[2,3,1]',
  ],
  [
    "a weight of another type",
    withParameter(2, spec("BF16", 4)),
    'weight "bias" (parameter 2): expected FP32[4] from weights.safetensors, found BF16[4]',
  ],
  [
    "a weight of another extent",
    withParameter(2, spec("FP32", 5)),
    'weight "bias" (parameter 2): expected FP32[4] from weights.safetensors, found FP32[5]',
  ],
  [
    "a weight the other way round",
    withParameter(1, spec("FP32", 4, 3)),
    'weight "kernel" (parameter 1): expected FP32[3,4] from weights.safetensors, found FP32[4,3] ' +
    "(the axes are reversed: the bundle is read as axis_order: column_major, was it meant as row_major?)",
  ],
  [
    "an output of another type",
    withResult(spec("FP64", 2, 4)),
    'output "y" (result 0): expected FP32[2,4] from the manifest, found FP64[2,4]',
  ],
  [
    "a surplus parameter",
    { ...denseSignature(2), parameters: [...denseSignature(2).parameters, spec("FP32")] },
    "it takes 4 parameters, expected 3: 1 executable input and 2 weights of argument_order",
  ],
  [
    "a missing result",
    { ...denseSignature(2), results: [] },
    "it gives 0 results, expected 1 executable output",
  ],
];

for (const [what, signature, message] of MISMATCHES) {
  Deno.test(`checkSignature() refuses ${what}`, () =>
    withBundle(unchanged, (bundle, program) => {
      assert.throws(() => checkSignature(bundle, program("model.b2.mlir"), signature), {
        name: BundleError.name,
        message: `Cannot load model "dense": model.b2.mlir does not fit its bundle: ${message}`,
      });
    }));
}

Deno.test("checkSignature() takes the batch size of a lone program from its first input", () =>
  withBundle((manifest) => manifest.batching.compiled_batch_sizes = [2], (bundle, program) => {
    assert.equal(checkSignature(bundle, program("model.mlir"), denseSignature(2)).batchSize, 2);
    assert.throws(
      () => checkSignature(bundle, program("model.mlir"), denseSignature(3)),
      /compiled for batch size 3, but manifest key "batching.compiled_batch_sizes" lists 2/,
    );
    assert.throws(
      () => checkSignature(bundle, program("model.mlir"), withParameter(0, spec("FP32", 3, 3))),
      /output "y" \(result 0\): expected FP32\[3,4\] from the manifest, found FP32\[2,4\]/,
    );
    assert.throws(
      () => checkSignature(bundle, program("model.mlir"), withParameter(0, spec("FP32", 0, 3))),
      /no positive extent on the batch axis/,
    );
  }, true));

Deno.test("checkSignature() fixes the variable axes of inputs and leaves those of outputs free", () =>
  withBundle((manifest) => {
    manifest.executable_inputs[0].dims = { d: -1 };
    manifest.executable_outputs[0].dims = { c: -1 };
    manifest.input_shapes = [{ d: 7 }];
    manifest.batching.compiled_batch_sizes = [1];
  }, (bundle) => {
    const program = bundle.programs[0]!.files[0]!;
    const signature = (width: number) => ({
      parameters: [spec("FP32", 1, width), spec("FP32", 3, 4), spec("FP32", 4)],
      results: [spec("FP32", 1, 99)],
    });
    assert.equal(checkSignature(bundle, program, signature(7)).batchSize, 1);
    assert.throws(
      () => checkSignature(bundle, program, signature(3)),
      /input "x" \(parameter 0\): expected FP32\[1,7\] from the manifest, found FP32\[1,3\]/,
    );
  }));
