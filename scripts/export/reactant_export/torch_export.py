"""From a ``torch.nn.Module`` to a bundle.

The route is torch.export, which captures the module as a graph of ATen operations, and torchax, which
gives every such operation its JAX counterpart; from there on it is :func:`export_jax`. The golden numbers
are PyTorch's own, computed by the module itself on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from . import dtypes
from .bundle import plan_cases
from .errors import ExportError
from .jax_export import export_jax
from .tensors import Case, Input, resolve

PACKAGES = ("torch", "torchax", "jax", "jaxlib", "numpy")


def export_torch(
    module: Any,
    directory: str | Path,
    *,
    inputs: Sequence[Input],
    atol: float = 1e-5,
    rtol: float = 1e-4,
    **settings: Any,
) -> Path:
    """Exports a module in evaluation mode as a bundle and returns its directory.

    Args:
        module: A ``torch.nn.Module`` whose ``forward`` takes the inputs in order and gives a tensor, a
            tuple or list of tensors, or a dict. It is switched to evaluation mode. Parameters and buffers
            that the graph uses become the bundle's weights, under their names in ``state_dict``.
        directory: The bundle to write.
        inputs: The program's tensors, in the order in which ``forward`` takes them.
        atol, rtol: How far a server's outputs may be from PyTorch's: XLA sums in another order.
        **settings: Everything else :func:`export_jax` takes.

    Raises:
        ExportError: naming what is wrong; nothing has been written then.
    """
    try:
        import torch
        import torchax.export  # noqa: F401 - only to say at once that it is missing
    except ImportError as error:
        raise ExportError(
            f"exporting from PyTorch needs torch and torchax ({error}); "
            "`scripts/python/setup torch` installs both into .cache/venv-torch"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ExportError(f"expected a torch.nn.Module, got a {type(module).__name__}")
    for name in ("fn", "params", "reference"):
        if name in settings:
            raise ExportError(f'export_torch does not take "{name}": the module is all three')
    graphs = _Graphs(module.eval())
    cases = plan_cases(inputs, settings.get("batch_sizes", ()), settings.get("variants", ()))
    captured = [graphs.capture(inputs, case) for case in cases]
    used = set().union(*(graph.used for graph in captured))
    if any(graph.has_wide_results for graph in captured):
        settings.setdefault("x64", True)
    return export_jax(
        graphs.run,
        {name: _to_numpy(tensor) for name, tensor in _state(module).items() if name in used},
        directory,
        inputs=inputs,
        reference=graphs.reference,
        atol=atol,
        rtol=rtol,
        packages=PACKAGES,
        **settings,
    )


class _Graphs:
    """The module's graphs, one per combination of input shapes, captured when first asked for."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._captured: dict[tuple[object, ...], _Graph] = {}

    def capture(self, inputs: Sequence[Input], case: Case) -> _Graph:
        """The graph of one case."""
        shapes = [resolve(tensor.shape, case.batch, case.variant) for tensor in inputs]
        types = [tensor.dtype for tensor in inputs]
        return self._graph(list(zip(shapes, types, strict=True)))

    def run(self, params: Mapping[str, Any], *arguments: Any) -> Any:
        """The module as a JAX function."""
        specs = [
            (tuple(argument.shape), dtypes.from_numpy(argument.dtype, "an input").token)
            for argument in arguments
        ]
        return self._graph(specs).run(params, arguments)

    def reference(self, *arguments: np.ndarray) -> Any:
        """What PyTorch itself computes."""
        import torch

        with torch.inference_mode():
            result = self._module(*(_to_torch(array) for array in arguments))
        if isinstance(result, Mapping):
            return {name: _to_numpy(value) for name, value in result.items()}
        if isinstance(result, (tuple, list)):
            return [_to_numpy(value) for value in result]
        return _to_numpy(result)

    def _graph(self, specs: Sequence[tuple[tuple[int, ...], str]]) -> _Graph:
        key = tuple(specs)
        if key not in self._captured:
            self._captured[key] = _Graph(self._module, specs)
        return self._captured[key]


class _Graph:
    """The module captured at fixed shapes."""

    def __init__(self, module: Any, specs: Sequence[tuple[tuple[int, ...], str]]) -> None:
        import torch
        import torchax
        from torchax.export import exported_program_to_jax

        torchax.default_env()  # registers the JAX counterparts of the ATen operations
        examples = tuple(
            _to_torch(np.zeros(shape, dtypes.from_token(token, "an input").numpy)) for shape, token in specs
        )
        shapes = [list(shape) for shape, _ in specs]
        try:
            with torch.no_grad():
                program = torch.export.export(module, examples)
            self._names, states, self._function = exported_program_to_jax(program, export_raw=True)
        except Exception as error:
            raise ExportError(f"torch.export cannot capture the module at {shapes}: {error}") from error
        self._out_spec = program.call_spec.out_spec
        # Tensors the module makes for itself, listed after parameters and buffers.
        self._constants = [_to_numpy(tensor) for tensor in states[len(self._names) :]]
        # States under names that the module does not know are constants too.
        known = _state(module)
        self._unnamed = {
            name: _to_numpy(tensor)
            for name, tensor in zip(self._names, states, strict=False)
            if name not in known
        }
        #: Names of the parameters and buffers the graph reads.
        self.used = _used_names(program) - set(self._unnamed)
        #: Whether a result has a 64-bit type, as an argmax does.
        self.has_wide_results = any(
            node.meta["val"].dtype.itemsize == 8 for node in program.graph.output_node().args[0]
        )

    def run(self, params: Mapping[str, Any], arguments: Sequence[Any]) -> Any:
        """Runs the graph with JAX values."""
        import jax.numpy as jnp
        from torch.utils import _pytree as pytree

        # A state no node reads is passed all the same, by position.
        states = [
            params[name] if name in params else jnp.asarray(self._unnamed.get(name, 0))
            for name in self._names
        ]
        results = self._function(
            [*states, *(jnp.asarray(value) for value in self._constants)], tuple(arguments)
        )
        return pytree.tree_unflatten(results, self._out_spec)


def _state(module: Any) -> dict[str, Any]:
    """Parameters and buffers by every name they have, tied ones included."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    return {**parameters, **dict(module.named_buffers(remove_duplicate=False))}


def _used_names(program: Any) -> set[str]:
    """Names of the parameters and buffers that some node of the graph reads."""
    signature = program.graph_signature
    targets = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    return {targets[node.name] for node in placeholders if node.name in targets and node.users}


def _to_numpy(tensor: Any) -> np.ndarray:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise ExportError(f"the module gives a {type(tensor).__name__} where a tensor is expected")
    tensor = tensor.detach().cpu().contiguous()
    # NumPy has no bfloat16 of its own; ml_dtypes does, and the bits are the same.
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _to_torch(array: np.ndarray) -> Any:
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
