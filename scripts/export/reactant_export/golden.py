"""Example inputs for the golden file, drawn from a fixed seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from . import dtypes
from .errors import ExportError
from .tensors import Case, Input, resolve

#: ``(generator, shapes by input name) -> arrays by input name``
ExampleFunction = Callable[[np.random.Generator, Mapping[str, tuple[int, ...]]], Mapping[str, object]]


def draw(inputs: Sequence[Input], case: Case, example: ExampleFunction | None) -> dict[str, np.ndarray]:
    """Inputs for one case: from ``example`` where given, else normal numbers and small integers.

    The seed depends on the case only, so the same declarations always give the same inputs.
    """
    random = np.random.default_rng([case.batch, *case.variant.values()])
    shapes = {tensor.name: resolve(tensor.shape, case.batch, case.variant) for tensor in inputs}
    if example is None:
        return {tensor.name: _sample(random, tensor, shapes[tensor.name]) for tensor in inputs}
    given = example(random, shapes)
    if set(given) != set(shapes):
        raise ExportError(f"example gave {sorted(given)} where the inputs are {sorted(shapes)}")
    return {tensor.name: _checked(tensor, shapes[tensor.name], given[tensor.name]) for tensor in inputs}


def _sample(random: np.random.Generator, tensor: Input, shape: tuple[int, ...]) -> np.ndarray:
    dtype = dtypes.from_token(tensor.dtype, tensor.name).numpy
    assert dtype is not None
    if dtype == np.bool_:
        return np.asarray(random.random(shape) < 0.5)
    if np.issubdtype(dtype, np.integer):
        low = 0 if tensor.low is None else int(tensor.low)
        high = low + 8 if tensor.high is None else int(tensor.high)
        return random.integers(low, high, shape).astype(dtype)
    if tensor.low is None and tensor.high is None:
        return np.asarray(random.standard_normal(shape)).astype(dtype)
    low = -1.0 if tensor.low is None else tensor.low
    high = 1.0 if tensor.high is None else tensor.high
    return np.asarray(random.uniform(low, high, shape)).astype(dtype)


def _checked(tensor: Input, shape: tuple[int, ...], value: object) -> np.ndarray:
    dtype = dtypes.from_token(tensor.dtype, tensor.name).numpy
    array = np.asarray(value)
    if array.dtype != dtype or array.shape != shape:
        raise ExportError(
            f'example gave "{tensor.name}" as {array.dtype}{list(array.shape)}, expected {dtype}{list(shape)}'
        )
    return array
