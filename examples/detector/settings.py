"""What defines the detector besides its weights: image normalisation, anchors, thresholds and limits.

``build.py`` puts it into the bundle as ``settings.json``, where the hook reads it.
"""

from __future__ import annotations

SETTINGS = {
    # Of 8-bit channels red, green, blue.
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    # [height, width] of the compiled image sizes; an image is padded to the smallest that holds it.
    "sizes": [[96, 128], [128, 96], [128, 128]],
    # One anchor size, in pixels, for each pyramid level; ratios are height to width.
    "levels": [
        {"stride": 8, "anchor_size": 16},
        {"stride": 16, "anchor_size": 32},
        {"stride": 32, "anchor_size": 64},
    ],
    "aspect_ratios": [0.5, 1.0, 2.0],
    # Proposals: best per level, IoU limit, best of all.
    "pre_topk": 200,
    "proposal_nms": 0.6,
    "post_topk": 100,
    # RoIs: a box of the canonical size is pooled from the level of stride 2^4.
    "canon_level": 4,
    "canon_size": 48,
    "min_level": 3,
    "max_level": 5,
    "pooled": 7,
    "sampling_ratio": 2,
    # Rows of the largest compiled batch of the heads; more proposals go in several calls.
    "head_rows": 64,
    # Detections.
    "box_weights": [10.0, 10.0, 5.0, 5.0],
    "score_threshold": 0.5,
    "detection_nms": 0.4,
    "detections": 50,
}

#: Feature channels of every pyramid level.
CHANNELS = 32
#: Object classes; the background is one more, the last.
CLASSES = 5
