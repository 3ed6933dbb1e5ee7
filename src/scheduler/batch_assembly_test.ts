import assert from "node:assert/strict";
import type { NamedTensor } from "../tensor/mod.ts";
import { concatRows, sliceRows } from "./batch_assembly.ts";

function int16(shape: number[], values: number[]): NamedTensor {
  return {
    name: "x",
    datatype: "INT16",
    shape,
    data: new Uint8Array(new Int16Array(values).buffer),
  };
}

function values(tensor: NamedTensor): number[] {
  return [...new Int16Array(tensor.data.slice().buffer)];
}

Deno.test("concatRows() joins along the first axis and pads with zeros", () => {
  const joined = concatRows([int16([1, 2], [1, 2]), int16([2, 2], [3, 4, 5, 6])], 0, 4);
  assert.deepEqual(joined.shape, [4, 2]);
  assert.deepEqual(values(joined), [1, 2, 3, 4, 5, 6, 0, 0]);
});

Deno.test("concatRows() joins along an inner axis", () => {
  // [2, rows, 1]: rows lie inside each of the two outer blocks.
  const joined = concatRows([int16([2, 1, 1], [1, 2]), int16([2, 2, 1], [3, 4, 5, 6])], 1, 4);
  assert.deepEqual(joined.shape, [2, 4, 1]);
  assert.deepEqual(values(joined), [1, 3, 4, 0, 2, 5, 6, 0]);
});

Deno.test("concatRows() returns a request that fills its batch alone uncopied", () => {
  const only = int16([4], [1, 2, 3, 4]);
  assert.equal(concatRows([only], 0, 4), only);
});

Deno.test("sliceRows() undoes concatRows() on every axis", () => {
  for (const axis of [0, 1, 2]) {
    const shape = [2, 2, 2];
    const parts = [1, 3, 2].map((rows, index) => {
      const own = shape.with(axis, rows);
      const count = own.reduce((a, b) => a * b, 1);
      return int16(own, Array.from({ length: count }, (_, i) => index * 100 + i));
    });
    const joined = concatRows(parts, axis, 8);
    let from = 0;
    for (const part of parts) {
      const rows = part.shape[axis]!;
      const slice = sliceRows(joined, axis, from, rows);
      assert.deepEqual(slice.shape, part.shape);
      assert.deepEqual(values(slice), values(part));
      from += rows;
    }
  }
});

Deno.test("sliceRows() gives views along the first axis", () => {
  const whole = int16([4, 1], [1, 2, 3, 4]);
  const slice = sliceRows(whole, 0, 1, 2);
  assert.equal(slice.data.buffer, whole.data.buffer);
  assert.deepEqual(values(slice), [2, 3]);
});
