"""The error of a regression over its pool with every theory of it, ridge by ridge."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.interpolate import PchipInterpolator
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import at_ridge, by_ridge, group, pairs, shown_pairs
from pipelines.report.figures.learning import shade
from pipelines.report.figures.panel import Panel
from pipelines.report.words import listed

ERROR = "pool_error"
MOST_PAIRS = 3  # pairs of a cell and a ridge
ROOM = 2.5  # factor above and below what was measured


def panel(tree: DataTree) -> Panel | None:
    """Dots with error bars and a line for each theory, where there are at least two theories."""
    compared = group(tree, "learning_curve")
    if compared is None or ERROR not in compared["observable"].values:
        return None
    data = compared.sel(observable=ERROR)[["measured", "standard_error", "predicted", "t"]]
    data = data.sel(theory=data["predicted"].notnull().any(("cell", "train", "ridge")))
    if data.sizes["theory"] < 2 or bool(data["measured"].isnull().all()):
        return None
    shaded = group(tree, f"theory/{data['theory'].values[0]}")
    assert shaded is not None
    data["beyond_pool"] = shaded["beyond_pool"]
    room = shown_pairs(data, MOST_PAIRS)
    return Panel(
        "theories", "Theories of the learning curve", _caption(data), _draw, data, _facets, room
    )


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return by_ridge(data, MOST_PAIRS)


def _draw(data: xr.Dataset) -> Figure:
    shown = pairs(data, MOST_PAIRS)
    figure = style.figure(1.2 + 2.5 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (cell, ridge) in zip(rows, shown, strict=True):
        one = data.isel(cell=cell, ridge=ridge)
        _row(axes, one)
        style.title(axes, at_ridge(data, cell, ridge))
    style.legend(figure, rows[0], most=2)
    rows[-1].set_xlabel("training points n")
    rows[-1].set_xscale("log")
    style.ticks_at(rows[-1], data["train"].values)
    figure.align_ylabels()
    return figure


def _row(axes: Axes, one: xr.Dataset) -> None:
    train = np.log(one["train"].values)
    dense = np.linspace(train[0], train[-1], 200)
    for theory in one["theory"].values:
        known = np.log(one["predicted"].sel(theory=theory).values)
        if not np.isfinite(known).all() or len(train) < 2:
            continue
        axes.plot(
            np.exp(dense),
            np.exp(PchipInterpolator(train, known)(dense)),
            color=style.theory_colour(str(theory)),
            linestyle=style.theory_line(str(theory)),
            label=style.theory_title(str(theory)),
        )
    axes.errorbar(
        one["train"],
        one["measured"],
        one["standard_error"],
        fmt="o",
        color=style.MEASURED,
        label="measured",
        zorder=3,
    )
    axes.set_yscale("log")
    if (frame := _frame(one)) is not None:
        axes.set_ylim(*frame)
    axes.set_ylabel("error over the pool")
    style.decades(axes)
    style.grid(axes)
    shade(axes, one)


def _frame(one: xr.Dataset) -> tuple[float, float] | None:
    """The ends of the vertical axis, which shows what was measured whatever theories say."""
    low, high = float(one["measured"].min()), float(one["measured"].max())
    return (low / ROOM, high * ROOM) if 0 < low < np.inf else None


def _outside(data: xr.Dataset) -> Iterator[str]:
    """Which theories are off the axis at each ridge that is shown, and on which side."""
    for cell, ridge in pairs(data, MOST_PAIRS):
        one = data.isel(cell=cell, ridge=ridge)
        if (frame := _frame(one)) is None:
            continue
        least, most = one["predicted"].min("train"), one["predicted"].max("train")
        for side, off in (("above", least > frame[1]), ("below", most < frame[0])):
            names = [style.theory_title(str(name)) for name in one["theory"].values[off.values]]
            if names:
                yield f" Off the axis, {side}, at {at_ridge(data, cell, ridge)}: {listed(names)}."


def _caption(data: xr.Dataset) -> str:
    text = (
        "Mean squared error over the whole pool: means over repeats with standard errors, which "
        "are often smaller than the dots, and what the theories predict at the same sizes, joined "
        "by lines. None has a free parameter."
    )
    text += "".join(_outside(data))
    if bool(data["beyond_pool"].any()):
        text += " Shaded sizes are more than 0.3 of the pool, where no theory is tested."
    return text
