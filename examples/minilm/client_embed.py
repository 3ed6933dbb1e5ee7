"""Embeds texts on a running server with Triton's own client.

    .cache/venv/bin/python examples/minilm/client_embed.py "first text" "second text" ...

prints the cosine of every pair. With ``--golden`` it embeds the golden texts instead, compares with the
golden embeddings, and exits with status 1 when a cosine is below 0.9999. A server that still has to find
or compile the model is waited for.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from safetensors.numpy import load_file

GOLDEN = Path(__file__).resolve().parent / "golden"
REQUIRED_COSINE = 0.9999


def embed(client: triton.InferenceServerClient, model: str, texts: list[str]) -> np.ndarray:
    """Embeddings ``[n, 384]`` of n texts, in one request."""
    tensor = triton.InferInput("text", [len(texts)], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=np.object_))
    return client.infer(model, [tensor]).as_numpy("embedding")


def wait_until_ready(client: triton.InferenceServerClient, model: str, seconds: float) -> None:
    """Waits for a model whose bundle the server may just have been given."""
    deadline = time.monotonic() + seconds
    while not client.is_model_ready(model):
        if time.monotonic() > deadline:
            raise SystemExit(f"{model} is not ready after {seconds:g} s; is it in the server's model folder?")
        time.sleep(0.5)


def check_golden(client: triton.InferenceServerClient, model: str, rows: int) -> None:
    """Compares the golden texts' embeddings, ``rows`` to a request, with the golden ones."""
    texts = json.loads((GOLDEN / "texts.json").read_text(encoding="utf-8"))
    golden = load_file(GOLDEN / "embeddings.safetensors")["embedding"]
    found = np.concatenate(
        [embed(client, model, texts[start : start + rows]) for start in range(0, len(texts), rows)]
    )
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(golden, axis=1)
    cosine = (found * golden).sum(axis=1) / lengths
    worst = int(cosine.argmin())
    print(f"{len(texts)} texts, smallest cosine {cosine[worst]:.7f} ({texts[worst][:40]!r})")
    if not cosine[worst] >= REQUIRED_COSINE:
        raise SystemExit(f"a cosine is below {REQUIRED_COSINE}")


def main() -> None:
    """Embeds what the command line says."""
    parser = argparse.ArgumentParser(description="Embed texts on a running server.")
    parser.add_argument("texts", nargs="*", help="texts to compare with each other")
    parser.add_argument("--golden", action="store_true", help="check the golden texts instead")
    parser.add_argument("--rows", type=int, default=4, help="golden texts per request (default: %(default)s)")
    parser.add_argument("--url", default="127.0.0.1:8001", help="gRPC address (default: %(default)s)")
    parser.add_argument("--model", default="minilm", help="model name (default: %(default)s)")
    parser.add_argument(
        "--wait", type=float, default=180, help="seconds until the model must be ready (default: %(default)s)"
    )
    options = parser.parse_args()
    if not options.golden and len(options.texts) < 2:
        parser.error("give at least two texts, or --golden")
    with triton.InferenceServerClient(options.url) as client:
        wait_until_ready(client, options.model, options.wait)
        if options.golden:
            check_golden(client, options.model, options.rows)
            return
        embedding = embed(client, options.model, options.texts)
        for first, second in combinations(range(len(options.texts)), 2):
            cosine = float(embedding[first] @ embedding[second])
            print(f"{cosine:.4f}  {options.texts[first]!r} and {options.texts[second]!r}")


if __name__ == "__main__":
    main()
