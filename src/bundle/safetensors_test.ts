import assert from "node:assert/strict";
import { rawSafetensors, safetensors } from "../../tests/harness/bundle_builder.ts";
import { DATATYPES } from "../tensor/mod.ts";
import { MAX_HEADER_BYTES } from "./limits.ts";
import { type ByteSource, readSafetensors } from "./safetensors.ts";
import { parseStringArray, SafetensorsError } from "./safetensors_header.ts";

function sourceOf(bytes: Uint8Array): ByteSource {
  return {
    byteLength: bytes.length,
    view: (offset, length) => bytes.subarray(offset, offset + length),
  };
}

function refuses(bytes: Uint8Array, message: RegExp): void {
  assert.throws(() => readSafetensors(sourceOf(bytes)), (error: unknown) => {
    assert.ok(error instanceof SafetensorsError, String(error));
    assert.match(error.message, message);
    return true;
  });
}

/** A header with one F32 tensor `w` whose fields are given as JSON, and 8 bytes of data. */
function oneTensor(fields: Record<string, unknown>, data = new Uint8Array(8)): Uint8Array {
  const tensor = { dtype: "F32", shape: [2], data_offsets: [0, 8], ...fields };
  return rawSafetensors(JSON.stringify({ w: tensor }), data);
}

// Written by the `safetensors` Python package 0.8.0 (save, numpy): {"a": int16 [[1, 2], [3, 4]],
// "b": bool [True]}, metadata {"k": "é\""}.
const FROM_PYTHON = Uint8Array.from(
  atob(
    "kAAAAAAAAAB7Il9fbWV0YWRhdGFfXyI6eyJrIjoiw6lcIiJ9LCJhIjp7ImR0eXBlIjoiSTE2Iiwic2hhcGUiOlsyLDJdLCJkYXRhX29mZnNldHMiOlswLDhdfSwiYiI6eyJkdHlwZSI6IkJPT0wiLCJzaGFwZSI6WzFdLCJkYXRhX29mZnNldHMiOls4LDldfX0gICAgICABAAIAAwAEAAE=",
  ),
  (c) => c.charCodeAt(0),
);

Deno.test("readSafetensors() reads a file of the reference implementation", () => {
  const { metadata, tensors } = readSafetensors(sourceOf(FROM_PYTHON));
  assert.deepEqual([...metadata], [["k", 'é"']]);
  const a = tensors.get("a")!;
  assert.equal(a.datatype, "INT16");
  assert.deepEqual(a.shape, [2, 2]);
  const bytes = FROM_PYTHON.subarray(a.offset, a.offset + a.byteLength);
  assert.deepEqual([...bytes], [1, 0, 2, 0, 3, 0, 4, 0]);
  const b = tensors.get("b")!;
  assert.deepEqual([b.datatype, FROM_PYTHON[b.offset]], ["BOOL", 1]);
});

Deno.test("readSafetensors() reads every datatype a weight can have", () => {
  for (const { safetensors: tag, datatype, byteSize } of DATATYPES) {
    if (tag === null) continue;
    const data = new Uint8Array(3 * byteSize);
    const file = safetensors([{ name: "w", dtype: tag, shape: [3], data }]);
    assert.equal(readSafetensors(sourceOf(file)).tensors.get("w")!.datatype, datatype);
  }
});

Deno.test("readSafetensors() accepts no tensors, empty tensors, scalars and padding", () => {
  assert.equal(readSafetensors(sourceOf(rawSafetensors("{}"))).tensors.size, 0);
  const file = safetensors([
    { name: "none", dtype: "F32", shape: [4, 0, 2], data: new Uint8Array() },
    { name: "scalar", dtype: "F64", shape: [], data: new Uint8Array(8) },
    { name: "empty", dtype: "U8", shape: [0], data: new Uint8Array() },
  ]);
  const { tensors } = readSafetensors(sourceOf(file));
  assert.deepEqual([...tensors.values()].map(({ byteLength }) => byteLength), [0, 8, 0]);
  const padded = rawSafetensors(
    ' {"w" : {"data_offsets":[0 ,\n1],"shape": [ ],"dtype":"I8"} }   '.trimStart(),
    new Uint8Array(1),
  );
  assert.equal(readSafetensors(sourceOf(padded)).tensors.get("w")!.datatype, "INT8");
});

Deno.test("readSafetensors() finds tensors in any order of their names", () => {
  const header = {
    b: { dtype: "U8", shape: [1], data_offsets: [2, 3] },
    a: { dtype: "U8", shape: [2], data_offsets: [0, 2] },
  };
  const file = rawSafetensors(JSON.stringify(header), new Uint8Array(3));
  assert.deepEqual([...readSafetensors(sourceOf(file)).tensors.keys()], ["a", "b"]);
});

const latin1 = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0));

const REFUSED: [string, Uint8Array, RegExp][] = [
  ["an empty file", new Uint8Array(), /the file has 0 bytes/],
  ["half a header length", new Uint8Array(5), /the file has 5 bytes/],
  [
    "a header beyond the end",
    rawSafetensors("{}", undefined, 100n),
    /claims 100 bytes where 2 remain/,
  ],
  [
    "a huge header",
    rawSafetensors("{}", undefined, BigInt(MAX_HEADER_BYTES) + 1n),
    /claims 100000001 bytes, more than the 100000000 allowed/,
  ],
  [
    "an impossible header",
    rawSafetensors("{}", undefined, 2n ** 64n - 1n),
    /more than the 100000000/,
  ],
  ["an empty header", rawSafetensors(""), /does not start with "{"/],
  ["a list as header", rawSafetensors("[]"), /does not start with "{"/],
  ["text that is not JSON", rawSafetensors("{nope}"), /expected a string at byte 1/],
  ["an unclosed header", rawSafetensors('{"w":{'), /expected a string at its end/],
  [
    "text after the header",
    rawSafetensors("{} {}"),
    /expected nothing more at byte 3/,
  ],
  ["a header that is not UTF-8", rawSafetensors(latin1('{"\xe9":{}}')), /not UTF-8 near byte 2/],
  ["a bad escape", rawSafetensors('{"\\q":{}}'), /bad escape/],
  ["a newline in a name", rawSafetensors('{"a\nb":{}}'), /control character/],
  ["an unclosed name", rawSafetensors('{"abc'), /closing quote of a string/],
  ["deep nesting", rawSafetensors('{"w":' + "[".repeat(100_000)), /expected "{"/],
  [
    "nested shapes",
    oneTensor({ shape: [[2]] }),
    /something other than integers as the shape of "w"/,
  ],
  [
    "a tensor twice",
    rawSafetensors('{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":1}'),
    /two entries named "w"/,
  ],
  ["metadata twice", rawSafetensors('{"__metadata__":{},"__metadata__":{}}'), /two entries named/],
  [
    "a metadata key twice",
    rawSafetensors('{"__metadata__":{"a":"","a":""}}'),
    /metadata key "a" twice/,
  ],
  ["metadata that is not text", rawSafetensors('{"__metadata__":{"a":1}}'), /expected a string/],
  ["a missing type", rawSafetensors('{"w":{"shape":[],"data_offsets":[0,0]}}'), /no proper dtype/],
  [
    "a missing shape",
    rawSafetensors('{"w":{"dtype":"U8","data_offsets":[0,0]}}'),
    /no proper shape/,
  ],
  ["a single offset", oneTensor({ data_offsets: [0] }), /no proper data_offsets/],
  ["three offsets", oneTensor({ data_offsets: [0, 8, 8] }), /more than 2 numbers as the offsets/],
  ["an unknown field", oneTensor({ strides: [1] }), /unknown field "strides"/],
  ["a field twice", rawSafetensors('{"w":{"dtype":"U8","dtype":"U8"}}'), /field "dtype" twice/],
  ["an unknown type", oneTensor({ dtype: "F4" }), /tensor "w" has the unsupported type "F4"/],
  ["a negative extent", oneTensor({ shape: [-2] }), /negative number as the shape of "w"/],
  ["a fractional extent", oneTensor({ shape: [2.5] }), /other than integers as the shape/],
  ["NaN as extent", rawSafetensors('{"w":{"shape":[NaN]}}'), /other than integers as the shape/],
  ["an exponent", rawSafetensors('{"w":{"shape":[1e3]}}'), /other than integers as the shape/],
  ["a huge extent", rawSafetensors('{"w":{"shape":[99999999999999999]}}'), /huge number/],
  ["many axes", oneTensor({ shape: new Array(40).fill(1) }), /more than 32 numbers as the shape/],
  ["an overflowing size", oneTensor({ shape: [2 ** 40, 2 ** 40] }), /takes Infinity bytes/],
  ["a wrong size", oneTensor({ shape: [3] }), /byte range 0 to 8, but F32\[3\] takes 12 bytes/],
  ["offsets the wrong way round", oneTensor({ data_offsets: [8, 0] }), /byte range 8 to 0/],
  [
    "a gap at the start",
    oneTensor({ data_offsets: [4, 12] }),
    /starts at 4, leaving a gap after byte 0/,
  ],
  ["data cut off", oneTensor({}, new Uint8Array(7)), /ends at 8, but the file has 7 bytes of data/],
  [
    "data left over",
    oneTensor({}, new Uint8Array(9)),
    /end at byte 8 of the data, but the file has 9/,
  ],
  [
    "overlapping tensors",
    rawSafetensors(
      JSON.stringify({
        a: { dtype: "U8", shape: [4], data_offsets: [0, 4] },
        b: { dtype: "U8", shape: [4], data_offsets: [2, 6] },
      }),
      new Uint8Array(6),
    ),
    /"b" starts at 2, inside the tensor before it, which ends at 4/,
  ],
];

for (const [what, bytes, message] of REFUSED) {
  Deno.test(`readSafetensors() refuses ${what}`, () => refuses(bytes, message));
}

Deno.test("readSafetensors() refuses any truncation of a valid file", () => {
  for (let length = 0; length < FROM_PYTHON.length; length++) {
    refuses(FROM_PYTHON.subarray(0, length), /./);
  }
});

Deno.test("parseStringArray() reads names and refuses everything else", () => {
  assert.deepEqual(parseStringArray('["a", "b/\\u00e9"]', "the order"), ["a", "b/é"]);
  assert.deepEqual(parseStringArray("[]", "the order"), []);
  for (const text of ["", "{}", "[1]", '["a"', '["a"] x', '[["a"]]', "[null]"]) {
    assert.throws(() => parseStringArray(text, "the order"), /^SafetensorsError: the order is not/);
  }
});
