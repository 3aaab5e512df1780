"""How often a regression names the right class, and where in the sweep the most and the least."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pipelines.report.figures.cells import group, label
from pipelines.report.figures.statistics import mean_and_error
from pipelines.text.rounding import uncertain

if TYPE_CHECKING:
    from xarray import DataTree

NAMES = {"test_accuracy": "the held-out accuracy", "pool_accuracy": "the accuracy over the pool"}


def accuracy_lines(tree: "DataTree") -> Iterator[str]:
    """At the largest size and the smallest ridge: the cells at which it is highest and lowest."""
    cells = group(tree, "regression")
    name = next((name for name in NAMES if cells is not None and name in cells), None)
    if cells is None or name is None:
        return
    one = cells[name].isel(train=-1, ridge=int(np.argmin(cells["ridge"].values)))
    mean, error = (each.values for each in mean_and_error(one, "repeat"))
    known = np.flatnonzero(np.isfinite(mean))
    if not len(known):
        return
    said = f"{NAMES[name]} of regression on {int(cells['train'][-1])} points"
    ends = [int(known[place(mean[known])]) for place in (np.argmax, np.argmin)]
    numbers = [uncertain(float(mean[cell]), float(error[cell])) for cell in ends]
    if len(known) == 1:
        yield f"{said} is {numbers[0]}."
        return
    best, worst = (
        f"{number} at {label(cells, cell)}" for number, cell in zip(numbers, ends, strict=True)
    )
    yield f"{said} is highest with {best}, and lowest with {worst}."
