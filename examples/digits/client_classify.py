"""Classifies the held-out digits on a running server with Triton's own client, and prints the accuracy.

    .cache/venv/bin/python examples/digits/client_classify.py [--url HOST:PORT] [--rows 32]

Exits with status 1 when the accuracy is not the one training reported.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from safetensors.numpy import load_file

HERE = Path(__file__).parent


def classify(client: triton.InferenceServerClient, model: str, image: np.ndarray) -> np.ndarray:
    """The digits ``[n]`` a server sees in images ``[n, 64]`` (FP32, pixels 0 to 16)."""
    tensor = triton.InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    wanted = triton.InferRequestedOutput("digit")
    return client.infer(model, [tensor], outputs=[wanted]).as_numpy("digit")


def main() -> None:
    """Sends the held-out images in batches and compares with their labels."""
    parser = argparse.ArgumentParser(description="Classify the held-out digits on a running server.")
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC address (default: %(default)s)")
    parser.add_argument("--model", default="digits", help="model name (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=32, help="images per request (default: %(default)s)")
    options = parser.parse_args()

    heldout = load_file(HERE / "heldout.safetensors")
    image, label = heldout["image"].astype(np.float32), heldout["label"]
    with triton.InferenceServerClient(options.url) as client:
        found = np.concatenate(
            [
                classify(client, options.model, image[start : start + options.rows])
                for start in range(0, len(image), options.rows)
            ]
        )
    correct = int(np.sum(found == label))
    print(f"accuracy {correct / len(label):.4f} ({correct} of {len(label)} held-out digits)")
    report = json.loads((HERE / "report.json").read_text())
    if correct != report["correct"]:
        raise SystemExit(f"training reported {report['correct']} of {report['images']}")


if __name__ == "__main__":
    main()
