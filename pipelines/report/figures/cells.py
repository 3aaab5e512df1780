"""The cells of a figure: against what they are drawn, and which of them together."""

from dataclasses import dataclass
from itertools import product

import numpy as np
import xarray as xr

from pipelines.analysis.places import flat, group, label, path, swept, swept_axes, symbol, value
from pipelines.text.rounding import plain
from pipelines.text.settings import name_and_symbol, named

__all__ = ["flat", "group", "label", "path", "swept", "swept_axes", "symbol", "value"]

WIDTH = "network_width"
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
    return next(tuple(axis) for axis in swept_axes(cells).values() if name in axis)


def series(cells: xr.Dataset, along: Abscissa, most: int) -> list[Series]:
    """Cells that share all but the abscissa and what moves with it; at most so many series."""
    found: dict[str, list[int]] = {}
    partners = _partners(cells, along.name)
    for cell in np.argsort(cells[along.name].values, kind="stable"):
        found.setdefault(label(cells, int(cell), partners), []).append(int(cell))
    everything = [Series(name, places) for name, places in found.items()]
    return [everything[place] for place in spread(len(everything), most)]


def by_cell(cells: xr.Dataset) -> dict[str, xr.Dataset]:
    """Each cell alone, by its settings."""
    return {label(cells, cell): cells.isel(cell=[cell]) for cell in range(cells.sizes["cell"])}


def at_ridge(cells: xr.Dataset, cell: int, ridge: int) -> str:
    """The settings of a cell of a regression, and the ridge."""
    return ", ".join(
        filter(None, [label(cells, cell), f"ridge {plain(float(cells['ridge'][ridge]))}"])
    )


def pairs(cells: xr.Dataset, most: int) -> list[tuple[int, int]]:
    """At most so many pairs of a cell and a ridge, spread evenly."""
    every = list(product(range(cells.sizes["cell"]), range(cells.sizes["ridge"])))
    return [every[place] for place in spread(len(every), most)]


def shown_pairs(cells: xr.Dataset, most: int) -> str:
    """What a caption says where not all of them are shown."""
    count = cells.sizes["cell"] * cells.sizes["ridge"]
    return shown_of(min(count, most), count, "combinations of cell and ridge")


def by_ridge(cells: xr.Dataset, most: int) -> dict[str, xr.Dataset]:
    """Each of these pairs of a cell and a ridge alone, by their settings."""
    return {
        at_ridge(cells, cell, ridge): cells.isel(cell=[cell], ridge=[ridge])
        for cell, ridge in pairs(cells, most)
    }


def chosen(cells: xr.Dataset, most: int, among: int | None = None) -> list[int]:
    """At most this many cells spread evenly, one of them given, in the order of the abscissa."""
    along = abscissa(cells)
    count = cells.sizes["cell"]
    order = np.arange(count)
    if along:
        order = np.argsort(cells[along.name].values, kind="stable")
    places = np.array(spread(count, most))
    if among is not None:
        wanted = int(np.argmax(order == among))
        places[np.abs(places - wanted).argmin()] = wanted
    return [int(order[place]) for place in places]


def shown_of(shown: int, total: int, nouns: str) -> str:
    """The end of a caption where a figure has room for some of them alone."""
    return "" if shown >= total else f" Shown are {shown} of {total} {nouns}; the store has all."


def spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
