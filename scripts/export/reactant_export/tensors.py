"""Tensor declarations: what the caller writes, and the letters and sizes that follow from it.

A shape is a tuple in wire order (row-major, slowest axis first) whose items are

* an ``int``: an axis of that size;
* ``"n"`` or ``"b"``: the batch axis, of which a tensor has at most one;
* any other letter: an axis whose size the variants choose.

``()`` is a scalar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_letters

from . import dtypes
from .errors import ExportError

Axis = int | str
Shape = tuple[Axis, ...]

BATCH_LETTERS = ("n", "b")
_FIXED_LETTERS = "acdefghijklmopqrstuvwxyz" + "ACDEFGHIJKLMNOPQRSTUVWXYZ" + "B"


@dataclass(frozen=True)
class Input:
    """A tensor the program takes.

    ``low`` and ``high`` bound the values drawn for the golden file (``high`` is exclusive for
    integers); give them where not every value makes sense, as for token ids.
    """

    name: str
    dtype: str
    shape: Shape
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClientTensor:
    """A tensor as clients see it, where a hook file stands between them and the program.

    Letters other than the batch letter are axes of any size; ``bytes`` is the type of text.
    """

    name: str
    dtype: str
    shape: Shape


def check_tensor(name: str, dtype: str, shape: Sequence[Axis], section: str) -> None:
    """Refuses a declaration that no manifest could hold."""
    what = f'{section} "{name}"'
    if not isinstance(name, str) or not name:
        raise ExportError(f"{section} needs a name, got {name!r}")
    dtypes.from_token(dtype, what)
    letters: list[str] = []
    for axis in shape:
        if isinstance(axis, bool) or not isinstance(axis, (int, str)):
            raise ExportError(f"{what}: axis {axis!r} is neither a size nor a letter")
        if isinstance(axis, int):
            if axis < 1:
                raise ExportError(f"{what}: axis sizes must be positive, got {axis}")
        elif len(axis) != 1 or axis not in ascii_letters:
            raise ExportError(f"{what}: an axis letter is one ASCII letter, got {axis!r}")
        else:
            letters.append(axis)
    if len(set(letters)) != len(letters):
        raise ExportError(f"{what}: a letter stands for two axes in {tuple(shape)}")
    if sum(letter in BATCH_LETTERS for letter in letters) > 1:
        raise ExportError(f"{what} has two batch axes in {tuple(shape)}")


def check_unique(names: Sequence[str], section: str) -> None:
    """Refuses a tensor name used twice."""
    for name in names:
        if names.count(name) > 1:
            raise ExportError(f'{section} "{name}" is declared twice')


def has_batch(shape: Sequence[Axis]) -> bool:
    """Whether an axis is the batch axis."""
    return any(axis in BATCH_LETTERS for axis in shape)


def variable_letters(shape: Sequence[Axis]) -> list[str]:
    """Letters of the axes whose size the variants choose, in shape order."""
    return [axis for axis in shape if isinstance(axis, str) and axis not in BATCH_LETTERS]


def resolve(shape: Sequence[Axis], batch: int, variant: Mapping[str, int]) -> tuple[int, ...]:
    """The sizes of a shape at one batch size and variant."""
    return tuple(
        axis if isinstance(axis, int) else batch if axis in BATCH_LETTERS else variant[axis] for axis in shape
    )


def manifest_shape(shape: Sequence[Axis]) -> tuple[str, dict[str, int]]:
    """A shape as the manifest's letters and dims: fixed axes take free letters, variable ones are -1."""
    taken = {axis for axis in shape if isinstance(axis, str)}
    free = iter([letter for letter in _FIXED_LETTERS if letter not in taken])
    letters = ""
    dims: dict[str, int] = {}
    for axis in shape:
        if isinstance(axis, str):
            letters += axis
            if axis not in BATCH_LETTERS:
                dims[axis] = -1
        else:
            letter = next(free, None)
            if letter is None:
                raise ExportError(f"a shape of rank {len(shape)} has more axes than there are letters")
            letters += letter
            dims[letter] = axis
    return letters, dims


@dataclass(frozen=True, eq=False)
class Case:
    """One program of a bundle: the size of the batch axis (0: none) and of the variable axes."""

    batch: int
    variant: Mapping[str, int]
    #: Position in ``input_shapes``, or None for a bundle without variants.
    variant_index: int | None

    @property
    def program_file(self) -> str:
        """Name of the program's file in the bundle."""
        prefix = "model" if self.variant_index is None else f"model.v{self.variant_index}"
        return f"{prefix}.mlir" if self.batch == 0 else f"{prefix}.b{self.batch}.mlir"

    @property
    def golden_prefix(self) -> str:
        """What the case's tensors in the golden file begin with."""
        variant = "" if self.variant_index is None else f"v{self.variant_index}."
        return f"{variant}b{self.batch}/"


def infer_output_shape(name: str, sizes: Mapping[Case, tuple[int, ...]], batch_letter: str) -> Shape:
    """Reads an output's axes off the sizes it has in several cases.

    An axis that always equals the batch is the batch axis, one that always equals a variant's letter
    takes that letter, one that never changes is fixed, and any other is variable under a new letter.
    """
    ranks = {len(shape) for shape in sizes.values()}
    if len(ranks) != 1:
        raise ExportError(f'output "{name}" has a different rank at different batch sizes or variants')
    axes: list[Axis] = []
    letters = {letter for case in sizes for letter in case.variant}
    for position in range(ranks.pop()):
        seen = {case: shape[position] for case, shape in sizes.items()}
        if len(set(seen.values())) == 1:
            axes.append(next(iter(seen.values())))
        elif batch_letter not in axes and all(case.batch == size for case, size in seen.items()):
            axes.append(batch_letter)
        else:
            named = [
                letter
                for letter in sorted(letters)
                if letter not in axes and all(case.variant[letter] == size for case, size in seen.items())
            ]
            fresh = [letter for letter in _FIXED_LETTERS if letter not in letters and letter not in axes]
            axes.append((named + fresh)[0])
    return tuple(axes)
