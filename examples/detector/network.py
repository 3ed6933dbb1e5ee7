"""The detector's two networks in JAX: a small feature pyramid with an RPN head, and a box head.

The layout is that of Faster R-CNN with FPN (Lin et al., 2017), far smaller. Layers are asked for by name
through a function, so the same description draws the weights (``weights.py``) and runs with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from settings import CHANNELS, CLASSES, SETTINGS

Params = Mapping[str, Any]

STRIDES = [level["stride"] for level in SETTINGS["levels"]]
ANCHORS = len(SETTINGS["aspect_ratios"])


class Layers(Protocol):
    """Runs the layer of a name; ``spread`` is what its outputs' standard deviation is to be."""

    def conv(self, name: str, x: jax.Array, width: int, size: int, stride: int, spread: float) -> jax.Array: ...
    def dense(self, name: str, x: jax.Array, width: int, spread: float) -> jax.Array: ...


class Applied:
    """Layers with weights that are there already."""

    def __init__(self, params: Params) -> None:
        self._params = params

    def conv(self, name: str, x: jax.Array, width: int, size: int, stride: int, spread: float) -> jax.Array:
        """``[n, c, h, w]`` to ``[n, width, ceil(h / stride), ceil(w / stride)]``."""
        return convolve(x, self._params[name]["kernel"], stride) + self._params[name]["bias"][:, None, None]

    def dense(self, name: str, x: jax.Array, width: int, spread: float) -> jax.Array:
        """``[n, c]`` to ``[n, width]``."""
        return x @ self._params[name]["kernel"] + self._params[name]["bias"]


def convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Convolution with a kernel ``[out, in, size, size]``, padded evenly on all sides."""
    pad = kernel.shape[-1] // 2
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(pad, pad), (pad, pad)])


def run_backbone(layers: Layers, image: jax.Array) -> dict[str, jax.Array]:
    """Pyramid features, objectness and anchor deltas.

    Args:
        layers: Where weights come from.
        image: ``[n, 3, h, w]`` FP32, normalised; h and w are multiples of the largest stride.

    Returns:
        For each stride s ``feature_s`` ``[n, 32, h / s, w / s]``, ``objectness_s`` ``[n, A, h / s, w / s]``
        and ``deltas_s`` ``[n, 4A, h / s, w / s]``, the four deltas of an anchor side by side.
    """

    def conv(name: str, x: jax.Array, width: int, size: int = 3, stride: int = 1, spread: float = 1.0) -> jax.Array:
        return layers.conv(name, x, width, size, stride, spread)

    x = jax.nn.relu(conv("stem", image, 16, stride=2))
    x = jax.nn.relu(conv("stage_4", x, 24, stride=2))
    stages = {}
    for stride in STRIDES:
        x = jax.nn.relu(conv(f"stage_{stride}", x, CHANNELS, stride=2))
        stages[stride] = jax.nn.relu(conv(f"mix_{stride}", x, CHANNELS))
    outputs: dict[str, jax.Array] = {}
    above = None
    for stride in reversed(STRIDES):
        merged = conv(f"lateral_{stride}", stages[stride], CHANNELS, size=1)
        if above is not None:
            merged = merged + jnp.repeat(jnp.repeat(above, 2, axis=2), 2, axis=3)
        above = merged
        feature = conv(f"output_{stride}", merged, CHANNELS)
        hidden = jax.nn.relu(conv("rpn_hidden", feature, CHANNELS))
        outputs[f"feature_{stride}"] = feature
        outputs[f"objectness_{stride}"] = conv("rpn_objectness", hidden, ANCHORS, size=1, spread=2.0)
        outputs[f"deltas_{stride}"] = conv("rpn_deltas", hidden, 4 * ANCHORS, size=1, spread=0.3)
    return outputs


def run_heads(layers: Layers, rois: jax.Array) -> dict[str, jax.Array]:
    """Class logits and box deltas.

    Args:
        layers: Where weights come from.
        rois: ``[k, 32, 7, 7]`` FP32.

    Returns:
        ``logits`` ``[k, classes + 1]``, the background last, and ``deltas`` ``[k, 4 * classes]``.
    """
    x = jax.nn.relu(layers.dense("hidden_1", rois.reshape(rois.shape[0], -1), 128, 1.0))
    x = jax.nn.relu(layers.dense("hidden_2", x, 64, 1.0))
    return {
        "logits": layers.dense("logits", x, CLASSES + 1, 2.0),
        "deltas": layers.dense("deltas", x, 4 * CLASSES, 1.0),
    }


def backbone(params: Params, image: jax.Array) -> dict[str, jax.Array]:
    """``run_backbone`` with weights, as the exporter calls it."""
    return run_backbone(Applied(params), image)


def heads(params: Params, rois: jax.Array) -> dict[str, jax.Array]:
    """``run_heads`` with weights, as the exporter calls it."""
    return run_heads(Applied(params), rois)


Network = Callable[[Params, jax.Array], dict[str, jax.Array]]
