"""How far pre-activations have left their prior, in a sentence."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.report.figures.cells import group, label
from pipelines.report.figures.order import TARGET, farthest, shape
from pipelines.text.rounding import uncertain

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

RANDOM = "random"


def shape_lines(tree: "DataTree") -> Iterator[str]:
    """Variance and excess kurtosis of the last hidden layer, at the cell that has moved most."""
    cells = group(tree, "ensemble")
    if cells is None or "moment" not in cells:
        return
    found = shape(cells)
    cell = farthest(found)
    if cell is None:
        return
    where = label(found, cell)
    one = found.isel(layer=-1, cell=cell)
    yield (
        f"pre-activations of hidden layer {int(one['layer'])} have left their prior"
        f"{f' most at {where}' if where else ''}: {_number(one, TARGET, 'variance')} times its "
        f"variance along the target direction, {_number(one, RANDOM, 'variance')} times along a "
        f"random one (excess kurtosis {_number(one, TARGET, 'kurtosis')} and "
        f"{_number(one, RANDOM, 'kurtosis')})."
    )


def _number(one: "Dataset", direction: str, name: str) -> str:
    found = one.sel(direction=direction)
    return uncertain(float(found[name]), float(found[f"{name}_error"]))
