"""How far pre-activations have left their prior, in a sentence."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.figures.cells import group, label
from pipelines.report.figures.order import shape
from pipelines.text.rounding import uncertain

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

SEEN = 5  # standard errors that a variance must be away from the prior's
TARGET, RANDOM = "target", "random"


def shape_lines(tree: "DataTree") -> Iterator[str]:
    """Variance and excess kurtosis of the last hidden layer, at the cell that has moved most."""
    cells = group(tree, "ensemble")
    if cells is None or "moment" not in cells or TARGET not in cells["direction"].values:
        return
    last = shape(cells).isel(layer=-1)
    along = last.sel(direction=TARGET)
    variance, error = along["variance"].values, along["variance_error"].values
    seen = (np.abs(variance - 1) > SEEN * error) & (variance > 0)
    if not seen.any():
        return
    cell = int(np.argmax(np.abs(np.log(variance, where=seen, out=np.zeros_like(variance)))))
    where = label(last, cell)
    one = last.isel(cell=cell)
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
