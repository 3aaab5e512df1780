"""The cells of a campaign, whatever its sweep is: along one dimension, with a label for each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from xarray import DataTree

from pipelines.rounding import plain

SYMBOLS = {
    "network_width": "N",
    "network_depth": "L",
    "network_chi": "χ",
    "data_train": "n",
    "data_dimension": "d",
}
STEP = 0.012  # of the axis, between error bars that would cover each other
WORDS = {
    "network_width": "width N",
    "network_depth": "hidden layers L",
    "network_chi": "mean-field factor χ",
    "data_train": "training points n",
    "data_dimension": "input dimension d",
    "sampler_temperature": "temperature, before the division by χ",
}


@dataclass(frozen=True)
class Series:
    """Cells that differ in the abscissa, in its order; the label says what they share."""

    label: str
    cells: list[int]


@dataclass(frozen=True)
class Abscissa:
    """The swept setting against which a figure is drawn."""

    name: str
    alone: bool  # no other setting moves with it

    @property
    def words(self) -> str:
        """The label of the axis."""
        return WORDS.get(self.name, symbol(self.name))

    @property
    def short(self) -> str:
        """The words without the symbol."""
        return " ".join(self.words.split(",")[0].split()[:-1]) or self.words

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
        return self.name == "network_width" and self.alone


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
    """The axes of the sweep put one after another along `cell`, the last running fastest."""
    if "cell" in grid.dims:
        return grid
    axes = [axis for axis in _axes(grid) if axis in grid.dims]
    if not axes:
        return grid.expand_dims("cell")
    return grid.stack(cell=axes, create_index=False)


def _axes(cells: xr.Dataset) -> Mapping[str, Mapping[str, Any]]:
    return cells.attrs.get("axes", {})


def swept(cells: xr.Dataset) -> list[str]:
    """Names of the coordinates that the sweep sets and that differ between cells."""
    names = [name for axis in _axes(cells).values() for name in axis if name in cells.coords]
    return [name for name in names if len(np.unique(cells[name].values)) > 1]


def label(cells: xr.Dataset, cell: int, without: tuple[str, ...] = ()) -> str:
    """`N = 64, n = 1000`: the swept settings of a cell."""
    names = [name for name in swept(cells) if name not in without]
    return ", ".join(f"{symbol(name)} = {value(cells, name, cell)}" for name in names)


def symbol(name: str) -> str:
    """The letter of a setting, or the last part of its name."""
    return SYMBOLS.get(name, name.split("_", 1)[-1].replace("_", " "))


def value(cells: xr.Dataset, name: str, cell: int) -> str:
    """A setting of a cell as text."""
    found = cells[name].values[cell]
    if np.issubdtype(np.asarray(found).dtype, np.number):
        return plain(float(found), digits=6)
    return str(found)


def abscissa(cells: xr.Dataset) -> Abscissa | None:
    """The width where it is swept, else the first number that is."""
    numbers = [n for n in swept(cells) if np.issubdtype(cells[n].dtype, np.number)]
    if not numbers:
        return None
    name = "network_width" if "network_width" in numbers else numbers[0]
    return Abscissa(name, len(_partners(cells, name)) == 1)


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


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
