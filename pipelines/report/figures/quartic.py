"""What a quartic term in the loss does to the error, and that it does less with more points."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of, spread
from pipelines.report.figures.panel import Panel
from pipelines.text.rounding import plain
from theory.statistics import jackknife_error

MOST_RIDGES = 3  # ridges


def panel(tree: DataTree) -> Panel | None:
    """The error over that without the term, against the size, a row of axes for each ridge."""
    measured, theory = group(tree, "regression"), group(tree, "theory/quartic")
    plain_theory = group(tree, "theory/effective_ridge")
    if measured is None or "quartic_error" not in measured or "pool_error" not in measured:
        return None
    data = ratios(measured, theory, plain_theory).isel(cell=chosen(measured, 1))
    if bool(data["ratio"].isnull().all()):
        return None
    room = shown_of(1, measured.sizes["cell"], "cells")
    room += shown_of(min(data.sizes["ridge"], MOST_RIDGES), data.sizes["ridge"], "ridges")
    title = "A quartic term in the loss"
    return Panel("quartic", title, _caption(data), _draw, data, _facets, room)


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return {
        f"ridge {plain(float(data['ridge'][place]))}": data.isel(ridge=[place])
        for place in spread(data.sizes["ridge"], MOST_RIDGES)
    }


def ratios(
    measured: xr.Dataset, theory: xr.Dataset | None, without: xr.Dataset | None
) -> xr.Dataset:
    """Mean error with the term over mean error without it, (cell, train, ridge, coupling).

    nan where the sample of a repeat was refused: a mean over the others would favour easy draws.
    """
    both = [measured[name].transpose("repeat", ...) for name in ("quartic_error", "pool_error")]
    finished = np.isfinite(both[1].values).all(tuple(range(1, both[1].ndim)))
    above, below = (array.isel(repeat=finished) for array in both)
    ratio = (above.mean("repeat", skipna=False) / below.mean("repeat")).assign_attrs(
        long_name="error with the quartic term over error without it", units="1"
    )
    count = above.sizes["repeat"]
    words = {"long_name": "standard error of ratio", "units": "1"}
    error = xr.full_like(ratio, np.nan).assign_attrs(words)
    if count > 1:
        left_out = (above.sum("repeat", skipna=False) - above) / (below.sum("repeat") - below)
        left_out = left_out.transpose("repeat", *ratio.dims)
        error = error.copy(data=jackknife_error(left_out.values))
    found = {"ratio": ratio, "ratio_error": error}
    if theory is not None and without is not None:
        predicted = theory["quartic_error"] / without["pool_error"]
        found["predicted"] = predicted.assign_attrs(long_name="ratio predicted", units="1")
    return xr.Dataset(found, attrs=measured.attrs)


def _draw(data: xr.Dataset) -> Figure:
    one = data.isel(cell=0)
    shown = spread(one.sizes["ridge"], MOST_RIDGES)
    figure = style.figure(1.1 + 2.2 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, ridge in zip(rows, shown, strict=True):
        _row(axes, one.isel(ridge=ridge))
        axes.set_title(f"ridge {plain(float(one['ridge'][ridge]))}")
    style.legend(figure, rows[0])
    rows[-1].set_xlabel("training points n")
    rows[-1].set_xscale("log")
    style.ticks_at(rows[-1], one["train"].values)
    figure.align_ylabels()
    return figure


def _row(axes: Axes, one: xr.Dataset) -> None:
    axes.axhline(1, color=style.MUTED, lw=0.8)
    for place, colour in enumerate(style.sequence(one.sizes["coupling"])):
        at = one.isel(coupling=place)
        name = f"u = {plain(float(at['coupling']))}"
        if "predicted" in at:
            axes.plot(one["train"], at["predicted"], color=colour, label=f"{name}, predicted")
        axes.errorbar(
            one["train"],
            at["ratio"],
            at["ratio_error"],
            fmt=style.marker(place),
            color=colour,
            label=f"{name}, measured",
        )
    axes.set_ylabel("error with /\nwithout the term")
    style.grid(axes)


def _caption(data: xr.Dataset) -> str:
    where = f" at {name}" if (name := label(data, 0)) else ""
    return (
        f"Error over the pool with a quartic term u h⁴ in the loss over that without it{where}, on "
        "the same points: ratio of the means over repeats with its jackknife error. Lines: the "
        "effective ridge at T/(1 + 6u⟨h²⟩) over that at T, with no free parameter. Where they "
        "come to 1 the term is irrelevant."
    )
