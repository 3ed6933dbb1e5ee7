"""Turns a JAX function at fixed shapes into the bytes of a program file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import jax
import jax.export
from jax.interpreters import mlir as jax_mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import stablehlo

from .errors import ExportError

#: The StableHLO version programs are written in unless the caller says otherwise. Old enough for every
#: plugin of the last year and a half, new enough for all that JAX emits in ordinary models.
DEFAULT_STABLEHLO_VERSION = "1.9.0"


def check_version(version: str) -> None:
    """Refuses a StableHLO version this jaxlib cannot write."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise ExportError(f'StableHLO version "{version}" is not of the form 1.9.0')
    low, high = stablehlo.get_minimum_version(), stablehlo.get_current_version()
    if not _key(low) <= _key(version) <= _key(high):
        raise ExportError(f"this jaxlib writes StableHLO {low} to {high}, not {version}")


def lower(
    function: Callable[..., object],
    arguments: Sequence[jax.ShapeDtypeStruct],
    *,
    platform: str,
    stablehlo_version: str,
    what: str,
) -> bytes:
    """A portable artifact whose ``main`` takes exactly ``arguments``, in order, used or not.

    Source locations are dropped: they would carry paths of the machine that exports.

    Raises ExportError when JAX refuses the function, or when it needs an operation that
    ``stablehlo_version`` does not have; ``what`` names the program.
    """
    try:
        exported = jax.export.export(jax.jit(function, keep_unused=True), platforms=[platform])(*arguments)
    except Exception as error:
        raise ExportError(f"{what}: JAX cannot export the function: {error}") from error
    try:
        with jax_mlir.make_ir_context() as context:
            module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
            text = module.operation.get_asm(enable_debug_info=False)
        return stablehlo.serialize_portable_artifact_str(text, stablehlo_version)
    except (ValueError, RuntimeError, ir.MLIRError) as error:
        raise ExportError(
            f"{what}: StableHLO {stablehlo_version} cannot express the program ({error}); "
            "try a newer stablehlo_version"
        ) from error


def _key(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
