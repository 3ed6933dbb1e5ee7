import assert from "node:assert/strict";
import { join } from "node:path";
import {
  DENSE_BIAS,
  DENSE_KERNEL,
  DENSE_KERNEL_STORED,
  denseBundle,
  denseBundleWith,
  denseProgram,
  denseWeights,
  float32Bytes,
  rawSafetensors,
  safetensors,
  temporaryDirectory,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { BundleError } from "../errors.ts";
import { loadBundle, type ModelBundle } from "./bundle.ts";
import { readHook } from "./hooks.ts";
import { readProgram } from "./programs.ts";
import { Weights } from "./weights.ts";

function floats(bytes: Uint8Array): number[] {
  return [...new Float32Array(bytes.slice().buffer)];
}

async function loadModel(directory: string): Promise<ModelBundle> {
  const bundle = await loadBundle(directory);
  assert.ok(bundle.kind === "model");
  return bundle;
}

Deno.test("loadBundle() opens a bundle and reads its weights in program layout", async () => {
  await using root = await temporaryDirectory();
  using bundle = await loadModel(await writeBundle(root.path, "dense", denseBundle()));
  assert.equal(bundle.name, "dense");
  assert.deepEqual(bundle.warnings, []);
  assert.deepEqual(bundle.weights.specs, [
    { name: "kernel", datatype: "FP32", shape: [3, 4], byteLength: 48 },
    { name: "bias", datatype: "FP32", shape: [4], byteLength: 16 },
  ]);
  assert.equal(bundle.weights.byteLength, 64);
  assert.equal(bundle.weights.isProgramLayout, false);
  assert.deepEqual(floats(await bundle.weights.read(0)), DENSE_KERNEL);
  assert.deepEqual(floats(await bundle.weights.read(1)), DENSE_BIAS);
  const target = new Uint8Array(48);
  assert.equal(await bundle.weights.read(0, target), target);
  assert.deepEqual(floats(target), DENSE_KERNEL);
  await assert.rejects(bundle.weights.read(0, new Uint8Array(47)), RangeError);
  await assert.rejects(bundle.weights.read(2), RangeError);
});

Deno.test("loadBundle() uses row-major weights as they are", async () => {
  await using root = await temporaryDirectory();
  const files = denseBundleWith((manifest) => {
    manifest.axis_order = "row_major";
    manifest.executable_inputs[0].shape = "nd";
    manifest.executable_outputs[0].shape = "nc";
  });
  const weights = denseWeights();
  weights[0] = { name: "kernel", dtype: "F32", shape: [3, 4], data: float32Bytes(DENSE_KERNEL) };
  files["weights.safetensors"] = safetensors(weights);
  using bundle = await loadModel(await writeBundle(root.path, "dense", files));
  assert.deepEqual(bundle.manifest.executableInputs[0]!.shape, [-1, 3]);
  assert.deepEqual(bundle.weights.specs[0]!.shape, [3, 4]);
  assert.equal(bundle.weights.isProgramLayout, true);
  assert.deepEqual(floats(await bundle.weights.read(0)), DENSE_KERNEL);
});

Deno.test("loadBundle() takes weights in argument order and warns about the rest", async () => {
  await using root = await temporaryDirectory();
  const files = denseBundle();
  files["weights.safetensors"] = safetensors(denseWeights(), { argument_order: '["bias"]' });
  using bundle = await loadModel(await writeBundle(root.path, "dense", files));
  assert.deepEqual(bundle.weights.specs.map(({ name }) => name), ["bias"]);
  assert.match(bundle.warnings[0]!, /1 tensors? that argument_order does not list.*"kernel"/);
});

Deno.test("Weights.read() refuses after disposal", async () => {
  await using root = await temporaryDirectory();
  const bundle = await loadModel(await writeBundle(root.path, "dense", denseBundle()));
  bundle[Symbol.dispose]();
  bundle[Symbol.dispose]();
  await assert.rejects(bundle.weights.read(0), TypeError);
});

Deno.test("loadBundle() lists programs by batch size", async () => {
  await using root = await temporaryDirectory();
  const files = {
    ...denseBundle(),
    "model.b16.mlir": denseProgram({ batch: 16 }),
    "model.mlir": "x",
  };
  using bundle = await loadModel(await writeBundle(root.path, "dense", files));
  const [programs] = bundle.programs;
  assert.deepEqual(programs!.files.map(({ batchKey }) => batchKey), [1, 2, 16]);
  assert.deepEqual(
    bundle.warnings,
    [
      "model.mlir is ignored, because model.b1.mlir exists",
      "model.b{N}.mlir also exists for sizes that batching.compiled_batch_sizes does not list: 16",
      "these program files belong to no declared variant: model.mlir",
    ].slice(0, 2),
  );
  const code = await readProgram(bundle.name, programs!.files[0]!);
  assert.equal(new TextDecoder().decode(code), denseProgram({ batch: 1 }));
});

Deno.test("loadBundle() takes a lone program for any batch size", async () => {
  await using root = await temporaryDirectory();
  const files = denseBundle();
  delete files["model.b1.mlir"];
  delete files["model.b2.mlir"];
  files["model.mlir"] = denseProgram();
  using bundle = await loadModel(await writeBundle(root.path, "dense", files));
  assert.deepEqual(bundle.programs[0]!.files.map(({ batchKey }) => batchKey), [0]);
  assert.match(bundle.warnings[0]!, /lists 1, 2, but model.mlir is the only program/);
});

Deno.test("loadBundle() finds the programs of each shape variant", async () => {
  await using root = await temporaryDirectory();
  const files = denseBundleWith((manifest) => {
    manifest.executable_inputs[0].dims = { d: -1 };
    manifest.input_shapes = [{ d: 3 }, { d: 5 }];
    delete manifest.batching;
  });
  delete files["model.b1.mlir"];
  delete files["model.b2.mlir"];
  files["model.v0.mlir"] = denseProgram();
  files["model.v1.b2.mlir"] = denseProgram({ inputs: 5 });
  files["model.v1.b4.mlir"] = denseProgram({ inputs: 5, batch: 4 });
  using bundle = await loadModel(await writeBundle(root.path, "dense", files));
  const names = bundle.programs.map((variant) => variant.files.map(({ fileName }) => fileName));
  assert.deepEqual(names, [["model.v0.mlir"], ["model.v1.b2.mlir", "model.v1.b4.mlir"]]);
  assert.deepEqual(bundle.programs.map(({ variant }) => variant.key), [[3], [5]]);
});

Deno.test("loadBundle() finds the hook file, and reads a meta model without anything else", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "chain", {
    "manifest.yaml": JSON.stringify({
      format_version: 2,
      kind: "meta",
      meta: { calls: ["a"] },
      client_inputs: [{ name: "x", dtype: "bytes", shape: "n" }],
      client_outputs: [{ name: "y", dtype: "f32", shape: "n" }],
    }),
    "model.ts": "export const answer = 42;\n",
    "model.jl": "register_model()",
  });
  using bundle = await loadBundle(directory);
  assert.ok(bundle.kind === "meta");
  assert.deepEqual(bundle.hook, { path: join(directory, "model.ts"), directory });
  assert.equal(await readHook(bundle.name, bundle.hook), "export const answer = 42;\n");
});

Deno.test("loadBundle() follows links", async () => {
  await using root = await temporaryDirectory();
  const real = await writeBundle(root.path, "real", denseBundle());
  await Deno.rename(join(real, "weights.safetensors"), join(root.path, "w"));
  await Deno.symlink(join(root.path, "w"), join(real, "weights.safetensors"));
  await Deno.symlink(real, join(root.path, "alias"));
  using bundle = await loadModel(join(root.path, "alias"));
  assert.equal(bundle.name, "alias");
  assert.equal(bundle.weights.specs.length, 2);
});

Deno.test("loadBundle() refuses a hook file that is no file, rather than serve without its hooks", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "dense", denseBundle());
  const hook = join(directory, "model.ts");
  const make = [
    () => Deno.symlink("missing.ts", hook),
    () => Deno.symlink("/dev/zero", hook),
    () => Deno.mkdir(hook),
  ];
  for (const one of make) {
    await one();
    await assert.rejects(loadBundle(directory), (error) => {
      assert.ok(error instanceof BundleError);
      assert.match(error.message, /model\.ts is not a regular file/);
      return true;
    });
    await Deno.remove(hook);
  }
});

Deno.test("loadBundle() refuses a program that is no file, rather than serve without its batch size", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "dense", denseBundle());
  const program = join(directory, "model.b2.mlir");
  await Deno.remove(program);
  await new Deno.Command("mkfifo", { args: [program] }).output();
  await assert.rejects(loadBundle(directory), /"dense": model\.b2\.mlir is not a regular file/);
});

Deno.test("loadBundle() throws a BundleError with its cause for a directory that is not there", async () => {
  await assert.rejects(loadBundle("/nonexistent/model"), (error: unknown) => {
    assert.ok(error instanceof BundleError);
    assert.ok(error.cause instanceof Deno.errors.NotFound);
    assert.match(error.message, /^Cannot load model "model": its directory cannot be read/);
    return true;
  });
});

Deno.test("the dense test bundle stores its kernel transposed", () => {
  const transposed = DENSE_KERNEL.map((_, at) => DENSE_KERNEL[(at % 3) * 4 + Math.floor(at / 3)]);
  assert.deepEqual(DENSE_KERNEL_STORED, transposed);
});

Deno.test("Weights.read() refuses a file that was changed in place", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "dense", denseBundle());
  using bundle = await loadModel(directory);
  const path = join(directory, "weights.safetensors");
  const view = await bundle.weights.read(1);
  assert.deepEqual(floats(view), DENSE_BIAS);
  await Deno.truncate(path, 10);
  await assert.rejects(bundle.weights.read(1), /weights.safetensors: it was changed in place/);
  await assert.rejects(bundle.weights.read(0), /rename it onto the old one/);
});

Deno.test("Weights reads what is cut off under it as zeros, and does not let them pass", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "dense", denseBundle());
  const path = join(directory, "weights.safetensors");
  const data = new Uint8Array(4 * 4096).fill(7);
  await Deno.writeFile(path, safetensors([{ name: "w", dtype: "U8", shape: [128, 128], data }]));
  using weights = Weights.open("dense", path, "row_major");
  const { size, mtime } = Deno.statSync(path);
  const view = await weights.read(0);
  Deno.truncateSync(path, 4096);
  assert.equal(view.at(-1), 0);
  // By now it looks as it did: size and time alone do not tell.
  Deno.truncateSync(path, size);
  Deno.utimeSync(path, mtime!, mtime!);
  const refused = {
    name: "BundleError",
    message: /weights.safetensors: a part of it was missing.*rename it onto the old one/,
  };
  assert.throws(() => weights.check(), refused);
  await assert.rejects(weights.read(0), refused);
  await assert.rejects(weights.read(0, new Uint8Array(data.length)), refused);
});

Deno.test("Weights.read() keeps reading the old file when a new one is renamed onto it", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "dense", denseBundle());
  using bundle = await loadModel(directory);
  const path = join(directory, "weights.safetensors");
  await Deno.writeTextFile(`${path}.new`, "something else");
  await Deno.rename(`${path}.new`, path);
  assert.deepEqual(floats(await bundle.weights.read(0)), DENSE_KERNEL);
});

Deno.test("views of weights become empty when the bundle is disposed", async () => {
  await using root = await temporaryDirectory();
  const bundle = await loadModel(await writeBundle(root.path, "dense", denseBundle()));
  const view = await bundle.weights.read(1);
  bundle[Symbol.dispose]();
  assert.equal(view.length, 0);
});

Deno.test("loadBundle() maps a weights file of six gigabytes at once and reads any part", async () => {
  await using root = await temporaryDirectory();
  const directory = await writeBundle(root.path, "large", denseBundle());
  const elements = 6 * 2 ** 30;
  const header = JSON.stringify({
    __metadata__: { argument_order: '["tail","body"]' },
    body: { dtype: "U8", shape: [elements], data_offsets: [0, elements] },
    tail: { dtype: "U8", shape: [3], data_offsets: [elements, elements + 3] },
  });
  // Nearly all of it is a hole, which takes no space.
  using file = await Deno.open(join(directory, "weights.safetensors"), { write: true });
  await file.write(rawSafetensors(header));
  const dataStart = 8 + header.length;
  await file.truncate(dataStart + elements + 3);
  await file.seek(dataStart + elements, Deno.SeekMode.Start);
  await file.write(Uint8Array.of(7, 8, 9));
  using bundle = await loadModel(directory);
  assert.equal(bundle.weights.byteLength, elements + 3);
  assert.deepEqual([...await bundle.weights.read(0)], [7, 8, 9]);
  assert.equal((await bundle.weights.read(1)).length, elements);
});
