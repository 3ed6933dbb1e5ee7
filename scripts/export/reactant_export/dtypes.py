"""Every name an element type goes by: manifest token, NumPy type, safetensors tag."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .errors import ExportError


@dataclass(frozen=True)
class DtypeInfo:
    """One element type. ``numpy`` is None for text, which never reaches a program."""

    token: str
    numpy: np.dtype | None
    safetensors: str | None
    on_wire: bool = True


def _row(token: str, scalar: type, tag: str, on_wire: bool = True) -> DtypeInfo:
    return DtypeInfo(token, np.dtype(scalar), tag, on_wire)


_TABLE = (
    _row("bool", np.bool_, "BOOL"),
    _row("u8", np.uint8, "U8"),
    _row("u16", np.uint16, "U16"),
    _row("u32", np.uint32, "U32"),
    _row("u64", np.uint64, "U64"),
    _row("i8", np.int8, "I8"),
    _row("i16", np.int16, "I16"),
    _row("i32", np.int32, "I32"),
    _row("i64", np.int64, "I64"),
    _row("f16", np.float16, "F16"),
    _row("bf16", ml_dtypes.bfloat16, "BF16"),
    _row("f32", np.float32, "F32"),
    _row("f64", np.float64, "F64"),
    _row("f8_e5m2", ml_dtypes.float8_e5m2, "F8_E5M2", on_wire=False),
    _row("f8_e4m3", ml_dtypes.float8_e4m3fn, "F8_E4M3", on_wire=False),
    DtypeInfo("bytes", None, None),
)
_BY_TOKEN = {row.token: row for row in _TABLE}
_BY_NUMPY = {row.numpy: row for row in _TABLE if row.numpy is not None}

#: Types that JAX silently narrows unless its 64-bit mode is on.
WIDE_TOKENS = frozenset({"i64", "u64", "f64"})


def from_token(token: str, what: str) -> DtypeInfo:
    """The type a manifest token names; ``what`` says in the error who uses it."""
    row = _BY_TOKEN.get(token)
    if row is None:
        known = ", ".join(_BY_TOKEN)
        raise ExportError(f'{what} has dtype "{token}"; the known ones are {known}')
    return row


def from_numpy(dtype: object, what: str) -> DtypeInfo:
    """The type of an array; ``what`` says in the error whose array it is."""
    try:
        row = _BY_NUMPY.get(np.dtype(dtype))
    except TypeError:
        row = None
    if row is None:
        raise ExportError(f"{what} has element type {dtype}, which a bundle cannot hold")
    return row
