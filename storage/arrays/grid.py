"""The cells of a campaign as a grid: the axes of the sweep in the place of `cell`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MISSING = -1  # the cell of a point of the grid that is not stored

Axes = Mapping[str, Mapping[str, Sequence[object]]]  # axis -> name of a setting -> values along it


@dataclass(frozen=True)
class Grid:
    """The axes, and the cell at each of their points."""

    axes: Axes
    places: np.ndarray  # in the shape of the axes; MISSING where no cell is stored

    @property
    def complete(self) -> bool:
        """Whether every point has its cell."""
        return bool((self.places != MISSING).all())

    @property
    def absent(self) -> list[int]:
        """Points without a cell, counted with the last axis running fastest."""
        return np.flatnonzero(self.places == MISSING).tolist()

    def unfold(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """Dimensions with the axes in the place of `cell`."""
        return tuple(new for dim in dims for new in (self.axes if dim == "cell" else (dim,)))


def locate(axes: Axes, settings: Mapping[str, np.ndarray], cells: int) -> Grid:
    """The grid of the axes among stored cells, whose `settings` are arrays along `cell`.

    Cells that are not on the grid are left out. Values are equal as what they mean: 1 is 1.0, and
    "[1, 8]" is [1.0, 8.0].
    """
    rows = [
        list(zip(*(map(_meaning, values) for values in setting.values()), strict=True))
        for setting in axes.values()
    ]
    columns = [
        [_meaning(value) for value in settings[name].tolist()]
        for setting in axes.values()
        for name in setting
    ]
    known: dict[tuple[object, ...], int] = {}
    for cell in range(cells):
        known.setdefault(tuple(column[cell] for column in columns), cell)
    places = np.full([len(row) for row in rows], MISSING)
    for point in np.ndindex(places.shape):
        values = (value for row, i in zip(rows, point, strict=True) for value in row[i])
        places[point] = known.get(tuple(values), MISSING)
    return Grid(axes, places)


def _meaning(value: object) -> object:
    """A hashable value: text that is JSON is what it says, for a list or nothing is stored so."""
    if isinstance(value, str):
        try:
            return _meaning(json.loads(value))
        except ValueError:
            return value
    if isinstance(value, list):
        return tuple(map(_meaning, value))
    if isinstance(value, dict):
        return frozenset((key, _meaning(item)) for key, item in value.items())
    return value
