"""Fluctuations of kernels, and the kurtosis that follows, against the width of random networks."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import (
    WIDTH,
    Abscissa,
    Series,
    group,
    path,
    series,
    shown_of,
    swept,
)
from pipelines.report.figures.layers import by_layer
from pipelines.report.figures.panel import Panel

MOST_SERIES = 3
KINDS = ["kernel_mean", "kernel_variance", "pre_activation_kurtosis"]
ROWS = {"fluctuation": "Var k / ⟨k⟩²", "kurtosis": "excess kurtosis"}
THEORIES = ("exact_prior", "width_corrections")
COLOURS = (style.BLUE, style.ORANGE, style.PURPLE)


def panel(tree: DataTree) -> Panel | None:
    """Relative variance of the last kernel and kurtosis of its layer's z, both logarithmic."""
    fits = group(tree, "fits")
    if fits is None or WIDTH not in swept(fits):
        return None
    if "pre_activation_kurtosis 2" not in fits["observable"].values:
        return None
    data = relative(by_layer(fits, KINDS).isel(layer=-1, dataset=0))
    if not bool(data["fluctuation"].notnull().any()):
        return None
    every = len(series(data, _along(data), data.sizes["cell"]))
    layer = int(data["layer"])
    caption = (
        f"Random networks at one point: variance over networks of the kernel k of layer {layer}, "
        f"over its squared mean, and the excess kurtosis of the layer's pre-activations, which the "
        "kernels below make. Error bars are standard errors over chains. Dashed: leading order in "
        "1/N. Solid: exact laws, where they are known."
    )
    room = shown_of(min(every, MOST_SERIES), every, "series of cells")
    return Panel("widths", "Priors at finite width", caption, _draw, data, room=room)


def _along(data: xr.Dataset) -> Abscissa:
    return Abscissa(WIDTH, path(data, WIDTH), alone=True)


def relative(last: xr.Dataset) -> xr.Dataset:
    """The variance of the kernel over its squared mean, and the kurtosis, with their errors."""
    mean, variance, kurtosis = (last.sel(kind=kind, drop=True) for kind in KINDS)
    square = mean["measured"] ** 2
    found = {
        "fluctuation": variance["measured"] / square,
        "fluctuation_error": variance["standard_error"] / square,
        "fluctuation_predicted": variance["predicted"] / mean["predicted"] ** 2,
        "kurtosis": kurtosis["measured"],
        "kurtosis_error": kurtosis["standard_error"],
        "kurtosis_predicted": kurtosis["predicted"],
    }
    return xr.Dataset(found, attrs=last.attrs)


def _draw(data: xr.Dataset) -> Figure:
    figure = style.figure(5.6)
    rows = figure.subplots(len(ROWS), 1, sharex=True)
    along = _along(data)
    for axes, (name, words) in zip(rows, ROWS.items(), strict=True):
        for number, line in enumerate(series(data, along, MOST_SERIES)):
            _series(axes, data, along, line, number, name)
        axes.set(yscale="log", xscale="log", ylabel=words)
        style.decades(axes)
        style.grid(axes)
    rows[-1].set_xlabel(along.words)
    style.ticks_at(rows[-1], data[along.name].values)
    style.legend(figure, rows[0])
    return figure


def _series(
    axes: Axes, data: xr.Dataset, along: Abscissa, line: Series, number: int, name: str
) -> None:
    one, colour = data.isel(cell=line.cells), COLOURS[number % len(COLOURS)]
    measured = one[name].where(one[name] > 0)
    axes.errorbar(
        one[along.name],
        measured,
        one[f"{name}_error"],
        fmt=style.marker(number),
        color=colour,
        label=line.label or "measured",
    )
    for theory in THEORIES:
        if theory not in one["theory"].values:
            continue
        expected = one[f"{name}_predicted"].sel(theory=theory)
        if bool(np.isfinite(expected).any()):
            dashes = style.theory_line(theory)
            axes.plot(one[along.name], expected, color=colour, ls=dashes, lw=1.2, zorder=1)  # pyright: ignore
            axes.plot([], [], color=style.INK, ls=dashes, lw=1.2, label=style.theory_title(theory))  # pyright: ignore
