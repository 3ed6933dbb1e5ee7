"""Detects objects in a generated image on a running server, with Triton's own client.

    .cache/venv/bin/python examples/detector/client_detect.py --seed 3

prints one line for each detection, best first.
"""

from __future__ import annotations

import argparse

import numpy as np
import tritonclient.grpc as triton
from images import draw_image


def detect(client: triton.InferenceServerClient, image: np.ndarray) -> list[np.ndarray]:
    """Boxes ``[k, 4]``, scores ``[k]`` and classes ``[k]`` of a UINT8 ``[height, width, 3]`` image."""
    tensor = triton.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    answer = client.infer("detector", [tensor])
    return [answer.as_numpy(name) for name in ("boxes", "scores", "classes")]


def main() -> None:
    """Detects what the command line says."""
    parser = argparse.ArgumentParser(description="Detect objects in a generated image.")
    parser.add_argument("--seed", type=int, default=0, help="which image (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=[96, 128], help="height and width, up to 128")
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC address (default: %(default)s)")
    options = parser.parse_args()
    with triton.InferenceServerClient(options.url) as client:
        for box, score, kind in zip(*detect(client, draw_image(options.seed, *options.size)), strict=True):
            print(f"class {kind}  {score:.3f}  " + " ".join(f"{side:6.1f}" for side in box))


if __name__ == "__main__":
    main()
