"""Which regressions have no result, and why."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines.report.figures.cells import group, label
from pipelines.report.words import listed
from pipelines.text.rounding import plain
from storage.arrays.schema import REFUSED

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

REASONS = {
    "indefinite": "K + T is not positive definite to rounding",
    "inaccurate": "the equations are left with too large a residual",
}


def refusal_lines(tree: "DataTree") -> Iterator[str]:
    """A sentence for each cell with regressions that were refused."""
    measured = group(tree, "regression")
    if measured is None or "refused" not in measured:
        return
    for cell in range(measured.sizes["cell"]):
        where = f"at {name}, " if (name := label(measured, cell)) else ""
        if said := list(_refused(measured.isel(cell=cell))):
            yield f"{where}regressions without a result: {listed(said)}; give larger ridges."


def _refused(one: "Dataset") -> Iterator[str]:
    for place, ridge in enumerate(one["ridge"].values):
        refused = one["refused"].isel(ridge=place)
        for reason, told in REASONS.items():
            if count := int((refused == REFUSED[reason]).sum()):
                total = int(refused.notnull().sum())
                yield f"{count} of {total} at T = {plain(float(ridge))} ({told})"
