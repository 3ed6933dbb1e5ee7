"""Generated images: coloured shapes on a shaded, noisy background."""

from __future__ import annotations

import numpy as np

#: Heights and widths that between them use every compiled size: exact, padded, small and tiny.
SHAPES = [(96, 128), (128, 96), (128, 128), (80, 120), (127, 65), (100, 100), (96, 96), (48, 40), (97, 128), (24, 16)]


def draw_image(seed: int, height: int, width: int) -> np.ndarray:
    """One image, UINT8 ``[height, width, 3]``, always the same for the same arguments."""
    random = np.random.default_rng([seed, height, width])
    y, x = np.mgrid[0:height, 0:width]
    slope = random.uniform(-0.6, 0.6, (2, 3))
    image = random.uniform(40, 200, 3) + y[..., None] * slope[0] + x[..., None] * slope[1]
    for _ in range(random.integers(3, 9)):
        centre_y, centre_x = random.uniform(0, height), random.uniform(0, width)
        half_y, half_x = random.uniform(4, 30, 2)
        dy, dx = (y - centre_y) / half_y, (x - centre_x) / half_x
        inside = [dy**2 + dx**2 < 1, np.maximum(abs(dy), abs(dx)) < 1, abs(dy) + abs(dx) < 1][random.integers(3)]
        stripes = 1 + 0.4 * np.sin((x + y) * random.uniform(0.2, 1.2)) * random.integers(2)
        colour = random.uniform(0, 255, 3) * stripes[..., None]
        image = np.where(inside[..., None], colour, image)
    image = image + random.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_images(count: int) -> list[np.ndarray]:
    """Images 0 to ``count - 1``, their shapes in turn those of ``SHAPES``."""
    return [draw_image(seed, *SHAPES[seed % len(SHAPES)]) for seed in range(count)]
