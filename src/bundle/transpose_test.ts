import assert from "node:assert/strict";
import { reverseAxes, reverseAxesNow } from "./transpose.ts";

/** The definition, element by element. */
function reverseNaively(source: Uint8Array, shape: number[], byteSize: number): Uint8Array {
  const target = new Uint8Array(source.length);
  const index = shape.map(() => 0);
  for (let element = 0; element < source.length / byteSize; element++) {
    let reversed = 0;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      reversed = reversed * shape[axis]! + index[axis]!;
    }
    const bytes = source.subarray(element * byteSize, (element + 1) * byteSize);
    target.set(bytes, reversed * byteSize);
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) {
      index[axis] = 0;
    }
  }
  return target;
}

/** A small generator with a fixed seed: failures repeat. */
function randomSource(seed: number): () => number {
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
}

function randomBytes(length: number, random: () => number): Uint8Array {
  return Uint8Array.from({ length }, () => random() * 256);
}

Deno.test("reverseAxes() gives numpy's transpose of a rank-3 tensor", () => {
  // numpy.arange(24, dtype=numpy.uint8).reshape(2, 3, 4).transpose().ravel()
  const expected = [
    ...[0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21],
    ...[2, 14, 6, 18, 10, 22, 3, 15, 7, 19, 11, 23],
  ];
  const target = new Uint8Array(24);
  reverseAxesNow(Uint8Array.from({ length: 24 }, (_, i) => i), target, [2, 3, 4], 1);
  assert.deepEqual([...target], expected);
});

Deno.test("reverseAxes() agrees with the definition on 400 random shapes, aligned and not", () => {
  const random = randomSource(7);
  for (let round = 0; round < 400; round++) {
    const rank = Math.floor(random() * 6);
    const limit = rank <= 2 ? 130 : rank === 3 ? 40 : 9;
    const shape = Array.from({ length: rank }, () => Math.floor(random() * limit) + 1);
    const byteSize = [1, 2, 4, 8][Math.floor(random() * 4)]!;
    const length = shape.reduce((product, extent) => product * extent, byteSize);
    const shift = round % 3;
    const source = randomBytes(length + shift, random).subarray(shift);
    const target = new Uint8Array(length);
    reverseAxesNow(source, target, shape, byteSize);
    const expected = reverseNaively(source, shape, byteSize);
    assert.deepEqual(target, expected, `shape [${shape}], ${byteSize} bytes`);
  }
});

Deno.test("reverseAxes() twice, with the shape reversed, gives the source back", () => {
  const shape = [5, 33, 2, 65];
  const source = randomBytes(5 * 33 * 2 * 65 * 4, randomSource(3));
  const once = new Uint8Array(source.length);
  const twice = new Uint8Array(source.length);
  reverseAxesNow(source, once, shape, 4);
  reverseAxesNow(once, twice, [...shape].reverse(), 4);
  assert.deepEqual(twice, source);
});

Deno.test("reverseAxes() accepts tensors without elements", () => {
  reverseAxesNow(new Uint8Array(), new Uint8Array(), [3, 0, 4], 4);
});

Deno.test("reverseAxes() pauses while it moves a large tensor", () => {
  const bytes = new Uint8Array(4 * 1024 * 1024);
  const pauses = [...reverseAxes(bytes, new Uint8Array(bytes.length), [2048, 2048], 1)].length;
  assert.ok(pauses >= 3, `${pauses} pauses`);
});

Deno.test("reverseAxes() refuses sizes that do not fit each other", () => {
  assert.throws(() => reverseAxesNow(new Uint8Array(8), new Uint8Array(8), [3], 4), RangeError);
  assert.throws(() => reverseAxesNow(new Uint8Array(8), new Uint8Array(4), [2], 4), RangeError);
  assert.throws(
    () => reverseAxesNow(new Uint8Array(12), new Uint8Array(12), [2, 2], 3),
    RangeError,
  );
});
