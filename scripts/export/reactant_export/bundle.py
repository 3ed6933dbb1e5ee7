"""Puts a bundle together on disk: manifest, programs, weights, golden tensors, hook and assets."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from . import dtypes, safetensors_file
from .errors import ExportError
from .tensors import (
    BATCH_LETTERS,
    Case,
    ClientTensor,
    Input,
    check_tensor,
    check_unique,
    has_batch,
    manifest_shape,
    variable_letters,
)

HOOK_FILE = "model.ts"
GOLDEN_FILE = "golden.safetensors"


@dataclass(frozen=True)
class TypedOutput:
    """An output with everything the manifest says of it."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass
class Bundle:
    """The contents of a bundle, ready to be written."""

    inputs: Sequence[Input]
    outputs: Sequence[TypedOutput]
    #: Program bytes by case.
    programs: Mapping[Case, bytes]
    #: Weights in the order in which the program takes them.
    weights: Mapping[str, np.ndarray]
    #: Golden tensors by their name in the golden file.
    golden: Mapping[str, np.ndarray]
    atol: float
    rtol: float
    variants: Sequence[Mapping[str, int]] = ()
    description: str = ""
    client_inputs: Sequence[ClientTensor] | None = None
    client_outputs: Sequence[ClientTensor] | None = None
    hook: Path | None = None
    assets: Sequence[Path] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    def manifest(self) -> dict[str, object]:
        """The manifest as plain data, keys in the order in which a person reads them."""
        manifest: dict[str, object] = {
            "format_version": "2.0",
            "description": self.description,
            "axis_order": "row_major",
            "executable_inputs": [manifest_entry(tensor) for tensor in self.inputs],
            "executable_outputs": [manifest_entry(tensor) for tensor in self.outputs],
        }
        for section in ("client_inputs", "client_outputs"):
            tensors = getattr(self, section)
            if tensors is not None:
                manifest[section] = [manifest_entry(tensor) for tensor in tensors]
        if self.variants:
            manifest["input_shapes"] = [dict(variant) for variant in self.variants]
        sizes = sorted({case.batch for case in self.programs} - {0})
        if sizes:
            manifest["batching"] = {"compiled_batch_sizes": sizes}
        manifest["provenance"] = dict(self.provenance)
        return manifest

    def write(self, directory: Path, overwrite: bool = False) -> None:
        """Writes the bundle, whole or not at all. Raises ExportError as :func:`write_whole` does."""
        write_whole(Path(directory), overwrite, self._write_files)

    def _write_files(self, directory: Path) -> None:
        for case, code in self.programs.items():
            (directory / case.program_file).write_bytes(code)
        order = json.dumps(list(self.weights), ensure_ascii=False)
        safetensors_file.write(directory / "weights.safetensors", self.weights, {"argument_order": order})
        if self.golden:
            tolerances = {"atol": repr(self.atol), "rtol": repr(self.rtol)}
            safetensors_file.write(directory / GOLDEN_FILE, self.golden, tolerances)
        if self.hook is not None:
            shutil.copyfile(self.hook, directory / HOOK_FILE)
        copy_assets(self.assets, directory)
        (directory / "manifest.yaml").write_text(dump_manifest(self.manifest()), encoding="utf-8")


def write_whole(directory: Path, overwrite: bool, write_files: Callable[[Path], None]) -> None:
    """Has a bundle written into a folder beside ``directory`` and moves it into place, whole or not at all.

    A server that watches the folder never reads half a bundle.

    Raises ExportError when the directory exists and ``overwrite`` is not set, or when it exists and is
    no bundle.
    """
    if directory.exists():
        if not overwrite:
            raise ExportError(f"{directory} exists; say overwrite to replace it")
        if not (directory / "manifest.yaml").is_file():
            raise ExportError(f"{directory} exists and holds no bundle; it is not overwritten")
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        new = staging / "new"
        new.mkdir()
        write_files(new)
        if directory.exists():
            directory.rename(staging / "old")
        new.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def copy_assets(assets: Sequence[Path], directory: Path) -> None:
    """Copies files into a bundle under their own names. Raises ExportError when a name is taken."""
    for asset in assets:
        name = Path(asset).name
        if name == "manifest.yaml" or (directory / name).exists():
            raise ExportError(f"asset {asset} would overwrite {name} of the bundle")
        shutil.copyfile(asset, directory / name)


def dump_manifest(manifest: Mapping[str, object]) -> str:
    """A manifest as YAML text, keys in their order."""
    return yaml.dump(manifest, Dumper=_ManifestDumper, sort_keys=False, allow_unicode=True, width=2**20)


class _ManifestDumper(yaml.SafeDumper):
    """YAML as formatters leave it: list items indented, double quotes where quotes are needed."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def choose_scalar_style(self) -> str:
        style = super().choose_scalar_style()
        return '"' if style == "'" else style


def manifest_entry(tensor: Input | TypedOutput | ClientTensor) -> dict[str, object]:
    """A tensor as the manifest declares it."""
    letters, dims = manifest_shape(tensor.shape)
    entry: dict[str, object] = {"name": tensor.name, "dtype": tensor.dtype, "shape": letters}
    if dims:
        entry["dims"] = dims
    return entry


def plan_cases(
    inputs: Sequence[Input],
    batch_sizes: Sequence[int],
    variants: Sequence[Mapping[str, int]],
) -> list[Case]:
    """Checks the declared inputs against batch sizes and variants; gives one case per program."""
    for tensor in inputs:
        check_tensor(tensor.name, tensor.dtype, tensor.shape, "input")
        if tensor.dtype == "bytes":
            raise ExportError(
                f'input "{tensor.name}": a program takes no bytes; use a hook and client_inputs'
            )
    check_unique([tensor.name for tensor in inputs], "input")
    batched = [tensor.name for tensor in inputs if has_batch(tensor.shape)]
    if batched and len(batched) != len(inputs):
        rest = ", ".join(f'"{tensor.name}"' for tensor in inputs if not has_batch(tensor.shape))
        raise ExportError(f"either every input has a batch axis or none has; {rest} have none")
    if batched and not batch_sizes:
        raise ExportError("the inputs have a batch axis: say which batch_sizes to compile")
    if batch_sizes and not batched:
        raise ExportError(f"batch_sizes {list(batch_sizes)} are given, but no input has a batch axis")
    for size in batch_sizes:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ExportError(f"batch sizes must be positive integers, got {size!r}")
    if len(set(batch_sizes)) != len(batch_sizes):
        raise ExportError(f"batch_sizes {list(batch_sizes)} names a size twice")
    _check_variants(inputs, variants)
    return [
        Case(batch, dict(variant), index)
        for index, variant in (enumerate(variants) if variants else [(None, {})])
        for batch in (sorted(batch_sizes) or [0])
    ]


def _check_variants(inputs: Sequence[Input], variants: Sequence[Mapping[str, int]]) -> None:
    letters = {letter for tensor in inputs for letter in variable_letters(tensor.shape)}
    if letters and not variants:
        raise ExportError(f"axes {sorted(letters)} are variable: say which variants to compile")
    for variant in variants:
        if set(variant) != letters:
            raise ExportError(
                f"variant {dict(variant)} must give a size to exactly the variable axes {sorted(letters)}"
            )
        for letter, size in variant.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise ExportError(f'variant {dict(variant)}: the size of "{letter}" must be positive')
    if len({tuple(sorted(variant.items())) for variant in variants}) != len(variants):
        raise ExportError("two variants have the same sizes")


def check_client_side(bundle: Bundle) -> None:
    """Checks client sections, hook and assets, and that every tensor clients see has a wire type."""
    for section in ("client_inputs", "client_outputs"):
        tensors = getattr(bundle, section)
        if tensors is not None and bundle.hook is None:
            raise ExportError(f"{section} needs a hook that converts between them and the program")
        for tensor in tensors or ():
            check_tensor(tensor.name, tensor.dtype, tensor.shape, section)
        check_unique([tensor.name for tensor in tensors or ()], section)
    for tensor in (
        *(bundle.inputs if bundle.client_inputs is None else bundle.client_inputs),
        *(bundle.outputs if bundle.client_outputs is None else bundle.client_outputs),
    ):
        if not dtypes.from_token(tensor.dtype, tensor.name).on_wire:
            raise ExportError(f'"{tensor.name}" is {tensor.dtype}, which clients cannot send or receive')
    for file in (*([bundle.hook] if bundle.hook else []), *bundle.assets):
        if not Path(file).is_file():
            raise ExportError(f"{file} is not a file")


def batch_letter(inputs: Sequence[Input]) -> str:
    """The letter the inputs use for the batch axis."""
    used = [axis for tensor in inputs for axis in tensor.shape if axis in BATCH_LETTERS]
    return used[0] if used else BATCH_LETTERS[0]
