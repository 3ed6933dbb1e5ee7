import assert from "node:assert/strict";
import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { InvalidArgumentError } from "../errors.ts";
import {
  type Datatype,
  datatypeInfo,
  DATATYPES,
  decodeStrings,
  encodeBytesElements,
} from "../tensor/mod.ts";
import { decodeContents } from "./contents.ts";
import { InferTensorContentsSchema } from "./gen/inference/grpc_service_pb.ts";

type Contents = MessageInitShape<typeof InferTensorContentsSchema>;

function encode(contents: Contents): Uint8Array {
  return toBinary(InferTensorContentsSchema, create(InferTensorContentsSchema, contents));
}

function decode(datatype: Datatype, count: number, contents: Uint8Array): Uint8Array {
  return decodeContents(contents, { info: datatypeInfo(datatype), count, what: () => 'input "x"' });
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/** Values at the ends of every type's range, as the platform's typed arrays (little-endian) hold them. */
const CASES: Partial<Record<Datatype, [Contents, Uint8Array]>> = {
  BOOL: [{ boolContents: [true, false, true] }, Uint8Array.of(1, 0, 1)],
  INT8: [{ intContents: [-128, 0, 127] }, bytesOf(Int8Array.of(-128, 0, 127))],
  INT16: [{ intContents: [-32768, 0, 32767] }, bytesOf(Int16Array.of(-32768, 0, 32767))],
  INT32: [
    { intContents: [-(2 ** 31), -1, 2 ** 31 - 1] },
    bytesOf(Int32Array.of(-(2 ** 31), -1, 2 ** 31 - 1)),
  ],
  INT64: [
    { int64Contents: [-(2n ** 63n), -1n, 2n ** 63n - 1n, 300n] },
    bytesOf(BigInt64Array.of(-(2n ** 63n), -1n, 2n ** 63n - 1n, 300n)),
  ],
  UINT8: [{ uintContents: [0, 127, 255] }, Uint8Array.of(0, 127, 255)],
  UINT16: [{ uintContents: [0, 65535] }, bytesOf(Uint16Array.of(0, 65535))],
  UINT32: [{ uintContents: [0, 2 ** 32 - 1] }, bytesOf(Uint32Array.of(0, 2 ** 32 - 1))],
  UINT64: [
    { uint64Contents: [0n, 2n ** 64n - 1n] },
    bytesOf(BigUint64Array.of(0n, 2n ** 64n - 1n)),
  ],
  FP32: [
    { fp32Contents: [1.5, -0, Infinity, NaN] },
    bytesOf(Float32Array.of(1.5, -0, Infinity, NaN)),
  ],
  FP64: [{ fp64Contents: [Math.PI, -1e-308] }, bytesOf(Float64Array.of(Math.PI, -1e-308))],
  BYTES: [
    { bytesContents: [Uint8Array.of(0x61, 0x62), new Uint8Array(0)] },
    Uint8Array.of(2, 0, 0, 0, 0x61, 0x62, 0, 0, 0, 0),
  ],
};

Deno.test("decodeContents() gives the bytes of every datatype that has typed contents", async (t) => {
  for (const { datatype, contents, onWire } of DATATYPES) {
    if (!onWire) continue;
    await t.step(datatype, () => {
      const known = CASES[datatype];
      assert.equal(known !== undefined, contents !== null);
      if (known === undefined) {
        assert.throws(() => decode(datatype, 1, encode({ fp32Contents: [1] })), {
          message: `input "x" is ${datatype}, which has no typed contents: send raw_input_contents`,
        });
        return;
      }
      const [fields, expected] = known;
      const count = Object.values(fields)[0]!.length;
      assert.deepEqual(decode(datatype, count, encode(fields)), expected);
    });
  }
});

Deno.test("decodeContents() accepts unpacked values and several runs", () => {
  // int_contents: 1 and 300 unpacked, [2, 3] packed
  const contents = Uint8Array.of(0x10, 1, 0x10, 0xac, 0x02, 0x12, 2, 2, 3);
  assert.deepEqual(decode("INT32", 4, contents), bytesOf(Int32Array.of(1, 300, 2, 3)));
  // fp32_contents: 1.0 unpacked, then packed
  const one = [0, 0, 0x80, 0x3f];
  const floats = Uint8Array.of(0x35, ...one, 0x32, 4, ...one);
  assert.deepEqual(decode("FP32", 2, floats), bytesOf(Float32Array.of(1, 1)));
});

Deno.test("decodeContents() refuses values that are not the tensor's", async (t) => {
  const cases: [string, Datatype, number, Uint8Array, string][] = [
    [
      "too few",
      "FP32",
      3,
      encode({ fp32Contents: [1, 2] }),
      'input "x" has 2 values in fp32_contents where its shape takes 3',
    ],
    [
      "too many",
      "BYTES",
      1,
      encode({ bytesContents: [new Uint8Array(1), new Uint8Array(1)] }),
      'input "x" has 2 values in bytes_contents where its shape takes 1',
    ],
    [
      "in another field",
      "FP32",
      1,
      encode({ fp64Contents: [1] }),
      'input "x" has 0 values in fp32_contents where its shape takes 1 (there are values in fp64_contents)',
    ],
    [
      "INT8 above its range",
      "INT8",
      2,
      encode({ intContents: [1, 128] }),
      'input "x" has 128 at element 1, which is no INT8',
    ],
    [
      "INT16 below its range",
      "INT16",
      1,
      encode({ intContents: [-32769] }),
      'input "x" has -32769 at element 0, which is no INT16',
    ],
    [
      "UINT8 above its range",
      "UINT8",
      1,
      encode({ uintContents: [256] }),
      'input "x" has 256 at element 0, which is no UINT8',
    ],
    [
      "UINT16 far above its range",
      "UINT16",
      1,
      encode({ uintContents: [2 ** 32 - 1] }),
      'input "x" has 4294967295 at element 0, which is no UINT16',
    ],
    [
      "floats cut short",
      "FP32",
      1,
      Uint8Array.of(0x32, 3, 0, 0, 0),
      'input "x" has malformed contents: a packed value is cut short',
    ],
    [
      "a varint cut short",
      "INT32",
      1,
      Uint8Array.of(0x12, 1, 0x80),
      'input "x" has malformed contents: a packed value is cut short',
    ],
    [
      "an overlong varint",
      "INT32",
      1,
      Uint8Array.of(0x12, 12, ...new Array(11).fill(0x80), 0),
      'input "x" has malformed contents: a varint is longer than ten bytes',
    ],
    [
      "a wrong wire type",
      "INT32",
      1,
      Uint8Array.of(0x15, 0, 0, 0, 0),
      'input "x" has malformed contents: field 2 has wire type 5',
    ],
  ];
  for (const [name, datatype, count, contents, message] of cases) {
    await t.step(name, () => {
      assert.throws(() => decode(datatype, count, contents), (error) => {
        assert(error instanceof InvalidArgumentError);
        assert.equal(error.message, message);
        return true;
      });
    });
  }
});

Deno.test("decodeContents() refuses to expand values beyond half a gibibyte", () => {
  const count = (1 << 26) + 1;
  const contents = new Uint8Array(6 + count).fill(1);
  // uint64_contents, packed, `count` one-byte values of eight bytes each.
  contents.set([0x2a, 0x81, 0x80, 0x80, 0x20], 1);
  assert.throws(() => decode("UINT64", count, contents.subarray(1)), /limited to 536870912/);
});

Deno.test("decodeContents() gives BYTES in the form encodeBytesElements() does", () => {
  const texts = ["", "a", "é".repeat(100)];
  const data = decode(
    "BYTES",
    3,
    encode({ bytesContents: texts.map((text) => new TextEncoder().encode(text)) }),
  );
  assert.deepEqual(data, encodeBytesElements(texts));
  assert.deepEqual(decodeStrings(data), texts);
});
