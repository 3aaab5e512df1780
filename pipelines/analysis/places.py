"""The cells of a campaign, whatever its sweep is: along one dimension, with a label for each."""

import numpy as np
import xarray as xr
from xarray import DataTree

from pipelines.text.rounding import plain
from pipelines.text.settings import name_and_symbol
from storage.arrays.attributes import axes_of
from storage.arrays.grid import Axes

# What is said of all cells together: one cell alone has no dimension that would tell it apart.
OF_ALL_CELLS = (
    "averaged", "beyond_pool", "broken", "expected", "grid_p_value", "rank", "score",
)  # fmt: skip


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
    if "cell" in grid.dims or "verdict" in grid.dims:
        return grid
    axes = [axis for axis in swept_axes(grid) if axis in grid.dims]
    if not axes:
        shared = [name for name in OF_ALL_CELLS if name in grid]
        return grid.expand_dims("cell").assign(grid[shared].data_vars)
    places = np.indices([grid.sizes[axis] for axis in axes]).reshape(len(axes), -1)
    points = {
        axis: xr.DataArray(place, dims="cell") for axis, place in zip(axes, places, strict=True)
    }
    cells, absent = grid.isel(points), grid.attrs.get("absent")
    return cells.drop_isel(cell=absent) if absent else cells


def swept_axes(cells: xr.Dataset) -> Axes:
    """The axes of the sweep: the values of each coordinate along them."""
    return axes_of(cells.attrs) or {}


def swept(cells: xr.Dataset) -> list[str]:
    """Names of the coordinates to which the sweep gives several values."""
    settings = [setting for axis in swept_axes(cells).values() for setting in axis.items()]
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
