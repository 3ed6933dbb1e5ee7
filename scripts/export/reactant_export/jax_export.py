"""From a JAX function and its parameters to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import jax
import numpy as np

from . import dtypes, program, provenance
from .bundle import Bundle, TypedOutput, batch_letter, check_client_side, plan_cases
from .errors import ExportError
from .golden import ExampleFunction, draw
from .tensors import Case, ClientTensor, Input, check_unique, infer_output_shape, resolve

Reference = Callable[..., object]


def export_jax(
    fn: Callable[..., object],
    params: object,
    directory: str | Path,
    *,
    inputs: Sequence[Input],
    outputs: Sequence[str] | None = None,
    batch_sizes: Sequence[int] = (),
    variants: Sequence[Mapping[str, int]] = (),
    description: str = "",
    client_inputs: Sequence[ClientTensor] | None = None,
    client_outputs: Sequence[ClientTensor] | None = None,
    hook: str | Path | None = None,
    assets: Sequence[str | Path] = (),
    example: ExampleFunction | None = None,
    golden_batch_sizes: Sequence[int] | None = None,
    reference: Reference | None = None,
    atol: float = 1e-6,
    rtol: float = 1e-6,
    x64: bool | None = None,
    platform: str = "cpu",
    stablehlo_version: str = program.DEFAULT_STABLEHLO_VERSION,
    provenance_extra: Mapping[str, object] | None = None,
    packages: tuple[str, ...] = ("jax", "jaxlib", "numpy"),
    reproducible: bool = False,
    overwrite: bool = False,
) -> Path:
    """Exports ``fn`` as a bundle and returns its directory.

    Args:
        fn: Called as ``fn(params, *inputs)``; gives an array, a tuple or list of arrays, or a dict.
            It is traced once per batch size and variant, so shapes are ordinary integers in it.
        params: A pytree of arrays, which become the bundle's weights and the program's trailing
            arguments; ``None`` for a model without weights. A leaf is named by its path (``dense.w``).
        directory: The bundle to write; its last part is the name the server will know the model by.
        inputs: The program's tensors, in the order in which ``fn`` takes them.
        outputs: Names of the results. For a dict result they choose and order its keys; without them
            dict keys name the results, and other results are ``output`` or ``output_0``,
            ``output_1``, and so on. Their types and axes are read off the function.
        batch_sizes: The batch sizes to compile; required exactly when the inputs have a batch axis.
        variants: Sizes of the variable axes, one mapping per compiled variant.
        description: One line for people.
        client_inputs: What clients send where it differs from ``inputs``; needs ``hook``.
        client_outputs: What clients receive where it differs from the outputs; needs ``hook``.
        hook: The hook file; it is copied into the bundle as ``model.ts``.
        assets: Further files for the hook, copied under their own names.
        example: Draws inputs for the golden file: ``example(generator, shapes) -> arrays by name``.
            Without it numbers are drawn within each input's ``low`` and ``high``.
        golden_batch_sizes: Which batch sizes get golden tensors (default: all). An empty sequence
            leaves the golden file out.
        reference: Computes the golden outputs instead of JAX on this machine's CPU; called as
            ``reference(*inputs)`` with NumPy arrays, and gives results like those of ``fn``.
        atol, rtol: How far a server's outputs may be from the golden ones.
        x64: Whether to trace in JAX's 64-bit mode, without which it narrows 64-bit types to 32 bits.
            Default: when an input or a weight has such a type.
        platform: The platform to lower for: ``cpu`` or ``cuda``. Programs rarely differ.
        stablehlo_version: The StableHLO version the program files are written in.
        provenance_extra: Further entries for the manifest's ``provenance``.
        packages: Python packages whose versions ``provenance`` records.
        reproducible: Leave time and commit out of ``provenance``, for bundles kept under version control.
        overwrite: Replace an existing bundle.

    Raises:
        ExportError: naming what is wrong; nothing has been written then.
    """
    program.check_version(stablehlo_version)
    cases = plan_cases(inputs, batch_sizes, variants)
    weights = _flatten_weights(params)
    if x64 is None:
        weight_types = (dtypes.from_numpy(array.dtype, name).token for name, array in weights.items())
        x64 = not dtypes.WIDE_TOKENS.isdisjoint([*(tensor.dtype for tensor in inputs), *weight_types])
    with jax.enable_x64(x64), jax.default_device(jax.devices("cpu")[0]):
        model = _Model(fn, params, inputs, outputs, list(weights.values()))
        typed = model.outputs(cases)
        programs = {
            case: program.lower(
                model.main,
                model.arguments(case),
                platform=platform,
                stablehlo_version=stablehlo_version,
                what=case.program_file,
            )
            for case in cases
        }
        golden: dict[str, np.ndarray] = {}
        for case in cases:
            if golden_batch_sizes is None or case.batch in golden_batch_sizes:
                golden |= _golden(model, inputs, case, typed, example, reference)
    bundle = Bundle(
        inputs=inputs,
        outputs=typed,
        programs=programs,
        weights=weights,
        golden=golden,
        atol=atol,
        rtol=rtol,
        variants=variants,
        description=description,
        client_inputs=client_inputs,
        client_outputs=client_outputs,
        hook=None if hook is None else Path(hook),
        assets=[Path(asset) for asset in assets],
        provenance=provenance.collect(packages, stablehlo_version, reproducible, provenance_extra or {}),
    )
    check_client_side(bundle)
    bundle.write(Path(directory), overwrite)
    return Path(directory)


class _Model:
    """The function as the program sees it: inputs, then weights, and a flat list of results."""

    def __init__(
        self,
        fn: Callable[..., object],
        params: object,
        inputs: Sequence[Input],
        outputs: Sequence[str] | None,
        weights: list[np.ndarray],
    ) -> None:
        self._fn = fn
        self._treedef = jax.tree_util.tree_structure(params)
        self._inputs = inputs
        self._output_names = outputs
        self._weights = weights
        check_unique(list(outputs or ()), "output")

    def main(self, *arguments: object) -> list[object]:
        """``main(inputs..., weights...)``, the entry point of every program file."""
        return [value for _, value in self._call(arguments)]

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs the program's own computation with JAX on the CPU."""
        arguments = [inputs[tensor.name] for tensor in self._inputs]
        results = jax.jit(self.main, keep_unused=True)(*arguments, *self._weights)
        return [np.asarray(result) for result in results]

    def named(self, result: object) -> list[tuple[str, object]]:
        """Names and values of a result of ``fn``, in the order of the program's results."""
        names = self._output_names
        if isinstance(result, Mapping):
            for name in names or ():
                if name not in result:
                    raise ExportError(f'there is no output "{name}": the function gives {list(result)}')
            return [(name, result[name]) for name in names or result]
        values = list(result) if isinstance(result, (tuple, list)) else [result]
        if names is None:
            count = len(values)
            names = ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
        if len(names) != len(values):
            raise ExportError(f"the function gives {len(values)} results, but {len(names)} outputs are named")
        return list(zip(names, values, strict=True))

    def arguments(self, case: Case) -> list[jax.ShapeDtypeStruct]:
        """Shapes and types of the program's arguments."""
        inputs = [
            jax.ShapeDtypeStruct(
                resolve(tensor.shape, case.batch, case.variant),
                dtypes.from_token(tensor.dtype, tensor.name).numpy,
            )
            for tensor in self._inputs
        ]
        return inputs + [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in self._weights]

    def outputs(self, cases: Sequence[Case]) -> list[TypedOutput]:
        """Names, types and axes of the outputs, from tracing every case."""
        traced = {case: self._trace(case) for case in cases}
        for case in _probe_cases(cases):
            # Only there to tell a batch axis from a fixed one; a function may insist on its own size.
            with suppress(ExportError):
                traced[case] = self._trace(case)
        first = traced[cases[0]]
        if not first:
            raise ExportError("the function gives no outputs")
        outputs = []
        for name, value in first.items():
            sizes = {case: results[name].shape for case, results in traced.items()}
            if any(0 in shape for shape in sizes.values()):
                raise ExportError(f'output "{name}" has an axis of size 0, which a manifest cannot declare')
            shape = infer_output_shape(name, sizes, batch_letter(self._inputs))
            outputs.append(TypedOutput(name, dtypes.from_numpy(value.dtype, f'output "{name}"').token, shape))
        return outputs

    def _call(self, arguments: Sequence[object]) -> list[tuple[str, object]]:
        count = len(self._inputs)
        params = jax.tree_util.tree_unflatten(self._treedef, arguments[count:])
        return self.named(self._fn(params, *arguments[:count]))

    def _trace(self, case: Case) -> dict[str, jax.ShapeDtypeStruct]:
        names: list[str] = []

        def values(*arguments: object) -> list[object]:
            pairs = self._call(arguments)
            names.extend(name for name, _ in pairs)
            return [value for _, value in pairs]

        try:
            shapes = jax.eval_shape(values, *self.arguments(case))
        except ExportError:
            raise
        except Exception as error:
            raise ExportError(f"{case.program_file}: the function fails at these shapes: {error}") from error
        for name, shape in zip(names, shapes, strict=True):
            if not isinstance(shape, jax.ShapeDtypeStruct):
                raise ExportError(f'output "{name}" is not one array but a {type(shape).__name__}')
        # A dict, built here: JAX would sort the keys of one that passes through it.
        return dict(zip(names, shapes, strict=True))


def _probe_cases(cases: Sequence[Case]) -> list[Case]:
    """A further batch size to trace, where only one is compiled."""
    batches = {case.batch for case in cases}
    if len(batches) > 1 or batches == {0}:
        return []
    return [Case(cases[0].batch + 13, cases[0].variant, cases[0].variant_index)]


def _flatten_weights(params: object) -> dict[str, np.ndarray]:
    """The leaves of a parameter pytree by path, in pytree order, as host arrays."""
    weights: dict[str, np.ndarray] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        name = jax.tree_util.keystr(path, simple=True, separator=".") or "weight"
        if not hasattr(leaf, "dtype"):
            raise ExportError(f'weight "{name}" is a {type(leaf).__name__}; weights must be arrays')
        if name in weights:
            raise ExportError(f'two weights have the path "{name}"')
        dtypes.from_numpy(leaf.dtype, f'weight "{name}"')
        weights[name] = np.asarray(leaf)
    return weights


def _golden(
    model: _Model,
    inputs: Sequence[Input],
    case: Case,
    outputs: Sequence[TypedOutput],
    example: ExampleFunction | None,
    reference: Reference | None,
) -> dict[str, np.ndarray]:
    """Golden tensors of one case, by their name in the golden file."""
    drawn = draw(inputs, case, example)
    if reference is None:
        results = model.run(drawn)
    else:
        given = reference(*(drawn[tensor.name] for tensor in inputs))
        results = [np.asarray(value) for _, value in model.named(given)]
    tensors = {f"{case.golden_prefix}input/{name}": array for name, array in drawn.items()}
    for output, array in zip(outputs, results, strict=True):
        expected = dtypes.from_token(output.dtype, output.name).numpy
        if array.dtype != expected:
            raise ExportError(
                f'the reference gives "{output.name}" as {array.dtype}, the program as {expected}'
            )
        tensors[f"{case.golden_prefix}output/{output.name}"] = array
    return tensors
