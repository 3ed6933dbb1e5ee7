import assert from "node:assert/strict";
import { MemoryPool, type NamedTensor } from "../tensor/mod.ts";
import { concatRows, RowCutter } from "./batch_assembly.ts";

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

/** Memory whose next array of that many bytes has been used before. */
function dirty(bytes: number): MemoryPool {
  const memory = new MemoryPool();
  memory.giveBack(new Uint8Array(bytes).fill(0xee));
  return memory;
}

Deno.test("concatRows() joins along the first axis and pads with zeros", () => {
  const joined = concatRows([int16([1, 2], [1, 2]), int16([2, 2], [3, 4, 5, 6])], 0, 4, dirty(16));
  assert.deepEqual(joined.shape, [4, 2]);
  assert.deepEqual(values(joined), [1, 2, 3, 4, 5, 6, 0, 0]);
});

Deno.test("concatRows() joins along an inner axis", () => {
  // [2, rows, 1]: rows lie inside each of the two outer blocks.
  const joined = concatRows(
    [int16([2, 1, 1], [1, 2]), int16([2, 2, 1], [3, 4, 5, 6])],
    1,
    4,
    dirty(16),
  );
  assert.deepEqual(joined.shape, [2, 4, 1]);
  assert.deepEqual(values(joined), [1, 3, 4, 0, 2, 5, 6, 0]);
});

Deno.test("concatRows() returns a request that fills its batch alone uncopied", () => {
  const only = int16([4], [1, 2, 3, 4]);
  assert.equal(concatRows([only], 0, 4, new MemoryPool()), only);
});

Deno.test("RowCutter undoes concatRows() on every axis", () => {
  for (const axis of [0, 1, 2]) {
    const shape = [2, 2, 2];
    const parts = [1, 3, 2].map((rows, index) => {
      const own = shape.with(axis, rows);
      const count = own.reduce((a, b) => a * b, 1);
      return int16(own, Array.from({ length: count }, (_, i) => index * 100 + i));
    });
    const cutter = new RowCutter(concatRows(parts, axis, 8, dirty(64)), axis);
    for (const part of parts) {
      const piece = cutter.next(part.shape[axis]!);
      assert.deepEqual(piece.shape, part.shape);
      assert.deepEqual(values(piece), values(part));
    }
  }
});

Deno.test("RowCutter gives views along the first axis, and all rows at once as they are", () => {
  const whole = int16([4, 1], [1, 2, 3, 4]);
  const cutter = new RowCutter(whole, 0);
  assert.deepEqual(values(cutter.next(1)), [1]);
  const piece = cutter.next(2);
  assert.equal(piece.data.buffer, whole.data.buffer);
  assert.deepEqual(values(piece), [2, 3]);
  assert.equal(new RowCutter(whole, 0).next(4), whole);
});
