"""What is said of networks in time: each theory on each observable, over the times."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from pipelines.analysis.trajectories import split
from pipelines.analysis.verdicts import Judged, size_of, summary
from pipelines.report.figures.cells import group, label
from pipelines.report.theory_names import in_words, observable_in_words
from theory.statistics import bonferroni

if TYPE_CHECKING:
    from xarray import Dataset, DataTree

# Columns of what is judged: residual, error, degrees, p-value, prediction.
OF_CELLS = ("mean_residual", "mean_error", "degrees", "p_value", "mean_predicted")
OF_LAWS = (
    "intercept", "intercept_error", "intercept_degrees", "intercept_p_value", "reference",
)  # fmt: skip


def is_in_time(fits: "Dataset") -> bool:
    """Whether observables have a time."""
    return any(split(str(name))[1] for name in fits["observable"].values)


def time_lines(tree: "DataTree") -> Iterator[str]:
    """Where each theory holds in time, cell by cell, and in the limit of a size that is swept."""
    fits, scaling = group(tree, "fits"), group(tree, "scaling")
    if fits is None or not fits.sizes["theory"] or not is_in_time(fits):
        return
    names = [str(name) for name in fits["observable"].values]
    kinds = list(dict.fromkeys(split(name)[0] for name in names))
    for theory, kind in product(map(str, fits["theory"].values), kinds):
        places = [place for place, name in enumerate(names) if split(name)[0] == kind][::-1]
        said = f"{in_words(theory)} on {observable_in_words(kind)}"
        one = fits.sel(theory=theory).isel(observable=places)
        yield from _said(one, OF_CELLS, said)
        if scaling is not None:
            laws = scaling.sel(theory=theory).isel(observable=places)
            yield from _said(laws, OF_LAWS, f"{said}, extrapolated in the size")


def _said(found: "Dataset", columns: Sequence[str], words: str) -> Iterator[str]:
    """A sentence for each cell in which something is known."""
    for cell in range(found.sizes["cell"]):
        judged = _judged(found.isel(cell=cell), columns)
        if judged:
            where = label(found, cell)
            yield f"{f'at {where}, ' if where else ''}{words}: {summary(judged, 'times')}."


def _judged(one: "Dataset", columns: Sequence[str]) -> list[Judged]:
    """At each time at which there is a residual."""
    residual, error, degrees, p_value, predicted = (one[name].values for name in columns)
    times = [split(str(name))[1] for name in one["observable"].values]
    known = np.flatnonzero(np.isfinite(residual))
    count = max(int(np.isfinite(p_value).sum()), 1)
    size, p = size_of(predicted, residual), np.asarray(bonferroni(p_value, count))
    return [
        Judged(
            f"t = {times[place]}",
            float(residual[place] / size[place]),
            float(error[place] / size[place]),
            float(degrees[place]),
            float(p[place]),
            count,
        )
        for place in known
    ]
