"""Residuals of the theories of a regression in standard errors, over sizes and ridges."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel
from pipelines.text.rounding import plain

ERROR = "pool_error"
LINEAR, LARGEST = 3.0, 300.0  # standard errors
FEW = 9  # sizes up to which numbers stand in the squares
COLOURS = "RdBu_r"


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
    caption = _caption(data) + shown_of(1, compared.sizes["cell"], "cells")
    return Panel("residuals", "Residuals over sizes and ridges", caption, _draw, data)


def _draw(data: xr.Dataset) -> Figure:
    theories = data["theory"].values
    height = 0.24 * data.sizes["ridge"] + 0.42
    figure = style.figure(1.3 + height * len(theories))
    rows = figure.subplots(len(theories), 1, sharex=True, squeeze=False)[:, 0]
    norm = SymLogNorm(LINEAR, vmin=-LARGEST, vmax=LARGEST)
    for axes, theory in zip(rows, theories, strict=True):
        _squares(axes, data["t"].sel(theory=theory).isel(cell=0), norm)
        style.title(axes, style.theory_title(str(theory)))
    rows[-1].set_xlabel("training points n")
    places = _ticks(data.sizes["train"])
    middles = [place + 0.5 for place in places]
    rows[-1].set_xticks(middles, [f"{data['train'].values[place]:g}" for place in places])
    bar = figure.colorbar(
        ScalarMappable(norm, COLOURS),
        ax=list(rows),
        location="bottom",
        aspect=40,
        pad=0.02,
        extend="both",
    )
    bar.set_label("measured minus predicted (std. errors)")
    ticks = [-100, -10, -3, 0, 3, 10, 100]
    bar.set_ticks(ticks, labels=[plain(tick) for tick in ticks])
    return figure


def _ticks(count: int) -> list[int]:
    step = -(-count // 8)
    return list(range(count - 1, -1, -step))[::-1]


def _squares(axes: Axes, t: xr.DataArray, norm: SymLogNorm) -> None:
    table = t.transpose("ridge", "train").values
    axes.pcolormesh(np.ma.masked_invalid(table), norm=norm, cmap=COLOURS, edgecolors="white")
    axes.set_yticks(
        np.arange(table.shape[0]) + 0.5, [plain(float(ridge)) for ridge in t["ridge"].values]
    )
    axes.set_ylabel("T", rotation=0, va="center", labelpad=12)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if table.shape[1] > FEW:
        return
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            dark = abs(value) > 30
            axes.text(
                column + 0.5,
                row + 0.5,
                _short(float(value)),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else style.INK,
            )


def _short(value: float) -> str:
    """At most four characters and a sign."""
    text = f"{round(value, 1) + 0.0:.1f}" if abs(value) < 9.95 else f"{value:.0f}"  # no -0.0
    return text.replace("-", "−") if abs(value) < 9999.5 else plain(value, 1)


def _caption(data: xr.Dataset) -> str:
    where = f" at {name}" if (name := label(data, 0)) else ""
    return (
        f"Error over the pool{where}: measured minus predicted in standard errors of the "
        "difference, over training sizes and ridges T. White is within the errors; "
        "decimated regressions see the same points as the measurement, so that their errors are "
        "far smaller."
    )
