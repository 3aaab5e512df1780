"""Residuals of the theories of a regression in standard errors, over sizes and ridges."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.squares import colour_bar, named, squares
from pipelines.text.rounding import plain

ERROR = "pool_error"
FEW_SIZES = 9  # sizes up to which numbers stand in the squares


def panel(tree: DataTree) -> Panel | None:
    """A square for each size and ridge, a row of axes for each theory; of one cell."""
    compared = group(tree, "learning_curve")
    if compared is None or ERROR not in compared["observable"].values:
        return None
    names = ["t", "residual", "residual_error", "tested"]
    data = compared.sel(observable=ERROR)[names].isel(cell=chosen(compared, 1))
    data = data.sel(theory=data["t"].notnull().any(("cell", "train", "ridge")))
    if data.sizes["theory"] < 2:
        return None  # the learning curve shows the residuals of one
    room = shown_of(1, compared.sizes["cell"], "cells")
    title = "Residuals over sizes and ridges"
    return Panel("residuals", title, _caption(data), _draw, data, _facets, room)


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    names = [str(theory) for theory in data["theory"].values]
    return {style.theory_title(name): data.sel(theory=[name]) for name in names}


def _draw(data: xr.Dataset) -> Figure:
    theories = data["theory"].values
    height = 0.24 * data.sizes["ridge"] + 0.42
    figure = style.figure(1.3 + height * len(theories))
    rows = figure.subplots(len(theories), 1, sharex=True, squeeze=False)[:, 0]
    for axes, theory in zip(rows, theories, strict=True):
        _squares(axes, data["t"].sel(theory=theory).isel(cell=0))
        style.title(axes, style.theory_title(str(theory)))
    rows[-1].set_xlabel("training points n")
    places = named(data.sizes["train"])
    middles = [place + 0.5 for place in places]
    rows[-1].set_xticks(middles, [f"{data['train'].values[place]:g}" for place in places])
    colour_bar(figure, list(rows))
    return figure


def _squares(axes: Axes, t: xr.DataArray) -> None:
    squares(axes, t.transpose("ridge", "train").values, t.sizes["train"] <= FEW_SIZES)
    axes.set_yticks(
        np.arange(t.sizes["ridge"]) + 0.5, [plain(float(ridge)) for ridge in t["ridge"].values]
    )
    axes.set_ylabel("T", rotation=0, va="center", labelpad=12)


def _caption(data: xr.Dataset) -> str:
    where = f" at {name}" if (name := label(data, 0)) else ""
    return (
        f"Error over the pool{where}: measured minus predicted in standard errors of the "
        "difference, over training sizes and ridges T. White is within the errors; "
        "decimated regressions see the same points as the measurement, so that their errors are "
        "far smaller."
    )
