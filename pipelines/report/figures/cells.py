"""The cells of a campaign, whatever its sweep is: along one dimension, with a label for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from xarray import DataTree

from pipelines.report.words import name_and_symbol, named
from pipelines.text.rounding import plain
from storage.arrays.attributes import axes_of

WIDTH = "network_width"
# What is said of all cells together: one cell alone has no dimension that would tell it apart.
OF_ALL_CELLS = (
    "averaged", "beyond_pool", "broken", "expected", "grid_p_value", "rank", "score",
)  # fmt: skip
STEP = 0.012  # of the axis, between error bars that would cover each other


@dataclass(frozen=True)
class Series:
    """Cells that differ in the abscissa, in its order; the label says what they share."""

    label: str
    cells: list[int]


@dataclass(frozen=True)
class Abscissa:
    """The swept setting against which a figure is drawn."""

    name: str  # of the coordinate
    path: str  # of the setting
    alone: bool  # no other setting moves with it

    @property
    def short(self) -> str:
        """What it is, in words."""
        return name_and_symbol(self.path)[0]

    @property
    def words(self) -> str:
        """The label of the axis: what it is, and its letter."""
        return named(self.path)

    def logarithmic(self, cells: xr.Dataset) -> bool:
        """Whether the values are positive and span more than a factor of four."""
        values = cells[self.name].values
        return bool(values.min() > 0 and values.max() > 4 * values.min())

    def beside(
        self, cells: xr.Dataset, one: xr.Dataset | xr.DataArray, place: int, count: int
    ) -> np.ndarray:
        """Where the points of `one` are drawn so that error bars of several stay apart."""
        values, all_values = one[self.name].values, cells[self.name].values
        offset = (place - (count - 1) / 2) * STEP
        if self.logarithmic(cells):
            return values * (all_values.max() / all_values.min()) ** offset
        return values + np.ptp(all_values) * offset

    @property
    def is_width(self) -> bool:
        """Whether a line in 1/width means something."""
        return self.path == "network.width" and self.alone


def group(tree: DataTree, path: str) -> xr.Dataset | None:
    """A group with all its cells along `cell`, None where there is none."""
    try:
        node = tree[path]
    except KeyError:
        return None
    if not isinstance(node, DataTree) or not node.data_vars:
        return None
    return flat(node.to_dataset())


def flat(grid: xr.Dataset) -> xr.Dataset:
    """The axes of the sweep put one after another along `cell`, the last running fastest.

    Points without a cell, such as those that the campaign excludes, are left out.
    """
    if "cell" in grid.dims:
        return grid
    axes = [axis for axis in _axes(grid) if axis in grid.dims]
    if not axes:
        shared = [name for name in OF_ALL_CELLS if name in grid]
        return grid.expand_dims("cell").assign(grid[shared].data_vars)
    places = np.indices([grid.sizes[axis] for axis in axes]).reshape(len(axes), -1)
    points = {
        axis: xr.DataArray(place, dims="cell") for axis, place in zip(axes, places, strict=True)
    }
    cells, absent = grid.isel(points), grid.attrs.get("absent")
    return cells.drop_isel(cell=absent) if absent else cells


def _axes(cells: xr.Dataset) -> Mapping[str, Mapping[str, Any]]:
    return axes_of(cells.attrs) or {}


def swept(cells: xr.Dataset) -> list[str]:
    """Names of the coordinates to which the sweep gives several values."""
    settings = [setting for axis in _axes(cells).values() for setting in axis.items()]
    several = [name for name, values in settings if len({str(v) for v in values}) > 1]
    return [name for name in several if name in cells.coords]


def label(cells: xr.Dataset, cell: int, without: tuple[str, ...] = ()) -> str:
    """`N = 64, n = 1000`: the swept settings of a cell."""
    names = [name for name in swept(cells) if name not in without]
    return ", ".join(f"{symbol(cells, name)} = {value(cells, name, cell)}" for name in names)


def path(cells: xr.Dataset, name: str) -> str:
    """The setting that a coordinate holds, such as `data.train`."""
    return str(cells[name].attrs.get("long_name", name))


def symbol(cells: xr.Dataset, name: str) -> str:
    """The letter of a setting."""
    return name_and_symbol(path(cells, name))[1]


def value(cells: xr.Dataset, name: str, cell: int) -> str:
    """A setting of a cell as text."""
    found = cells[name].values[cell]
    if np.issubdtype(np.asarray(found).dtype, np.number):
        return plain(float(found), digits=6)
    return str(found)


def abscissa(cells: xr.Dataset) -> Abscissa | None:
    """The width where it is swept, else the number that takes the most values."""
    numbers = [n for n in swept(cells) if np.issubdtype(cells[n].dtype, np.number)]
    if not numbers:
        return None
    name = max(numbers, key=lambda n: (n == WIDTH, len(np.unique(cells[n].values))))
    return Abscissa(name, path(cells, name), len(_partners(cells, name)) == 1)


def the_abscissa(cells: xr.Dataset) -> Abscissa:
    """The abscissa of a figure that is drawn only where there is one."""
    found = abscissa(cells)
    assert found is not None
    return found


def _partners(cells: xr.Dataset, name: str) -> tuple[str, ...]:
    """The settings that move with a setting, itself among them."""
    return next(tuple(axis) for axis in _axes(cells).values() if name in axis)


def series(cells: xr.Dataset, along: Abscissa, most: int) -> list[Series]:
    """Cells that share all but the abscissa and what moves with it; at most so many series."""
    found: dict[str, list[int]] = {}
    partners = _partners(cells, along.name)
    for cell in np.argsort(cells[along.name].values, kind="stable"):
        found.setdefault(label(cells, int(cell), partners), []).append(int(cell))
    everything = [Series(name, places) for name, places in found.items()]
    return [everything[place] for place in spread(len(everything), most)]


def chosen(cells: xr.Dataset, most: int) -> list[int]:
    """At most this many cells spread evenly, in the order of the abscissa."""
    along = abscissa(cells)
    count = cells.sizes["cell"]
    order = np.argsort(cells[along.name].values, kind="stable") if along else np.arange(count)
    return [int(order[place]) for place in spread(count, most)]


def shown_of(shown: int, total: int, nouns: str) -> str:
    """The end of a caption where a figure has room for some of them alone."""
    return "" if shown >= total else f" Shown are {shown} of {total} {nouns}; the store has all."


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
