"""Writes meta models: bundles without a program, whose hook file chains other models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import dtypes, provenance, safetensors_file
from .bundle import GOLDEN_FILE, HOOK_FILE, copy_assets, dump_manifest, manifest_entry, write_whole
from .errors import ExportError
from .tensors import ClientTensor, check_tensor, check_unique

#: What the golden tensors' names begin with: a meta has one "program", without a batch size.
GOLDEN_PREFIX = "b0/"


def write_meta(
    hook: str | Path | Sequence[str | Path],
    directory: str | Path,
    *,
    calls: Sequence[str],
    client_inputs: Sequence[ClientTensor],
    client_outputs: Sequence[ClientTensor],
    golden_inputs: Mapping[str, np.ndarray] | None = None,
    golden_outputs: Mapping[str, np.ndarray] | None = None,
    atol: float = 1e-5,
    rtol: float = 1e-5,
    description: str = "",
    assets: Sequence[str | Path] = (),
    provenance_extra: Mapping[str, object] | None = None,
    packages: tuple[str, ...] = ("numpy",),
    reproducible: bool = False,
    overwrite: bool = False,
) -> Path:
    """Writes a meta model's bundle and returns its directory.

    Args:
        hook: The hook file, which calls ``register_meta``; several are joined in their order.
        directory: The bundle to write; its last part is the name the server will know the model by.
        calls: Names of the models it may call, none of them a meta itself.
        client_inputs, client_outputs: What clients send and receive.
        golden_inputs, golden_outputs: One request and the answer due, by tensor name; both or none. They
            are whole requests, so there are no ``bytes`` among them.
        atol, rtol: How far a server's answer may be from the golden one.
        description: One line for people.
        assets: Further files for the hook, copied under their own names.
        provenance_extra: Further entries for the manifest's ``provenance``.
        packages: Python packages whose versions ``provenance`` records.
        reproducible: Leave time and commit out of ``provenance``, for bundles kept under version control.
        overwrite: Replace an existing bundle.

    Raises:
        ExportError: naming what is wrong; nothing has been written then.
    """
    hooks = [Path(hook)] if isinstance(hook, (str, Path)) else [Path(part) for part in hook]
    if (golden_inputs is None) != (golden_outputs is None):
        raise ExportError("golden_inputs and golden_outputs belong together: give both or none")
    bundle = _MetaBundle(
        name=Path(directory).name,
        hooks=hooks,
        calls=list(calls),
        inputs=client_inputs,
        outputs=client_outputs,
        golden={
            f"{GOLDEN_PREFIX}{side}/{name}": array
            for side, tensors, given in (
                ("input", client_inputs, golden_inputs),
                ("output", client_outputs, golden_outputs),
            )
            if given is not None
            for name, array in _golden(tensors, given, f"golden {side}").items()
        },
        tolerances={"atol": repr(atol), "rtol": repr(rtol)},
        description=description,
        assets=[Path(asset) for asset in assets],
        provenance=provenance.collect(packages, None, reproducible, provenance_extra or {}),
    )
    bundle.check()
    write_whole(Path(directory), overwrite, bundle.write_files)
    return Path(directory)


@dataclass
class _MetaBundle:
    """The contents of a meta bundle, ready to be written."""

    name: str
    hooks: Sequence[Path]
    calls: Sequence[str]
    inputs: Sequence[ClientTensor]
    outputs: Sequence[ClientTensor]
    golden: Mapping[str, np.ndarray]
    tolerances: Mapping[str, str]
    description: str
    assets: Sequence[Path]
    provenance: Mapping[str, object] = field(default_factory=dict)

    def check(self) -> None:
        """Refuses what a server would refuse."""
        for section, tensors in (("client_inputs", self.inputs), ("client_outputs", self.outputs)):
            if not tensors:
                raise ExportError(f"{section} must name one tensor at least")
            for tensor in tensors:
                check_tensor(tensor.name, tensor.dtype, tensor.shape, section)
                if not dtypes.from_token(tensor.dtype, tensor.name).on_wire:
                    raise ExportError(
                        f'"{tensor.name}" is {tensor.dtype}, which clients cannot send or receive'
                    )
            check_unique([tensor.name for tensor in tensors], section)
        for call in self.calls:
            if not isinstance(call, str) or not call:
                raise ExportError(f"calls must be names of models, got {call!r}")
            if call == self.name:
                raise ExportError(f'calls names "{call}", the meta model itself')
        check_unique(list(self.calls), "calls")
        if not self.hooks:
            raise ExportError("a meta model needs a hook file")
        for file in (*self.hooks, *self.assets):
            if not file.is_file():
                raise ExportError(f"{file} is not a file")

    def manifest(self) -> dict[str, object]:
        """The manifest as plain data, keys in the order in which a person reads them."""
        return {
            "format_version": "2.0",
            "description": self.description,
            "axis_order": "row_major",
            "kind": "meta",
            "meta": {"calls": list(self.calls)},
            "client_inputs": [manifest_entry(tensor) for tensor in self.inputs],
            "client_outputs": [manifest_entry(tensor) for tensor in self.outputs],
            "provenance": dict(self.provenance),
        }

    def write_files(self, directory: Path) -> None:
        """Writes everything into an empty folder, the manifest last."""
        if self.golden:
            safetensors_file.write(directory / GOLDEN_FILE, self.golden, self.tolerances)
        text = "\n".join(hook.read_text(encoding="utf-8") for hook in self.hooks)
        (directory / HOOK_FILE).write_text(text, encoding="utf-8")
        copy_assets(self.assets, directory)
        (directory / "manifest.yaml").write_text(dump_manifest(self.manifest()), encoding="utf-8")


def _golden(
    tensors: Sequence[ClientTensor], given: Mapping[str, np.ndarray], what: str
) -> dict[str, np.ndarray]:
    """The golden arrays in the order of the tensors, checked against what these declare."""
    if set(given) != {tensor.name for tensor in tensors}:
        names = [tensor.name for tensor in tensors]
        raise ExportError(f"{what}: got {sorted(given)} where the tensors are {sorted(names)}")
    arrays: dict[str, np.ndarray] = {}
    for tensor in tensors:
        array = np.asarray(given[tensor.name])
        declared = dtypes.from_token(tensor.dtype, tensor.name).numpy
        fits = array.ndim == len(tensor.shape) and all(
            isinstance(axis, str) or axis == size
            for axis, size in zip(tensor.shape, array.shape, strict=False)
        )
        if declared is None:
            raise ExportError(f'{what} "{tensor.name}" is {tensor.dtype}, which golden files cannot hold')
        if array.dtype != declared or not fits:
            raise ExportError(
                f'{what} "{tensor.name}" is {array.dtype}{list(array.shape)}, expected '
                f"{declared}{list(tensor.shape)}"
            )
        arrays[tensor.name] = np.ascontiguousarray(array).reshape(array.shape)
    return arrays
