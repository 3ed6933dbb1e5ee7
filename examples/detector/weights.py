"""Draws the detector's weights: random kernels, smooth in space, scaled to what real images give.

Nothing is trained. Every layer's kernel is random and then scaled, channel by channel, so that over some
generated images its outputs have mean 0 and a chosen spread (after LSUV, Mishkin and Matas, 2016). That is
enough for proposals and classes to depend on the image in every part of the pipeline.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from images import draw_image
from network import STRIDES, convolve, run_backbone, run_heads
from settings import SETTINGS

SEED = 11
CALIBRATION_IMAGES = 8
CALIBRATION_ROIS = 400

Params = dict[str, dict[str, np.ndarray]]


def make_weights() -> tuple[Params, Params]:
    """Parameters of the backbone and of the heads; always the same, up to float rounding."""
    backbone = _Drawn(np.random.default_rng(SEED))
    size = max(SETTINGS["sizes"])
    features = run_backbone(backbone, np.stack([_image(index, *size) for index in range(CALIBRATION_IMAGES)]))
    heads = _Drawn(np.random.default_rng(SEED + 1))
    run_heads(heads, _windows(np.asarray(features[f"feature_{STRIDES[0]}"])))
    return backbone.params, heads.params


class _Drawn:
    """Layers whose weights are drawn when they first run, from what reaches them."""

    def __init__(self, random: np.random.Generator) -> None:
        self.params: Params = {}
        self._random = random

    def conv(self, name: str, x: jax.Array, width: int, size: int, stride: int, spread: float) -> jax.Array:
        kernel = self._random.normal(size=(width, x.shape[1], size, size))
        if size > 1:
            # A random direction of light for every pair of channels: edges rather than noise.
            kernel = 0.3 * kernel + self._slopes(width, x.shape[1], size)
        return self._fit(name, kernel, spread, (0, 2, 3), lambda kernel: convolve(x, kernel, stride))

    def dense(self, name: str, x: jax.Array, width: int, spread: float) -> jax.Array:
        kernel = self._random.normal(size=(x.shape[1], width))
        return self._fit(name, kernel, spread, (0,), lambda kernel: x @ kernel)

    def _slopes(self, width: int, channels: int, size: int) -> np.ndarray:
        y, x = np.mgrid[0:size, 0:size] - size // 2
        flat, vertical, horizontal = self._random.normal(size=(3, width, channels, 1, 1))
        return (flat + vertical * y + horizontal * x) * np.exp(-0.5 * (y**2 + x**2))

    def _fit(
        self,
        name: str,
        kernel: np.ndarray,
        spread: float,
        axes: tuple[int, ...],
        run: Callable[[np.ndarray], jax.Array],
    ) -> jax.Array:
        """Scales a new kernel and chooses its bias; a layer met before runs as it is."""
        is_conv = len(axes) > 1
        if name not in self.params:
            raw = np.asarray(run(kernel.astype(np.float32)), np.float64)
            mean, deviation = raw.mean(axis=axes), raw.std(axis=axes)
            scale = spread / deviation
            kernel = kernel * (scale[:, None, None, None] if is_conv else scale)
            self.params[name] = {"kernel": kernel.astype(np.float32), "bias": (-mean * scale).astype(np.float32)}
        params = self.params[name]
        bias = params["bias"][:, None, None] if is_conv else params["bias"]
        return jnp.asarray(run(params["kernel"]) + bias)


def _image(index: int, height: int, width: int) -> np.ndarray:
    pixels = draw_image(1_000_000 + index, height, width).astype(np.float32)
    normalised = (pixels - np.float32(SETTINGS["mean"])) / np.float32(SETTINGS["std"])
    return normalised.transpose(2, 0, 1)


def _windows(feature: np.ndarray) -> np.ndarray:
    """Random windows of the finest level, of the size of RoIs."""
    random = np.random.default_rng(SEED + 2)
    pooled = SETTINGS["pooled"]
    count, _, height, width = feature.shape
    return np.stack(
        [
            feature[image, :, y : y + pooled, x : x + pooled]
            for image, y, x in zip(
                random.integers(0, count, CALIBRATION_ROIS),
                random.integers(0, height - pooled + 1, CALIBRATION_ROIS),
                random.integers(0, width - pooled + 1, CALIBRATION_ROIS),
                strict=True,
            )
        ]
    )
