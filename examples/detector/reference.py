"""The whole detector in JAX and NumPy, without a server: what the bundle's answers are compared with.

    .cache/venv/bin/python examples/detector/reference.py models

prints what it finds on generated images. The networks run in JAX with the weights of the built bundles;
everything between them is written here from its definitions, in NumPy and float64.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from images import draw_images
from network import backbone, heads
from safetensors.numpy import load_file
from settings import SETTINGS


@dataclass
class Detections:
    """What the detector finds on one image, best first."""

    #: ``[k, 4]`` as x1, y1, x2, y2 in pixels.
    boxes: np.ndarray
    #: ``[k]`` probabilities.
    scores: np.ndarray
    #: ``[k]`` class numbers from 0.
    classes: np.ndarray
    #: How many boxes the RPN proposed, and how many class boxes passed the score threshold.
    proposals: int
    candidates: int


class Reference:
    """The pipeline with the weights of the bundles in a model folder."""

    def __init__(self, models: Path) -> None:
        self._backbone_params = _read_params(models / "detector-backbone" / "weights.safetensors")
        self._heads_params = _read_params(models / "detector-heads" / "weights.safetensors")
        self._backbone = jax.jit(backbone)
        self._heads = jax.jit(heads)

    def detect(self, image: np.ndarray) -> Detections:
        """Detections on one UINT8 ``[height, width, 3]`` image."""
        height, width, _ = image.shape
        stages = self._backbone(self._backbone_params, _preprocess(image)[None])
        maps = {name: np.asarray(value, np.float64)[0] for name, value in stages.items()}
        proposals = _propose(maps, height, width)
        if len(proposals) == 0:
            return Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), 0, 0)
        rois = np.stack([_pool(maps, box) for box in proposals]).astype(np.float32)
        # One shape for JAX to compile; rows do not depend on each other.
        padded = np.zeros((SETTINGS["post_topk"], *rois.shape[1:]), np.float32)
        padded[: len(rois)] = rois
        results = self._heads(self._heads_params, padded)
        logits, deltas = (np.asarray(results[name], np.float64)[: len(rois)] for name in ("logits", "deltas"))
        return _infer(logits, deltas, proposals, height, width)


def _read_params(file: Path) -> dict[str, dict[str, np.ndarray]]:
    params: dict[str, dict[str, np.ndarray]] = {}
    for path, array in load_file(file).items():
        layer, part = path.split(".")
        params.setdefault(layer, {})[part] = array
    return params


def _preprocess(image: np.ndarray) -> np.ndarray:
    """Normalised channels in the top left corner of the smallest compiled size that holds the image."""
    height, width, _ = image.shape
    fitting = [size for size in SETTINGS["sizes"] if size[0] >= height and size[1] >= width]
    chosen = min(fitting, key=math.prod)
    canvas = np.zeros((3, *chosen), np.float32)
    canvas[:, :height, :width] = ((image - np.array(SETTINGS["mean"])) / SETTINGS["std"]).transpose(2, 0, 1)
    return canvas


def _propose(maps: dict[str, np.ndarray], height: int, width: int) -> np.ndarray:
    """Proposals ``[p, 4]`` of the RPN, best first."""
    boxes, scores, levels = [], [], []
    for number, level in enumerate(SETTINGS["levels"]):
        stride = level["stride"]
        logits = maps[f"objectness_{stride}"]
        deltas = maps[f"deltas_{stride}"].reshape(-1, 4, *logits.shape[1:])
        # Rows (y, x, anchor).
        logits, deltas = logits.transpose(1, 2, 0), deltas.transpose(2, 3, 0, 1)
        anchors = np.array(
            [
                [_anchor(level["anchor_size"], ratio, x * stride, y * stride) for ratio in SETTINGS["aspect_ratios"]]
                for y in range(logits.shape[0])
                for x in range(logits.shape[1])
            ]
        )
        decoded = _clip(_decode(anchors.reshape(-1, 4), deltas.reshape(-1, 4), [1, 1, 1, 1]), height, width)
        best = np.argsort(-logits.ravel(), kind="stable")[: SETTINGS["pre_topk"]]
        best = best[_areas(decoded[best]) > 0]
        boxes.append(decoded[best])
        scores.append(logits.ravel()[best])
        levels.append(np.full(len(best), number))
    all_boxes, all_scores, all_levels = np.concatenate(boxes), np.concatenate(scores), np.concatenate(levels)
    kept = _suppress(all_boxes, all_scores, all_levels, SETTINGS["proposal_nms"])
    return all_boxes[kept[: SETTINGS["post_topk"]]]


def _infer(logits: np.ndarray, deltas: np.ndarray, proposals: np.ndarray, height: int, width: int) -> Detections:
    """Detections from the outputs of the heads, ``[p, classes + 1]`` and ``[p, 4 * classes]``."""
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = (exps / exps.sum(axis=1, keepdims=True))[:, :-1]
    rows, classes = np.nonzero(probabilities > SETTINGS["score_threshold"])
    chosen = deltas.reshape(len(proposals), -1, 4)[rows, classes]
    boxes = _clip(_decode(proposals[rows], chosen, SETTINGS["box_weights"]), height, width)
    scores = probabilities[rows, classes]
    kept = _suppress(boxes, scores, classes, SETTINGS["detection_nms"])[: SETTINGS["detections"]]
    return Detections(boxes[kept], scores[kept], classes[kept], len(proposals), len(rows))


def _anchor(size: float, ratio: float, x: float, y: float) -> list[float]:
    """The box of area size², of height ratio · width, around a point."""
    width = size / math.sqrt(ratio)
    height = size * math.sqrt(ratio)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def _decode(boxes: np.ndarray, deltas: np.ndarray, weights: list[float]) -> np.ndarray:
    """Moves boxes ``[n, 4]`` by deltas ``[n, 4]``: centres in units of their sizes, sizes in logarithms."""
    sizes = boxes[:, 2:] - boxes[:, :2]
    moves = deltas / np.array(weights)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 + moves[:, :2] * sizes
    halves = sizes * np.exp(np.minimum(moves[:, 2:], math.log(1000 / 16))) / 2
    return np.concatenate([centres - halves, centres + halves], axis=1)


def _clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.clip(boxes, 0, [width, height, width, height])


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes ``[..., 4]``; 0 for those without an inside."""
    sizes = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sizes[..., 0] * sizes[..., 1]


def _suppress(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float) -> list[int]:
    """Greedy suppression within groups: indices of what is kept, best first."""
    first, second = boxes[:, None], boxes[None]
    shared = _areas(np.concatenate([np.maximum(first, second)[..., :2], np.minimum(first, second)[..., 2:]], -1))
    union = _areas(first) + _areas(second) - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    excludes = (overlap > threshold) & (groups[:, None] == groups[None])
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if not excludes[kept, index].any():
            kept.append(int(index))
    return kept


def _pool(maps: dict[str, np.ndarray], box: np.ndarray) -> np.ndarray:
    """Features ``[32, 7, 7]`` of a box: RoIAlign (He et al., 2017) on its pyramid level."""
    # FPN (Lin et al., 2017), equation 1, with the small addend of its implementations.
    exact = SETTINGS["canon_level"] + math.log2(math.sqrt(_areas(box)) / SETTINGS["canon_size"] + 1e-8)
    stride = 2 ** min(max(math.floor(exact), SETTINGS["min_level"]), SETTINGS["max_level"])
    feature = maps[f"feature_{stride}"]
    pooled, samples = SETTINGS["pooled"], SETTINGS["sampling_ratio"]
    # Pixel centres lie at half coordinates.
    start = box[:2] / stride - 0.5
    step = (box[2:] - box[:2]) / stride / pooled / samples
    across, down = (start[axis] + (np.arange(pooled * samples) + 0.5) * step[axis] for axis in (0, 1))
    sampled = _interpolation(down, feature.shape[1]) @ feature @ _interpolation(across, feature.shape[2]).T
    return sampled.reshape(-1, pooled, samples, pooled, samples).mean(axis=(2, 4))


def _interpolation(positions: np.ndarray, extent: int) -> np.ndarray:
    """Linear interpolation at positions as a matrix ``[positions, extent]``; far outside it gives 0."""
    matrix = np.zeros((len(positions), extent))
    for row, position in zip(matrix, positions, strict=True):
        if -1 <= position <= extent:
            inside = min(max(position, 0.0), extent - 1.0)
            low = min(int(inside), extent - 2)
            row[low], row[low + 1] = 1 - (inside - low), inside - low
    return matrix


def main() -> None:
    """Prints detections on generated images."""
    parser = argparse.ArgumentParser(description="Run the detector in JAX and NumPy.")
    parser.add_argument("models", type=Path, help="model folder with the built bundles")
    parser.add_argument("--images", type=int, default=10, help="default: %(default)s")
    options = parser.parse_args()
    reference = Reference(options.models)
    for number, image in enumerate(draw_images(options.images)):
        found = reference.detect(image)
        height, width, _ = image.shape
        print(
            f"image {number} ({height}x{width}): {found.proposals} proposals, {found.candidates} candidates, "
            f"{len(found.scores)} detections, classes {np.bincount(found.classes, minlength=1).tolist()}"
        )


if __name__ == "__main__":
    main()
