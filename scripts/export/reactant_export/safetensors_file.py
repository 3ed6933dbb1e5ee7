"""Writes safetensors files.

The safetensors library orders tensors by alignment and its metadata by hash, so the same model could
give different bytes twice, and it has no NumPy spelling for every FP8 type. Here tensors lie in the
order given, metadata in the order given, and the header is padded so that data begins 8-byte aligned.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from . import dtypes


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes row-major arrays under their names; each array must have a type of the dtype table."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": dtypes.from_numpy(array.dtype, f'tensor "{name}"').safetensors,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in tensors.values():
            file.write(array.tobytes())
