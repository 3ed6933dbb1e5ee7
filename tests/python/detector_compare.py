"""Compares the served detector with the same pipeline in JAX and NumPy.

    detector_compare.py URL MODELS IMAGES

sends generated images to a running server and runs them through ``examples/detector/reference.py`` with the
bundles in MODELS. Boxes must be the same in the same order: equal classes, scores and coordinates within
1e-4. Prints one JSON object with what was compared; exits with status 1 at a difference.
"""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "detector"
sys.path.insert(0, str(EXAMPLE))

from client_detect import detect  # noqa: E402
from images import draw_images  # noqa: E402
from reference import Reference  # noqa: E402

TOLERANCE = 1e-4


def main():
    url, models, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    reference = Reference(models)
    worst_box = worst_score = 0.0
    summary = {"images": 0, "shapes": set(), "classes": set(), "proposals": [], "candidates": [], "detections": []}
    with triton.InferenceServerClient(url) as client:
        for number, image in enumerate(draw_images(count)):
            wanted = reference.detect(image)
            boxes, scores, classes = detect(client, image)
            where = f"image {number} {image.shape}"
            if classes.tolist() != wanted.classes.tolist():
                raise SystemExit(f"{where}: classes {classes.tolist()}, not {wanted.classes.tolist()}")
            if len(classes):
                worst_box = max(worst_box, float(np.abs(boxes - wanted.boxes).max()))
                worst_score = max(worst_score, float(np.abs(scores - wanted.scores).max()))
            if worst_box > TOLERANCE or worst_score > TOLERANCE:
                raise SystemExit(f"{where}: boxes differ by {worst_box}, scores by {worst_score}")
            summary["images"] += 1
            summary["shapes"].add(image.shape[:2])
            summary["classes"].update(classes.tolist())
            summary["proposals"].append(wanted.proposals)
            summary["candidates"].append(wanted.candidates)
            summary["detections"].append(len(classes))
    summary["shapes"], summary["classes"] = sorted(summary["shapes"]), sorted(summary["classes"])
    print(json.dumps({**summary, "worst_box": worst_box, "worst_score": worst_score}))


main()
