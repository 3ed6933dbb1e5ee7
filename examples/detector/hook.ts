/**
 * The `detector` meta model: an image in, boxes out. It runs the backbone, chooses proposals from what that
 * gives, pools their features and has the heads judge them. `settings.json` says what it was built for.
 */
/// <reference path="../../src/worker/hooks/api.d.ts" />
/// <reference path="../../src/worker/hooks/helpers/api.d.ts" />

interface Settings {
  /** Of 8-bit channels red, green, blue. */
  mean: number[];
  std: number[];
  /** `[height, width]` of the compiled image sizes. */
  sizes: [height: number, width: number][];
  channels: number;
  levels: { stride: number; anchor_size: number }[];
  /** Height to width. */
  aspect_ratios: number[];
  pre_topk: number;
  proposal_nms: number;
  post_topk: number;
  canon_level: number;
  canon_size: number;
  min_level: number;
  max_level: number;
  pooled: number;
  sampling_ratio: number;
  /** Rows of the largest compiled batch of the heads. */
  head_rows: number;
  box_weights: [number, number, number, number];
  score_threshold: number;
  detection_nms: number;
  detections: number;
}

const settings: Settings = JSON.parse(bundle.readText("settings.json"));
const { tensor, detection } = helpers;

/** Values of one RoI: `[channels, pooled, pooled]`. */
const roiLength = settings.channels * settings.pooled ** 2;
const largestImage = Math.max(...settings.sizes.map(([height, width]) => 3 * height * width));

/** Anchors `[A, 4]` of each level, around the origin. */
const cells = settings.levels.map(({ anchor_size: size }) =>
  settings.aspect_ratios.flatMap((ratio) => {
    const halfWidth = size / Math.sqrt(ratio) / 2;
    const halfHeight = size * Math.sqrt(ratio) / 2;
    return [-halfWidth, -halfHeight, halfWidth, halfHeight];
  })
);

/** The smallest compiled size that holds an image. */
function fittingSize(height: number, width: number): [height: number, width: number] {
  const fitting = settings.sizes.filter(([h, w]) => h >= height && w >= width);
  if (fitting.length === 0) {
    const sizes = settings.sizes.map((size) => size.join("x")).join(", ");
    throw new RangeError(`an image of ${height}x${width} fits none of ${sizes}`);
  }
  return fitting.reduce((best, size) => size[0] * size[1] < best[0] * best[1] ? size : best);
}

/**
 * Normalised channels of an image `[height, width, 3]` in the top left corner of `canvas`, which is zeroed
 * and `[3, size]`.
 */
function normalise(image: NamedTensor, canvas: Float32Array, size: [number, number]): void {
  const [height, width] = image.shape as [number, number, number];
  const pixels = image.data;
  for (let channel = 0; channel < 3; channel++) {
    const mean = settings.mean[channel]!;
    const std = settings.std[channel]!;
    for (let y = 0, from = channel; y < height; y++) {
      let to = (channel * size[0] + y) * size[1];
      for (let x = 0; x < width; x++, from += 3) canvas[to++] = (pixels[from]! - mean) / std;
    }
  }
}

/** Proposals from the backbone's objectness and deltas, best first. */
function propose(stages: NamedTensor[], height: number, width: number) {
  const boxes: Float64Array[] = [];
  const scores: HookFloats[] = [];
  for (const [index, { stride }] of settings.levels.entries()) {
    const objectness = tensor.findTensor(stages, `objectness_${stride}`);
    const deltas = tensor.findTensor(stages, `deltas_${stride}`);
    const [rows, columns] = objectness.shape.slice(2) as [number, number];
    const anchors = detection.generateAnchors(rows, columns, stride, cells[index]!);
    boxes.push(detection.decodeBoxes(detection.deltasMatrix(deltas), anchors));
    scores.push(detection.objectnessFlat(objectness));
  }
  return detection.selectRpnProposals(boxes, scores, height, width, {
    preTopk: settings.pre_topk,
    postTopk: settings.post_topk,
    nmsThreshold: settings.proposal_nms,
  });
}

/** Fills `rois` with the features of each proposal, from the pyramid level that its size calls for. */
function pool(stages: NamedTensor[], proposals: Float64Array, rois: Float32Array): void {
  const levels = detection.assignLevels(proposals, {
    canonLevel: settings.canon_level,
    canonSize: settings.canon_size,
    min: settings.min_level,
    max: settings.max_level,
  });
  for (const [level, { stride }] of settings.levels.entries()) {
    const rows: number[] = [];
    for (let row = 0; row < levels.length; row++) if (levels[row] === level) rows.push(row);
    const boxes = rows.flatMap((row) => [...proposals.subarray(row * 4, row * 4 + 4)]);
    const feature = detection.featureChw(tensor.findTensor(stages, `feature_${stride}`));
    const { pooled, sampling_ratio: ratio } = settings;
    detection.roiAlignInto(rois, feature, boxes, 1 / stride, { pooled, ratio, rows });
  }
}

/** Class logits and deltas of every RoI. More than one batch holds goes as several, at once. */
async function judge(rois: Float32Array, count: number, call: Call) {
  const { channels, pooled, head_rows: most } = settings;
  const calls: Promise<NamedTensor[]>[] = [];
  for (let from = 0; from < count; from += most) {
    const rows = Math.min(most, count - from);
    const values = rois.subarray(from * roiLength, (from + rows) * roiLength);
    const shape = [rows, channels, pooled, pooled];
    calls.push(call("detector-heads", [tensor.makeTensor("rois", "FP32", shape, values)]));
  }
  const parts = await Promise.all(calls);
  const joined = (name: string) =>
    parts.flatMap((outputs) => [...tensor.asFloat32(tensor.findTensor(outputs, name))]);
  return { logits: joined("logits"), deltas: joined("deltas") };
}

register_meta(bundle.name, async (inputs, call) => {
  const image = tensor.findTensor(inputs, "image");
  const [height, width] = image.shape as [number, number, number];
  const size = fittingSize(height, width);
  // Both tensors go to their models by reference. How many proposals there will be is not known yet.
  const [imageBytes, roiBytes] = await call.scratch([
    largestImage * 4,
    settings.post_topk * roiLength * 4,
  ]) as [Uint8Array, Uint8Array];
  const canvas = new Float32Array(imageBytes.buffer, imageBytes.byteOffset, 3 * size[0] * size[1]);
  normalise(image, canvas, size);
  const stages = await call("detector-backbone", [
    tensor.makeTensor("image", "FP32", [1, 3, ...size], canvas),
  ]);
  const proposals = propose(stages, height, width);
  const count = proposals.scores.length;
  const rois = new Float32Array(roiBytes.buffer, roiBytes.byteOffset, count * roiLength);
  pool(stages, proposals.boxes, rois);
  const { logits, deltas } = await judge(rois, count, call);
  const found = detection.fastRcnnInference(logits, deltas, proposals.boxes, height, width, {
    scoreThreshold: settings.score_threshold,
    nmsThreshold: settings.detection_nms,
    topk: settings.detections,
    weights: settings.box_weights,
  });
  const detections = found.scores.length;
  return [
    tensor.makeTensor("boxes", "FP32", [detections, 4], found.boxes),
    tensor.makeTensor("scores", "FP32", [detections], found.scores),
    tensor.makeTensor("classes", "INT32", [detections], found.classes),
  ];
});
