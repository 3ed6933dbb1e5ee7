"""Builds the object detector: the bundles ``detector-backbone``, ``detector-heads`` and ``detector``.

    .cache/venv/bin/python examples/detector/build.py models

writes the two networks in StableHLO, with weights drawn from a fixed seed, and the meta model that chains
them: an image, UINT8 [h, w, 3], in; boxes, scores and classes out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from network import backbone, heads
from reactant_export import ClientTensor, ExportError, Input, export_jax, write_meta
from settings import CHANNELS, SETTINGS
from weights import SEED, make_weights

HERE = Path(__file__).resolve().parent
HOOK = HERE / "hook.ts"
#: Images of concurrent requests share a dispatch, and so do their RoIs.
IMAGE_BATCHES = [1, 4]
ROI_BATCHES = [16, 64]


def progress(text: str) -> None:
    """One line on what happens now."""
    print(f"[detector] {text}", file=sys.stderr, flush=True)


def write_detector(directory: Path, is_timed: bool) -> None:
    """Writes the meta model's bundle, replacing an older one."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.json"
        settings.write_text(json.dumps({**SETTINGS, "channels": CHANNELS}, indent=1) + "\n")
        timings = [ClientTensor("timings", "bytes", ("n",))] if is_timed else []
        write_meta(
            [HERE / "timed.ts", HOOK] if is_timed else HOOK,
            directory,
            calls=["detector-backbone", "detector-heads"],
            client_inputs=[ClientTensor("image", "u8", ("h", "w", 3))],
            client_outputs=[
                ClientTensor("boxes", "f32", ("k", 4)),
                ClientTensor("scores", "f32", ("k",)),
                ClientTensor("classes", "i32", ("k",)),
                *timings,
            ],
            description="Two-stage object detector for images of up to 128x128, with untrained weights.",
            assets=[settings],
            overwrite=True,
        )


def build(models: Path, is_timed: bool) -> None:
    """Writes the three bundles into the folder ``models``, replacing older ones."""
    progress("drawing weights")
    backbone_params, heads_params = make_weights()
    sizes = SETTINGS["sizes"]
    provenance = {"weights": f"drawn from seed {SEED}, not trained"}
    progress(f"exporting {len(sizes) * len(IMAGE_BATCHES) + len(ROI_BATCHES)} programs")
    export_jax(
        backbone,
        backbone_params,
        models / "detector-backbone",
        inputs=[Input("image", "f32", ("n", 3, "h", "w"))],
        batch_sizes=IMAGE_BATCHES,
        variants=[{"h": height, "w": width} for height, width in sizes],
        description="Feature pyramid and region proposals of the detector example.",
        golden_batch_sizes=[1],
        atol=1e-4,
        rtol=1e-5,
        provenance_extra=provenance,
        overwrite=True,
    )
    pooled = SETTINGS["pooled"]
    export_jax(
        heads,
        heads_params,
        models / "detector-heads",
        inputs=[Input("rois", "f32", ("n", CHANNELS, pooled, pooled))],
        batch_sizes=ROI_BATCHES,
        description="Classes and box deltas of the detector example's regions.",
        golden_batch_sizes=ROI_BATCHES[:1],
        atol=1e-4,
        rtol=1e-5,
        provenance_extra=provenance,
        overwrite=True,
    )
    write_detector(models / "detector", is_timed)


def main() -> None:
    """Builds the bundles as the command line says."""
    parser = argparse.ArgumentParser(description="Build the detector's three bundles.")
    parser.add_argument("models", type=Path, help="model folder to put the bundles into")
    parser.add_argument("--timed", action="store_true", help="have the meta model report where its time goes")
    options = parser.parse_args()
    try:
        build(options.models, options.timed)
    except ExportError as error:
        raise SystemExit(f"[detector] {error}") from error
    progress(f"the bundles are in {options.models}")


if __name__ == "__main__":
    main()
