import assert from "node:assert/strict";
import {
  asFloat32,
  asFloat64,
  asInt32,
  asInt64,
  bytesOf,
  findTensor,
  type HookTensor,
  makeTensor,
  stringsOf,
  valuesOf,
} from "./tensors.ts";

/** A tensor of the given bytes that lie `shift` bytes into their buffer. */
function raw(datatype: string, shape: number[], bytes: number[], shift = 0): HookTensor {
  const data = new Uint8Array(shift + bytes.length).subarray(shift);
  data.set(bytes);
  return { name: "x", datatype, shape, data };
}

Deno.test("valuesOf() reads every datatype, aligned as a view and unaligned as a copy", () => {
  const cases: [datatype: string, bytes: number[], values: (number | bigint)[]][] = [
    ["BOOL", [1, 0], [1, 0]],
    ["UINT8", [255, 0], [255, 0]],
    ["INT8", [255, 127], [-1, 127]],
    ["UINT16", [255, 255, 1, 0], [65535, 1]],
    ["INT16", [255, 255, 1, 0], [-1, 1]],
    ["UINT32", [255, 255, 255, 255, 1, 0, 0, 0], [4294967295, 1]],
    ["INT32", [255, 255, 255, 255, 1, 0, 0, 0], [-1, 1]],
    ["UINT64", [255, 255, 255, 255, 255, 255, 255, 255], [18446744073709551615n]],
    ["INT64", [254, 255, 255, 255, 255, 255, 255, 255], [-2n]],
    ["FP16", [0, 0x3e, 0, 0xc0], [1.5, -2]],
    ["BF16", [0xc0, 0x3f], [0x3fc0]],
    ["FP32", [0, 0, 0xc0, 0x3f], [1.5]],
    ["FP64", [0, 0, 0, 0, 0, 0, 0xf8, 0x3f], [1.5]],
  ];
  for (const [datatype, bytes, values] of cases) {
    for (const shift of [0, 1, 3, 8]) {
      const tensor = raw(datatype, [values.length], bytes, shift);
      const found = valuesOf(tensor);
      assert.deepEqual([...found], values, `${datatype} at ${shift}`);
      const isView = found.buffer === tensor.data.buffer;
      assert.equal(isView, shift % found.BYTES_PER_ELEMENT === 0, `${datatype} at ${shift}`);
      // And back: the same bytes.
      assert.deepEqual([...makeTensor("x", datatype, [values.length], found).data], bytes);
    }
  }
  assert.throws(() => valuesOf(raw("FP32", [2], [0, 0, 0, 0])), /has 4 bytes where \[2\] takes 8/);
  assert.throws(() => valuesOf(raw("BYTES", [0], [])), /is BYTES, not numbers/);
  assert.throws(() => valuesOf(raw("FP32", [-1], [])), /impossible shape/);
  assert.deepEqual([...valuesOf(raw("FP32", [], [0, 0, 0xc0, 0x3f]))], [1.5]);
  assert.equal(valuesOf(raw("FP32", [0, 4], [], 1)).length, 0);
});

Deno.test("conversions keep values and refuse those that do not fit", () => {
  const bf16 = raw("BF16", [2], [0xc0, 0x3f, 0x80, 0xff]);
  assert.deepEqual([...asFloat32(bf16)], [1.5, -Infinity]);
  assert.deepEqual([...asFloat64(bf16)], [1.5, -Infinity]);
  const int64 = makeTensor("x", "INT64", [2], [-3, 2 ** 31 - 1]);
  assert.deepEqual([...asFloat32(int64)], [-3, 2 ** 31]);
  assert.deepEqual([...asFloat64(int64)], [-3, 2 ** 31 - 1]);
  assert.deepEqual([...asInt32(int64)], [-3, 2 ** 31 - 1]);
  assert.deepEqual([...asInt64(makeTensor("x", "BOOL", [2], [true, false]))], [1n, 0n]);
  assert.throws(
    () => asInt32(makeTensor("x", "INT64", [2], [0, 2 ** 31])),
    /tensor "x": element 1, 2147483648, is no INT32 value/,
  );
  assert.throws(
    () => asInt64(makeTensor("x", "UINT64", [1], [1n << 63n])),
    /element 0, 9223372036854775808, is no INT64 value/,
  );
  assert.throws(() => asInt32(makeTensor("x", "FP32", [1], [1])), /is FP32, not integers/);
  const own = new Float32Array([1, 2]);
  assert.equal(asFloat32(makeTensor("x", "FP32", [2], own)).buffer, own.buffer);
});

Deno.test("makeTensor() converts plain numbers and checks count, range and kind", () => {
  assert.deepEqual([...makeTensor("x", "UINT8", [2], [0, 255]).data], [0, 255]);
  assert.deepEqual([...makeTensor("x", "FP16", [1], [1.5]).data], [0, 0x3e]);
  assert.deepEqual([...makeTensor("x", "FP32", [1], new Float64Array([1.5])).data], [
    0,
    0,
    0xc0,
    0x3f,
  ]);
  assert.deepEqual([...makeTensor("x", "UINT8", [1], new Uint8ClampedArray([300])).data], [255]);
  // Halves of the last bit of BF16 go to the even neighbour; a NaN stays one.
  const bits = (value: number) =>
    new Uint16Array(makeTensor("x", "BF16", [1], [value]).data.buffer)[0];
  assert.equal(bits(1 + 2 ** -8), 0x3f80);
  assert.equal(bits(1 + 3 * 2 ** -8), 0x3f82);
  assert.equal(bits(1 + 2 ** -8 + 2 ** -20), 0x3f81);
  assert.equal(bits(3.4e38), 0x7f80);
  assert.ok(Number.isNaN(asFloat32(makeTensor("x", "BF16", [1], [NaN]))[0]));
  const refused: [string, number[], Parameters<typeof makeTensor>[3], RegExp][] = [
    ["UINT8", [1], [256], /element 0, 256, is no UINT8 value/],
    ["INT8", [2], [0, -129], /element 1, -129, is no INT8 value/],
    ["UINT64", [1], [-1], /element 0, -1, is no UINT64 value/],
    ["INT32", [1], [0.5], /element 0, 0.5, is no INT32 value/],
    ["INT64", [1], [NaN], /element 0, NaN, is no INT64 value/],
    ["BOOL", [1], [2], /is no BOOL value/],
    ["FP32", [3], [1, 2], /2 values where \[3\] takes 3/],
    ["FLOAT", [1], [1], /unknown datatype FLOAT/],
    ["BYTES", [1], [1], /element 0 is neither a string nor a Uint8Array/],
    ["FP32", [1.5], [1], /impossible shape \[1.5\]/],
  ];
  for (const [datatype, shape, values, message] of refused) {
    assert.throws(() => makeTensor("x", datatype, shape, values), message);
  }
});

Deno.test("strings survive the way through a BYTES tensor", () => {
  const tensor = makeTensor("s", "BYTES", [2, 2], ["", "ä😀", "\uFEFFb", new Uint8Array([255])]);
  assert.deepEqual([...tensor.data.subarray(0, 8)], [0, 0, 0, 0, 6, 0, 0, 0]);
  assert.deepEqual(stringsOf(tensor), ["", "ä😀", "\uFEFFb", "\uFFFD"]);
  assert.deepEqual([...bytesOf(tensor)[3]!], [255]);
  assert.throws(() => stringsOf({ ...tensor, shape: [3] }), /"s" has 4 elements, not 3/);
  assert.throws(
    () => stringsOf({ ...tensor, data: tensor.data.subarray(0, -1) }),
    /"s": element 3 runs past the end/,
  );
  assert.throws(() => stringsOf(raw("BYTES", [1], [1, 0])), /element 0 runs past the end/);
  assert.throws(() => bytesOf(raw("UINT8", [1], [1])), /is UINT8, not BYTES/);
});

Deno.test("findTensor() finds by name and says what there is otherwise", () => {
  const tensors = [raw("UINT8", [0], []), { ...raw("UINT8", [0], []), name: "y" }];
  assert.equal(findTensor(tensors, "y"), tensors[1]);
  assert.throws(() => findTensor(tensors, "z"), /no tensor "z" among "x", "y"/);
  assert.throws(() => findTensor([], "z"), /no tensor "z" among none/);
});
