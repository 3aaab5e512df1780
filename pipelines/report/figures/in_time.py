"""Networks in time: loss and learnability against log time, and what a theory misses."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel
from pipelines.text.rounding import plain

MOST_CELLS = 3
# Residuals are those of the first.
BEST_THEORIES = ("mean_field", "volterra", "gradient_flow", "nngp")
ROWS = {"loss": "loss $L$", "learnability": "learnability"}
COLOURS = (style.SKY, style.YELLOW, style.PURPLE)


def panel(tree: DataTree) -> Panel | None:
    """Means over chains and datasets with their errors, a colour for each cell."""
    cells = group(tree, "ensemble")
    if cells is None or "time" not in cells.dims or not bool(cells["loss"].notnull().any()):
        return None
    found = {name: group(tree, f"theory/{name}") for name in BEST_THEORIES}
    theories = {name: one for name, one in found.items() if one is not None}
    data = compare(cells, theories).isel(cell=chosen(cells, MOST_CELLS))
    room = shown_of(data.sizes["cell"], cells.sizes["cell"], "cells")
    return Panel("in-time", "Networks in time", _caption(data), _draw, data, room=room)


def compare(cells: xr.Dataset, theories: dict[str, xr.Dataset]) -> xr.Dataset:
    """Measured, with its error, and predicted by each theory, (quantity, cell, time)."""
    quantities = [_series(cells, theories, name) for name in ROWS]
    found = xr.concat(
        quantities, xr.Variable("quantity", [*ROWS]), coords="minimal", compat="override"
    )
    change = np.abs(cells["loss_change"].mean("chain")) / cells["loss"].mean("chain")
    return found.assign_attrs(
        cells.attrs,
        change=float(change.max()),
        component=str(cells["component"].values[0]),
    )


def _series(cells: xr.Dataset, theories: dict[str, xr.Dataset], name: str) -> xr.Dataset:
    values = cells[name].isel(component=0, drop=True) if name == "learnability" else cells[name]
    datasets = values.notnull().any("chain").sum("dataset")
    mean = values.mean("chain")
    count = values.notnull().sum("chain")
    variance = (values.std("chain", ddof=1) ** 2 / count.where(count > 1)).sum("dataset")
    expected = [_of(one, name).transpose("cell", "dataset", "time") for one in theories.values()]
    found = {
        "measured": mean.mean("dataset").assign_attrs(long_name="mean over chains", units="1"),
        "standard_error": (variance**0.5 / datasets).assign_attrs(
            long_name="standard error over chains", units="1"
        ),
    }
    if expected:
        names = xr.Variable("theory", [*theories])
        predicted = xr.concat(expected, names, coords="minimal", compat="override")
        kept = mean.notnull()
        found["predicted"] = predicted.where(kept).mean("dataset")
        found["residual"] = (mean - predicted).where(kept).mean("dataset")
    return xr.Dataset(found)


def _of(theory: xr.Dataset, name: str) -> xr.DataArray:
    return theory[name].isel(component=0, drop=True) if name == "learnability" else theory[name]


def _draw(data: xr.Dataset) -> Figure:
    against = "residual" in data
    figure = style.figure(6.6 if against else 4.6)
    heights = [1.3, 1.3, 1] if against else [1, 1]
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for axes, (name, words) in zip(rows, ROWS.items(), strict=False):
        one = data.sel(quantity=name)
        _points(axes, one, "measured")
        _lines(axes, one)
        axes.set_ylabel(words)
    measured = data["measured"].sel(quantity="loss")
    if bool((measured > 0).all()):
        rows[0].set_yscale("log")
        style.decades(rows[0])
    if against:
        theory = str(data["theory"].values[0])
        _points(rows[2], data.sel(quantity="learnability", theory=theory), "residual")
        rows[2].axhline(0, color=style.theory_colour(theory), lw=1.2)
        rows[2].set_ylabel("minus theory")
    rows[-1].set(xscale="log", xlabel="time [relaxation times of the prior]")
    rows[-1].xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    for axes in rows:
        style.grid(axes)
    style.legend(figure, rows[0], most=2)
    figure.align_ylabels()
    return figure


def _points(axes: Axes, one: xr.Dataset, name: str) -> None:
    for cell in range(one.sizes["cell"]):
        here = one.isel(cell=cell)
        axes.errorbar(
            here["time"] * (1 + 0.03 * cell),
            here[name],
            here["standard_error"],
            fmt=style.marker(cell),
            ms=4,
            color=COLOURS[cell] if one.sizes["cell"] > 1 else style.MEASURED,
            label=label(one, cell) or "measured",
        )


def _lines(axes: Axes, one: xr.Dataset) -> None:
    """The theories, of the last cell; of others where they differ."""
    if "predicted" not in one:
        return
    for theory in map(str, one["theory"].values):
        predicted = one["predicted"].sel(theory=theory)
        drawn: list[np.ndarray] = []
        for cell in reversed(range(one.sizes["cell"])):
            values = predicted.isel(cell=cell).values
            if not np.isfinite(values).any() or any(np.allclose(values, d) for d in drawn):
                continue
            drawn.append(values)
            axes.plot(
                one["time"],
                values,
                color=style.theory_colour(theory),
                ls=style.theory_line(theory),  # pyright: ignore
                lw=1.3,
                zorder=1,
                label=style.theory_title(theory),
            )


def _caption(data: xr.Dataset) -> str:
    part = data.attrs["component"]
    of_part = "" if part == "target" else f" of {part}"
    text = (
        f"Training loss and learnability{of_part} of networks in time, means over pairs of "
        "networks with opposite readouts; error bars are standard errors over pairs. Steps of two "
        "sizes are extrapolated to none, which changes the loss by at most "
        f"{plain(100 * data.attrs['change'], 2)} %."
    )
    if "residual" in data:
        title = style.theory_title(str(data["theory"].values[0]))
        text += f" Below: the learnability, minus that of {title}."
    return text
