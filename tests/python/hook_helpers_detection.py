"""Cases for the detection helpers: random inputs and what plain NumPy, written from the definitions, makes of them.

    hook_helpers_detection.py OUTPUT.json [SEED]
"""

import json
import math
import sys

import numpy as np


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    return 0.0 if union <= 0 else inter / union


def nms(boxes, scores, threshold):
    remaining = list(np.argsort(-scores, kind="stable"))
    kept = []
    while remaining:
        best = remaining.pop(0)
        kept.append(int(best))
        remaining = [i for i in remaining if not iou(boxes[best], boxes[i]) > threshold]
    return kept


def batched_nms(boxes, scores, groups, threshold):
    if len(boxes) == 0:
        return []
    span = max(boxes[:, 2].max(), boxes[:, 3].max()) - min(boxes[:, 0].min(), boxes[:, 1].min()) + 1
    return nms(boxes + groups[:, None] * span, scores, threshold)


def decode(deltas, boxes, weights):
    count = len(boxes)
    d = deltas.reshape(count, -1, 4) / np.array(weights, float)
    size = (boxes[:, 2:] - boxes[:, :2])[:, None, :]
    centre = boxes[:, None, :2] + 0.5 * size
    moved = d[..., :2] * size + centre
    scaled = np.exp(np.minimum(d[..., 2:], math.log(1000 / 16))) * size
    return np.concatenate([moved - 0.5 * scaled, moved + 0.5 * scaled], -1).reshape(count, -1)


def clip(boxes, height, width):
    return np.stack([np.clip(boxes[:, 0], 0, width), np.clip(boxes[:, 1], 0, height),
                     np.clip(boxes[:, 2], 0, width), np.clip(boxes[:, 3], 0, height)], -1)


def bilinear(plane, y, x):
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    y0, x0 = min(int(y), height - 1), min(int(x), width - 1)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy = 0.0 if y0 == height - 1 else y - y0
    fx = 0.0 if x0 == width - 1 else x - x0
    return ((1 - fy) * ((1 - fx) * plane[y0, x0] + fx * plane[y0, x1])
            + fy * ((1 - fx) * plane[y1, x0] + fx * plane[y1, x1]))


def roi_align(features, boxes, scale, pooled, ratio, aligned):
    out = np.zeros((len(boxes), len(features), pooled, pooled))
    for k, box in enumerate(boxes):
        x1, y1, x2, y2 = box * scale - (0.5 if aligned else 0.0)
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = max(width, 1.0), max(height, 1.0)
        bin_w, bin_h = width / pooled, height / pooled
        grid_w = ratio or max(1, math.ceil(bin_w))
        grid_h = ratio or max(1, math.ceil(bin_h))
        for c, plane in enumerate(features):
            for i in range(pooled):
                for j in range(pooled):
                    total = 0.0
                    for iy in range(grid_h):
                        y = y1 + i * bin_h + (iy + 0.5) * bin_h / grid_h
                        for ix in range(grid_w):
                            total += bilinear(plane, y, x1 + j * bin_w + (ix + 0.5) * bin_w / grid_w)
                    out[k, c, i, j] = total / (grid_h * grid_w)
    return out


def level(box, canon_level=4, canon_size=224, low=2, high=5):
    size = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(math.floor(canon_level + math.log2(size / canon_size + 1e-8)), low), high) - low


def proposals(levels, scores, height, width, pre, post, threshold):
    rows = []
    for index, (boxes, values) in enumerate(zip(levels, scores)):
        best = np.argsort(-values, kind="stable")[:pre]
        for box, score in zip(clip(boxes[best], height, width), values[best]):
            if box[2] - box[0] > 0 and box[3] - box[1] > 0:
                rows.append((box, score, index))
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    values = np.array([row[1] for row in rows])
    kept = batched_nms(boxes, values, np.array([row[2] for row in rows]), threshold)[:post]
    return boxes[kept], values[kept]


def detections(logits, deltas, props, height, width, threshold, nms_threshold, topk, weights, first, min_size):
    columns = logits.shape[1]
    exps = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exps / exps.sum(1, keepdims=True)
    decoded = decode(deltas, props, weights).reshape(len(props), -1, 4)
    rows = []
    for row in range(len(props)):
        for column in range(columns):
            if column == (0 if first else columns - 1) or not probabilities[row, column] > threshold:
                continue
            box = clip(decoded[row, column if decoded.shape[1] > 1 else 0][None], height, width)[0]
            if box[2] - box[0] >= min_size and box[3] - box[1] >= min_size:
                rows.append((box, probabilities[row, column], column, row))
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    scores = np.array([row[1] for row in rows])
    classes = np.array([row[2] for row in rows], int)
    kept = batched_nms(boxes, scores, classes, nms_threshold)
    kept = kept if topk < 0 else kept[:topk]
    return boxes[kept], scores[kept], classes[kept], [rows[i][3] for i in kept]


def random_boxes(rng, count, extent=100.0, degenerate=True):
    """Boxes of many sizes, some on a coarse grid (equal to others, touching), some without an inside or inverted."""
    size = rng.choice([4.0, 15.0, 60.0], count)[:, None] * rng.random((count, 2))
    start = rng.random((count, 2)) * extent - 5
    boxes = np.concatenate([start, start + size], 1)
    if rng.random() < 0.5:
        boxes = np.round(boxes / 10) * 10
    if degenerate and count:
        odd = rng.random(count) < 0.1
        boxes[odd] = boxes[odd][:, rng.permutation(4)]
        flat = rng.random(count) < 0.05
        boxes[flat, 2] = boxes[flat, 0]
    return boxes


def random_scores(rng, count):
    scores = rng.standard_normal(count)
    return np.round(scores * 2) / 2 if rng.random() < 0.5 else scores


def plain(value):
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def main():
    output, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rng = np.random.default_rng(seed)
    cases = {name: [] for name in ("nms", "batched", "decode", "anchors", "layout", "roi", "levels", "rpn", "rcnn")}

    for count in [0, 1, 2, *rng.integers(3, 60, 200), 400]:
        boxes, scores = random_boxes(rng, count), random_scores(rng, count)
        if rng.random() < 0.1 and count:
            # One box far larger than all others.
            boxes[0] = [-1e4, -1e4, 1e4, 1e4]
        groups = rng.integers(0, 5, count)
        # Quarters, halves and thirds are IoUs that boxes on a grid really have.
        threshold = rng.choice([0.0, 1 / 3, 0.25, 0.5, 0.7, 1.0, -0.5])
        case = {"boxes": boxes, "scores": scores, "groups": groups, "threshold": threshold}
        cases["nms"].append({**case, "kept": nms(boxes, scores, threshold)})
        cases["batched"].append({**case, "kept": batched_nms(boxes, scores, groups, threshold)})

    for count, classes in [(0, 1), (1, 1), (5, 3), (20, 1), (20, 7)]:
        boxes = random_boxes(rng, count)
        deltas = rng.standard_normal((count, 4 * classes)) * 3
        weights = [[1, 1, 1, 1], [10, 10, 5, 5]][int(rng.integers(2))]
        result = decode(deltas, boxes, weights) if count else np.zeros(0)
        cases["decode"].append({"boxes": boxes, "deltas": deltas, "weights": weights, "decoded": result})

    for height, width, anchors in [(1, 1, 1), (3, 5, 3), (0, 4, 2), (7, 2, 15)]:
        cell, stride = rng.standard_normal((anchors, 4)) * 20, 16
        rows = [cell[a] + np.array([w, h, w, h]) * stride
                for h in range(height) for w in range(width) for a in range(anchors)]
        cases["anchors"].append({"height": height, "width": width, "stride": stride, "cell": cell,
                                 "anchors": np.array(rows)})
        wire = rng.standard_normal((4 * anchors, height, width)).astype(np.float32).astype(float)
        flat = [wire[a, h, w] for h in range(height) for w in range(width) for a in range(4 * anchors)]
        cases["layout"].append({"shape": [1, *wire.shape], "wire": wire, "flat": np.array(flat)})

    for number in range(60):
        channels, height, width = int(rng.integers(1, 20)), int(rng.integers(1, 14)), int(rng.integers(1, 14))
        features = rng.standard_normal((channels, height, width)).astype(np.float32).astype(float)
        scale = float(rng.choice([1.0, 0.25, 1 / 16]))
        boxes = random_boxes(rng, int(rng.integers(0, 6)), 20.0) / scale * 0.4
        if number % 6 == 0:
            # Around the map's edges, exactly on the limits of what counts, and far beyond the map.
            edge = [[-1, -1, width, height], [-1.5, -1.5, width + 1, height + 1], [-8, -8, -1, -1],
                    [width, height, width + 7, height + 7], [0, 0, 0, 0], [-40, -30, 60, 50], [2, 2, 1, 1]]
            boxes = np.array(edge, float) / scale
        pooled, ratio, aligned = int(rng.choice([1, 2, 7])), int(rng.choice([0, 0, 1, 2, 3])), bool(rng.integers(2))
        cases["roi"].append({
            "features": features, "channels": channels, "height": height, "width": width, "boxes": boxes,
            "scale": scale, "pooled": pooled, "ratio": ratio, "aligned": aligned,
            "result": roi_align(features, boxes, scale, pooled, ratio, aligned),
        })

    boxes = np.array([[0, 0, s, s] for s in [0, 1, 7, 111, 112, 113, 223.999, 224, 225, 448, 449, 5000]]
                     + [[10, 20, 10 + a, 20 + b] for a, b in rng.random((50, 2)) * 900])
    cases["levels"] = {"boxes": boxes, "levels": [level(box) for box in boxes],
                       "other": [level(box, 3, 100, 1, 4) for box in boxes]}

    for _ in range(60):
        counts = rng.integers(0, 40, int(rng.integers(1, 6)))
        levels = [random_boxes(rng, count) for count in counts]
        scores = [random_scores(rng, count) for count in counts]
        pre, post = int(rng.choice([1, 5, 20, 1000])), int(rng.choice([1, 10, 1000]))
        threshold = float(rng.choice([0.3, 0.5, 0.7]))
        found = proposals(levels, scores, 80, 90, pre, post, threshold)
        cases["rpn"].append({"levels": levels, "scores": scores, "height": 80, "width": 90, "preTopk": pre,
                             "postTopk": post, "nmsThreshold": threshold, "boxes": found[0], "kept": found[1]})

    for _ in range(80):
        count, columns = int(rng.integers(1, 25)), int(rng.integers(2, 7))
        first, agnostic = bool(rng.integers(2)), bool(rng.integers(2))
        groups = 1 if agnostic else (columns if first else columns - 1)
        props = random_boxes(rng, count)
        deltas = rng.standard_normal((count, 4 * groups)) * 2
        logits = rng.standard_normal((count, columns)) * 2
        options = {
            "scoreThreshold": float(rng.choice([0.05, 0.3])), "nmsThreshold": float(rng.choice([0.3, 0.5])),
            "topk": int(rng.choice([-1, 0, 3, 100])), "weights": [[10, 10, 5, 5], [1, 2, 1, 2]][int(rng.integers(2))],
            "backgroundFirst": first, "minSize": float(rng.choice([0, 5])),
        }
        found = detections(logits, deltas, props, 80, 90, *options.values())
        cases["rcnn"].append({"logits": logits, "deltas": deltas, "proposals": props, "height": 80, "width": 90,
                              "options": options, "boxes": found[0], "scores": found[1], "classes": found[2],
                              "rows": found[3]})

    with open(output, "w", encoding="utf-8") as file:
        json.dump(plain(cases), file, allow_nan=False)


main()
