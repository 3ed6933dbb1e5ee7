"""Command line of the exporter: ``python -m reactant_export jax|torch TARGET DIRECTORY``."""

from __future__ import annotations

import argparse
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import ExportError
from .jax_export import export_jax
from .torch_export import export_torch

DESCRIPTION = """\
Export a model as a reactantserver bundle.

TARGET is FILE.py:FUNCTION. The function takes no arguments and returns the keyword arguments of the
export function as a dict: for jax at least fn, params and inputs, for torch at least module and inputs.
Options given here replace what it returns.

    def model():
        return {"fn": forward, "params": params, "inputs": [Input("x", "f32", ("n", 64))]}

    python -m reactant_export jax model.py:model models/mine --batch-sizes 1,8
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; exits with status 1 and one line when the model cannot be exported."""
    parser = argparse.ArgumentParser(
        prog="reactant_export", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("framework", choices=["jax", "torch"])
    parser.add_argument("target", metavar="TARGET", help="FILE.py:FUNCTION")
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="the bundle to write")
    parser.add_argument("--batch-sizes", type=_sizes, metavar="N,N", help="batch sizes to compile")
    parser.add_argument("--description", help="one line for people")
    parser.add_argument("--platform", choices=["cpu", "cuda"], help="platform to lower for")
    parser.add_argument("--stablehlo-version", metavar="X.Y.Z", help="version of the program files")
    parser.add_argument("--overwrite", action="store_true", default=None, help="replace an existing bundle")
    options = vars(parser.parse_args(arguments))
    framework, target = options.pop("framework"), options.pop("target")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        export = export_jax if framework == "jax" else export_torch
        settings = {**_call_target(target), **given}
        _check_settings(export, settings, target)
        directory = export(**settings)
    except ExportError as error:
        raise SystemExit(f"reactant_export: {error}") from error
    print(f"wrote {directory}")


def _call_target(target: str) -> Mapping[str, object]:
    """What the function named by ``FILE.py:FUNCTION`` returns."""
    file, _, function = target.rpartition(":")
    path = Path(file)
    if not file or not function.isidentifier() or path.suffix != ".py":
        raise ExportError(f'"{target}" is not of the form FILE.py:FUNCTION')
    if not path.is_file():
        raise ExportError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its neighbours can be imported, as when the file itself is run.
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    chosen = getattr(module, function, None)
    if not callable(chosen):
        raise ExportError(f"{path} has no function {function}")
    settings = chosen()
    if not isinstance(settings, Mapping):
        raise ExportError(f"{target} returned {type(settings).__name__}, not a dict of keyword arguments")
    return settings


def _check_settings(export: Callable[..., Path], settings: Mapping[str, object], target: str) -> None:
    """Refuses unknown and missing keyword arguments, by name."""
    own = inspect.signature(export).parameters.values()
    # What export_torch does not take itself it hands to export_jax.
    passed_on = inspect.signature(export_jax).parameters
    is_open = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in own)
    named = [parameter for parameter in own if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    known = {parameter.name for parameter in named} | (set(passed_on) if is_open else set())
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ExportError(f"{target} returned {unknown}, which {export.__name__} does not take")
    required = [parameter.name for parameter in named if parameter.default is inspect.Parameter.empty]
    missing = [name for name in required if name not in settings]
    if missing:
        raise ExportError(f"{target} did not return {missing}, which {export.__name__} needs")


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
