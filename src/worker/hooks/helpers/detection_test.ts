/** The detection helpers against NumPy written from the definitions, and their edges by hand. */
import assert from "node:assert/strict";
import { runPython } from "../../../../tests/harness/python.ts";
import {
  decodeBoxes,
  deltasMatrix,
  type DeltaWeights,
  featureChw,
  generateAnchors,
  objectnessFlat,
} from "./boxes.ts";
import { batchedNms, nms } from "./nms.ts";
import { assignLevel, assignLevels, fastRcnnInference, selectRpnProposals } from "./rcnn.ts";
import { roiAlign, roiAlignInto } from "./roi_align.ts";
import { makeTensor } from "./tensors.ts";

interface Suppression {
  boxes: number[];
  scores: number[];
  groups: number[];
  threshold: number;
  kept: number[];
}

interface Cases {
  nms: Suppression[];
  batched: Suppression[];
  decode: { boxes: number[]; deltas: number[]; weights: DeltaWeights; decoded: number[] }[];
  anchors: { height: number; width: number; stride: number; cell: number[]; anchors: number[] }[];
  layout: { shape: number[]; wire: number[]; flat: number[] }[];
  roi: {
    features: number[];
    channels: number;
    height: number;
    width: number;
    boxes: number[];
    scale: number;
    pooled: number;
    ratio: number;
    aligned: boolean;
    result: number[];
  }[];
  levels: { boxes: number[]; levels: number[]; other: number[] };
  rpn: {
    levels: number[][];
    scores: number[][];
    height: number;
    width: number;
    preTopk: number;
    postTopk: number;
    nmsThreshold: number;
    boxes: number[];
    kept: number[];
  }[];
  rcnn: {
    logits: number[];
    deltas: number[];
    proposals: number[];
    height: number;
    width: number;
    options: Parameters<typeof fastRcnnInference>[5];
    boxes: number[];
    scores: number[];
    classes: number[];
    rows: number[];
  }[];
}

async function casesFromPython(): Promise<Cases> {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  try {
    const { code, stderr } = await runPython("tests/python/hook_helpers_detection.py", [file]);
    assert.equal(code, 0, stderr);
    return JSON.parse(await Deno.readTextFile(file));
  } finally {
    await Deno.remove(file);
  }
}

/** Equal up to the rounding of a few operations in float64, relative to the larger of value and 1. */
function assertClose(found: ArrayLike<number>, wanted: number[], what: string): void {
  assert.equal(found.length, wanted.length, what);
  for (const [at, value] of wanted.entries()) {
    const error = Math.abs(found[at]! - value) / Math.max(1, Math.abs(value));
    assert.ok(error < 1e-12, `${what}: element ${at} is ${found[at]}, not ${value}`);
  }
}

Deno.test("detection helpers agree with NumPy on random cases", async (t) => {
  const cases = await casesFromPython();
  await t.step("nms and batchedNms, with ties, degenerate boxes and every threshold", () => {
    assert.ok(cases.nms.length > 200);
    for (const [at, { boxes, scores, threshold, kept }] of cases.nms.entries()) {
      assert.deepEqual([...nms(boxes, scores, threshold)], kept, `case ${at}`);
      assert.deepEqual([...nms(Float64Array.from(boxes), scores, threshold)], kept, `case ${at}`);
    }
    for (const [at, { boxes, scores, groups, threshold, kept }] of cases.batched.entries()) {
      assert.deepEqual([...batchedNms(boxes, scores, groups, threshold)], kept, `case ${at}`);
    }
  });
  await t.step("decodeBoxes and generateAnchors", () => {
    for (const [at, { boxes, deltas, weights, decoded }] of cases.decode.entries()) {
      assertClose(decodeBoxes(deltas, boxes, weights), decoded, `case ${at}`);
    }
    for (const [at, { height, width, stride, cell, anchors }] of cases.anchors.entries()) {
      assertClose(generateAnchors(height, width, stride, cell), anchors, `case ${at}`);
    }
  });
  await t.step("objectnessFlat, deltasMatrix and featureChw", () => {
    for (const { shape, wire, flat } of cases.layout) {
      for (const datatype of ["FP32", "FP64"]) {
        const tensor = makeTensor("wire", datatype, shape, wire);
        assert.deepEqual([...objectnessFlat(tensor)], flat);
        assert.deepEqual([...deltasMatrix(tensor)], flat);
        const feature = featureChw(tensor);
        assert.deepEqual([...feature.data], wire);
        assert.deepEqual([1, feature.channels, feature.height, feature.width], shape);
        assert.equal(feature.data.buffer, tensor.data.buffer);
      }
    }
  });
  await t.step("roiAlign into float64 and float32", () => {
    for (const [at, { features, boxes, scale, result, ...rest }] of cases.roi.entries()) {
      const feature = { ...rest, data: Float32Array.from(features) };
      assertClose(roiAlign(feature, boxes, scale, rest), result, `case ${at}`);
      const count = boxes.length / 4;
      const row = count === 0 ? 0 : result.length / count;
      // The rows backwards, from the second on, and the first left as it was.
      const out = new Float32Array(result.length + row).fill(7);
      const rows = Array.from({ length: count }, (_, box) => count - box);
      roiAlignInto(out, feature, boxes, scale, { ...rest, rows });
      assert.deepEqual([...out.subarray(0, row)], new Array(row).fill(7));
      for (let box = 0; box < count; box++) {
        const wanted = Float32Array.from(result.slice(box * row, box * row + row));
        const found = out.subarray((count - box) * row, (count - box + 1) * row);
        const worst = wanted.reduce((most, v, i) => Math.max(most, Math.abs(v - found[i]!)), 0);
        assert.ok(worst < 1e-6, `case ${at}, box ${box}: ${worst}`);
      }
    }
  });
  await t.step("assignLevels", () => {
    const { boxes, levels, other } = cases.levels;
    assert.deepEqual([...assignLevels(boxes)], levels);
    const options = { canonLevel: 3, canonSize: 100, min: 1, max: 4 };
    assert.deepEqual([...assignLevels(boxes, options)], other);
    assert.equal(assignLevel(boxes.slice(-4)), levels.at(-1));
  });
  await t.step("selectRpnProposals", () => {
    for (
      const [at, { levels, scores, height, width, boxes, kept, ...rest }] of cases.rpn.entries()
    ) {
      const found = selectRpnProposals(levels, scores, height, width, rest);
      assert.deepEqual([...found.scores], kept, `case ${at}`);
      assertClose(found.boxes, boxes, `case ${at}`);
    }
  });
  await t.step("fastRcnnInference", () => {
    for (const [at, wanted] of cases.rcnn.entries()) {
      const { logits, deltas, proposals, height, width, options } = wanted;
      const found = fastRcnnInference(logits, deltas, proposals, height, width, options);
      assert.deepEqual([...found.classes], wanted.classes, `case ${at}`);
      assert.deepEqual([...found.rows], wanted.rows, `case ${at}`);
      assertClose(found.scores, wanted.scores, `case ${at}`);
      assertClose(found.boxes, wanted.boxes, `case ${at}`);
    }
  });
});

Deno.test("nms() is strict, keeps the order of ties and takes any coordinates", () => {
  // The IoU of neighbours is exactly 1/3.
  const chain = [0, 0, 2, 1, 1, 0, 3, 1, 2, 0, 4, 1];
  assert.deepEqual([...nms(chain, [1, 1, 1], 1 / 3)], [0, 1, 2]);
  assert.deepEqual([...nms(chain, [1, 1, 1], 0.33)], [0, 2]);
  assert.deepEqual([...nms(chain, [1, 1, 2], 0.33)], [2, 0]);
  assert.deepEqual([...nms(chain, [0, 3, NaN], 0.9)], [1, 0, 2]);
  assert.deepEqual([...nms(chain, [3, -Infinity, Infinity], 0.9)], [2, 0, 1]);
  const wild = [-Infinity, 0, Infinity, 1, 0, 0, 2, 1, NaN, 0, 1, 1, 0, 0, 2, 1];
  assert.deepEqual([...nms(wild, [4, 3, 2, 1], 0.5)], [0, 1, 2]);
  assert.deepEqual([...nms([], [], 0.5)], []);
  assert.throws(() => nms([1, 2, 3], [1], 0.5), /boxes: 3 values are no rows of 4/);
  assert.throws(() => nms(chain, [1], 0.5), /1 scores for 3 boxes/);
  assert.throws(() => batchedNms(chain, [1, 1, 1], [0], 0.5), /1 groups for 3 boxes/);
});

Deno.test("roiAlign() samples a ramp exactly and stops at the map's edges", () => {
  // On a plane f(y, x) = 10 y + x bilinear sampling is exact, so a bin is the plane at its centre.
  const data = Float32Array.from({ length: 64 }, (_, at) => 10 * Math.floor(at / 8) + at % 8);
  const feature = { data, channels: 1, height: 8, width: 8 };
  const options = { pooled: 2, aligned: false };
  assert.deepEqual([...roiAlign(feature, [1, 2, 5, 6], 1, options)], [32, 34, 52, 54]);
  assert.deepEqual([...roiAlign(feature, [2, 4, 10, 12], 0.5, options)], [32, 34, 52, 54]);
  assert.deepEqual([...roiAlign(feature, [1.5, 2.5, 5.5, 6.5], 1, { pooled: 2 })], [
    32,
    34,
    52,
    54,
  ]);
  // At -1 and at the extent samples still count, beyond they do not.
  const corner = (at: number) => roiAlign(feature, [at, at, at, at], 1, { pooled: 1 })[0];
  assert.equal(corner(-0.5), 0);
  assert.equal(corner(8.5), 77);
  assert.equal(corner(8.5 + 1e-9), 0);
  const ones = { ...feature, data: new Float32Array(64).fill(1) };
  assert.equal(roiAlign(ones, [-0.5, -0.5, -0.5, -0.5], 1, { pooled: 1 })[0], 1);
  assert.equal(roiAlign(ones, [-0.5 - 1e-9, 0, -0.5 - 1e-9, 0], 1, { pooled: 1 })[0], 0);
  assert.equal(roiAlign(feature, [], 1).length, 0);
});

Deno.test("roiAlign() bounds its work on huge boxes and refuses those that are none", () => {
  const ones = { data: new Float32Array(16).fill(1), channels: 1, height: 4, width: 4 };
  // 1e8 samples per axis, of which the map's share counts: from -1 to 4 each way.
  const [share] = roiAlign(ones, [-5e7, -5e7, 5e7, 5e7], 1, { pooled: 1 });
  assert.ok(Math.abs(share! / (5 / 1e8) ** 2 - 1) < 0.5, `${share}`);
  for (const bad of [NaN, Infinity, 1e300]) {
    assert.throws(() => roiAlign(ones, [0, 0, 1, 1, 0, 0, bad, 1], 1), {
      name: "RangeError",
      message: "box 1 has no usable coordinates",
    });
  }
  const out = new Float32Array(49);
  assert.throws(() => roiAlignInto(out, ones, [0, 0, 1, 1], 1, { rows: [1] }), /box 0 .* row 1/);
  assert.throws(() => roiAlignInto(out, ones, [0, 0, 1, 1], 1, { rows: [] }), /0 rows for 1 boxes/);
  assert.throws(() => roiAlignInto(out, { ...ones, width: 5 }, [], 1), /16 features where/);
});

Deno.test("detection helpers take empty inputs and say which input does not fit", () => {
  assert.deepEqual([...decodeBoxes([], [])], []);
  assert.throws(() => decodeBoxes([1, 2, 3, 4], []), /4 deltas for 0 boxes/);
  assert.throws(() => decodeBoxes([1, 2, 3], [0, 0, 1, 1]), /3 deltas for 1 boxes/);
  assert.equal(assignLevel([5, 5, 1, 9]), 0);
  const none = { boxes: new Float64Array(0), scores: new Float64Array(0) };
  assert.deepEqual(selectRpnProposals([], [], 10, 10), none);
  assert.deepEqual(selectRpnProposals([[], []], [[], []], 10, 10), none);
  assert.throws(() => selectRpnProposals([[]], [], 9, 9), /0 levels of scores for 1/);
  assert.throws(
    () => selectRpnProposals([[], [0, 0, 1, 1]], [[], []], 9, 9),
    /0 scores for 1 boxes of level 1/,
  );
  const options = { scoreThreshold: 0.5, nmsThreshold: 0.5, topk: 10 };
  assert.equal(fastRcnnInference([], [], [], 10, 10, options).boxes.length, 0);
  assert.throws(
    () => fastRcnnInference([1, 2, 3, 4], new Float32Array(8), [0, 0, 1, 1], 9, 9, options),
    /4 class logits and 8 deltas do not fit 1 proposals/,
  );
  const wire = (shape: number[]) => makeTensor("d", "FP32", shape, new Float32Array(6));
  assert.throws(() => objectnessFlat(wire([2, 3, 1, 1])), /tensor "d" must be \[1, channels/);
  assert.throws(() => deltasMatrix(wire([1, 6, 1, 1])), /"d" has 6 channels, not 4 per anchor/);
  assert.throws(() => generateAnchors(1, 1, 1, [1]), /cell anchors: 1 values/);
});
