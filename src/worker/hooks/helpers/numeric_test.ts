import assert from "node:assert/strict";
import { argmax, sigmoid, softmax } from "./numeric.ts";

Deno.test("sigmoid() keeps the kind of its input and its ends", () => {
  assert.equal(sigmoid(0), 0.5);
  assert.equal(sigmoid(-1000), 0);
  assert.equal(sigmoid(1000), 1);
  const result = sigmoid(new Float32Array([0, Math.log(3)]));
  assert.ok(result instanceof Float32Array);
  assert.deepEqual([...result], [0.5, 0.75]);
  assert.ok(sigmoid([1]) instanceof Float64Array);
});

Deno.test("softmax() works along any axis without overflow", () => {
  assert.deepEqual([...softmax([1000, 1000])], [0.5, 0.5]);
  // Logarithms of weights give the weights' shares.
  const logs = (weights: number[]) => weights.map((weight) => Math.log(weight));
  const close = (found: ArrayLike<number>, wanted: number[]) => {
    assert.equal(found.length, wanted.length);
    wanted.forEach((value, at) => assert.ok(Math.abs(found[at]! - value) < 1e-15, `${at}`));
  };
  close(softmax(logs([1, 3, 2, 2]), [2, 2]), [0.25, 0.75, 0.5, 0.5]);
  close(softmax(logs([1, 1, 3, 1]), [2, 2], 0), [0.25, 0.5, 0.75, 0.5]);
  close(softmax(logs([1, 1, 3, 1]), [1, 2, 2], -2), [0.25, 0.5, 0.75, 0.5]);
  close(softmax([-Infinity, 0]), [0, 1]);
  assert.equal(softmax([], [0, 3]).length, 0);
  assert.throws(() => softmax([1, 2], [3]), /2 values where \[3\] takes 3/);
  assert.throws(() => softmax([1, 2], [2], 1), /\[2\] has no axis 1/);
});

Deno.test("argmax() gives the first greatest, per line when asked", () => {
  assert.equal(argmax([1, 3, 3, 2]), 1);
  assert.equal(argmax([1, NaN, 3, NaN]), 1);
  assert.deepEqual([...argmax([1, 5, 2, 9, 0, 9], [2, 3])], [1, 0]);
  assert.deepEqual([...argmax([1, 5, 2, 9, 0, 9], [2, 3], 0)], [1, 0, 1]);
  assert.deepEqual([...argmax([], [0, 3])], []);
  assert.throws(() => argmax([]), /argmax of no elements/);
});
