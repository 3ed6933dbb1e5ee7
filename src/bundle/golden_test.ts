import assert from "node:assert/strict";
import {
  denseBundle,
  float32Bytes,
  safetensors,
  temporaryDirectory,
  type TensorData,
  writeBundle,
} from "../../tests/harness/bundle_builder.ts";
import { type Datatype, DATATYPES } from "../tensor/mod.ts";
import { loadBundle, type ModelBundle } from "./bundle.ts";
import { compareTensors, GoldenFile } from "./golden.ts";

const EXACT = { atol: 0, rtol: 0 };

function bytesOf(values: ArrayLike<number> & { buffer: ArrayBufferLike }): Uint8Array {
  return new Uint8Array(values.buffer);
}

function compare(
  datatype: Datatype,
  golden: Uint8Array,
  found: Uint8Array,
  tolerance = EXACT,
) {
  return compareTensors(
    { name: "y", datatype, shape: [golden.length], data: golden },
    found,
    tolerance,
  );
}

function golden(key: string, rows: number): TensorData[] {
  return [
    {
      name: `${key}/input/x`,
      dtype: "F32",
      shape: [rows, 3],
      data: float32Bytes(new Array(rows * 3).fill(1)),
    },
    {
      name: `${key}/output/y`,
      dtype: "F32",
      shape: [rows, 4],
      data: float32Bytes(new Array(rows * 4).fill(2)),
    },
  ];
}

async function withGolden(
  tensors: TensorData[],
  metadata: Record<string, string>,
  test: (bundle: ModelBundle) => void,
): Promise<void> {
  await using root = await temporaryDirectory();
  const files = { ...denseBundle(), "golden.safetensors": safetensors(tensors, metadata) };
  using bundle = await loadBundle(await writeBundle(root.path, "m", files));
  assert.ok(bundle.kind === "model");
  test(bundle);
}

Deno.test("GoldenFile gives each program's tensors in manifest order", () =>
  withGolden(golden("b2", 2), { atol: "1e-3", rtol: "0" }, (bundle) => {
    using file = GoldenFile.open(bundle)!;
    assert.deepEqual(file.tolerance, { atol: 1e-3, rtol: 0 });
    assert.equal(file.request(), undefined);
    const [one, two] = bundle.programs[0]!.files;
    assert.equal(file.caseOf(one!), undefined);
    const { inputs, outputs } = file.caseOf(two!)!;
    assert.deepEqual(inputs.map(({ name, shape }) => [name, shape]), [["x", [2, 3]]]);
    assert.deepEqual([...outputs[0]!.data], [...float32Bytes(new Array(8).fill(2))]);
  }));

Deno.test("GoldenFile.open() gives nothing when there is no file", async () => {
  await using root = await temporaryDirectory();
  using bundle = await loadBundle(await writeBundle(root.path, "m", denseBundle()));
  assert.ok(bundle.kind === "model");
  assert.equal(GoldenFile.open(bundle), undefined);
});

Deno.test("GoldenFile refuses tensors of no program, parts of a case and bad tolerances", async () => {
  await withGolden(golden("b9", 9), {}, (bundle) => {
    assert.throws(() => GoldenFile.open(bundle), /"b9\/input\/x" belongs to no program/);
  });
  await withGolden(golden("b1", 1), { rtol: "small" }, (bundle) => {
    assert.throws(() => GoldenFile.open(bundle), /gives "small" as rtol/);
  });
  await withGolden(golden("b1", 1).slice(0, 1), {}, (bundle) => {
    using file = GoldenFile.open(bundle)!;
    assert.throws(() => file.caseOf(bundle.programs[0]!.files[0]!), /"b1\/output\/y" is missing/);
  });
});

Deno.test("GoldenFile of a meta model has one request of a client", async () => {
  await using root = await temporaryDirectory();
  const manifest = {
    format_version: "2.0",
    axis_order: "row_major",
    kind: "meta",
    meta: { calls: [] },
    client_inputs: [{ name: "text", dtype: "u8", shape: "a", dims: { a: -1 } }],
    client_outputs: [{ name: "count", dtype: "i32", shape: "" }],
  };
  const tensors: TensorData[] = [
    { name: "b0/input/text", dtype: "U8", shape: [3], data: Uint8Array.of(1, 2, 3) },
    { name: "b0/output/count", dtype: "I32", shape: [], data: bytesOf(Int32Array.of(3)) },
  ];
  const write = async (name: string, golden: TensorData[]) =>
    await loadBundle(
      await writeBundle(root.path, name, {
        "manifest.yaml": JSON.stringify(manifest),
        "model.ts": "",
        "golden.safetensors": safetensors(golden, { atol: "0.5" }),
      }),
    );
  const bundle = await write("meta", tensors);
  using file = GoldenFile.open(bundle)!;
  const { inputs, outputs } = file.request()!;
  assert.deepEqual(
    [...inputs, ...outputs].map(({ name, datatype, shape }) => [name, datatype, shape]),
    [["text", "UINT8", [3]], ["count", "INT32", []]],
  );
  assert.equal(file.tolerance.atol, 0.5);
  const stray = await write("stray", [{ ...tensors[0]!, name: "b1/input/text" }]);
  assert.throws(
    () => GoldenFile.open(stray),
    /"b1\/input\/text" belongs to no request of the bundle/,
  );
  using part = GoldenFile.open(await write("part", tensors.slice(1)))!;
  assert.throws(() => part.request(), /"b0\/input\/text" is missing/);
});

Deno.test("compareTensors() measures the largest differences", () => {
  const result = compare("FP32", float32Bytes([1, -4, 0]), float32Bytes([1.5, -4.5, 0.25]));
  assert.deepEqual(result, {
    largestAbsolute: 0.5,
    largestRelative: 0.5,
    isIdentical: false,
    isWithin: false,
  });
  const tolerance = { atol: 0.25, rtol: 0.25 };
  assert.equal(
    compare("FP32", float32Bytes([1, -4]), float32Bytes([1.5, -4.5]), tolerance).isWithin,
    true,
  );
  assert.equal(compare("FP32", float32Bytes([1]), float32Bytes([1.75]), tolerance).isWithin, false);
});

Deno.test("compareTensors() tells NaN and infinities from numbers", () => {
  const special = [NaN, Infinity, -Infinity, -0];
  const same = compare("FP32", float32Bytes(special), float32Bytes([NaN, Infinity, -Infinity, 0]));
  assert.deepEqual([same.largestAbsolute, same.isWithin, same.isIdentical], [0, true, false]);
  const loose = { atol: 1e9, rtol: 1e9 };
  for (const [a, b] of [[NaN, 1], [1, NaN], [Infinity, -Infinity], [1, Infinity]]) {
    const { largestAbsolute, isWithin } = compare(
      "FP32",
      float32Bytes([a!]),
      float32Bytes([b!]),
      loose,
    );
    assert.deepEqual([largestAbsolute, isWithin], [Infinity, false], `${a} against ${b}`);
  }
});

Deno.test("compareTensors() reads every datatype: neighbours of the value 1 are one step away", () => {
  // The encodings of 1 and of the next larger number, little-endian, and their distance.
  const steps: Partial<Record<Datatype, [number[], number[], number]>> = {
    BOOL: [[0], [1], 1],
    UINT8: [[1], [2], 1],
    INT8: [[0xff], [0], 1],
    UINT16: [[1, 0], [2, 0], 1],
    INT16: [[0xff, 0xff], [0, 0], 1],
    UINT32: [[1, 0, 0, 0], [2, 0, 0, 0], 1],
    INT32: [[0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0], 1],
    UINT64: [[0xfe, ...Array(7).fill(0xff)], Array(8).fill(0xff), 1],
    INT64: [Array(8).fill(0xff), Array(8).fill(0), 1],
    FP16: [[0x00, 0x3c], [0x01, 0x3c], 2 ** -10],
    BF16: [[0x80, 0x3f], [0x81, 0x3f], 2 ** -7],
    FP32: [[0, 0, 0x80, 0x3f], [1, 0, 0x80, 0x3f], 2 ** -23],
    FP64: [[0, 0, 0, 0, 0, 0, 0xf0, 0x3f], [1, 0, 0, 0, 0, 0, 0xf0, 0x3f], 2 ** -52],
    FP8_E5M2: [[0x3c], [0x3d], 2 ** -2],
    FP8_E4M3FN: [[0x38], [0x39], 2 ** -3],
  };
  for (const { datatype } of DATATYPES) {
    if (datatype === "BYTES") continue;
    const [one, next, step] = steps[datatype]!;
    const result = compare(datatype, Uint8Array.from(one), Uint8Array.from(next));
    assert.equal(result.largestAbsolute, step, datatype);
    assert.equal(result.isWithin, /^(BF16|FP16|FP8)/.test(datatype), datatype);
  }
});

Deno.test("compareTensors() reads E4M3 as its standard says", () => {
  // OCP 8-bit floating point specification, table 2: largest 448, smallest subnormal 2^-9.
  const difference = (byte: number) =>
    compare("FP8_E4M3FN", Uint8Array.of(0), Uint8Array.of(byte)).largestAbsolute;
  assert.deepEqual([0x7e, 0x01, 0x08, 0xfe, 0x7f].map(difference), [
    448,
    2 ** -9,
    2 ** -6,
    448,
    Infinity,
  ]);
});

Deno.test("compareTensors() refuses tensors of different sizes", () => {
  const short = bytesOf(new Float32Array(1));
  assert.throws(() => compare("FP32", bytesOf(new Float32Array(2)), short), RangeError);
});
