"""How far pre-activations have left their prior: variance and kurtosis against the width."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import (
    Abscissa,
    Series,
    abscissa,
    group,
    series,
    shown_of,
    the_abscissa,
)
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.statistics import (
    chains,
    jackknife,
    kurtosis,
    mean_and_error,
    variance,
)
from pipelines.text.rounding import uncertain

MOST_SERIES = 3
TARGET = "target"
SEEN_ERRORS = 5  # standard errors that a variance must be away from the prior's
FEWEST_WIDTHS = 3  # widths through which a line is drawn
COLOURS = {
    "random": style.MUTED, "top": style.SKY, "target": style.YELLOW, "point": style.PURPLE,
}  # fmt: skip
NAMES = {
    "random": "random direction",
    "top": "top kernel mode",
    "target": "target direction",
    "point": "one point",
}


def panel(tree: DataTree) -> Panel | None:
    """Variance and excess kurtosis of z in the last hidden layer against the swept setting."""
    cells = group(tree, "ensemble")
    if cells is None or "moment" not in cells:
        return None
    along = abscissa(cells)
    data = shape(cells)
    if along is None or not bool(data["variance"].notnull().any()):
        return None
    data = _with_line(data, along)
    if "max_overlap" in cells:
        data = data.assign(_overlap(cells))
    every = len(series(data, along, data.sizes["cell"]))
    return Panel(
        "order",
        f"Pre-activations against the {along.short}",
        _caption(data),
        _draw,
        data,
        room=shown_of(min(every, MOST_SERIES), every, "series of cells"),
    )


def shape(cells: xr.Dataset) -> xr.Dataset:
    """Variance and excess kurtosis of z with jackknife errors, (cell, layer, direction)."""
    moment = chains(cells["moment"].sum("segment", min_count=1))
    moment = moment.where(moment.sel(order=0) > 0)
    found = {}
    for name, statistic, text in (
        ("variance", variance, "variance of z, 1 under the infinitely wide prior"),
        ("kurtosis", kurtosis, "excess kurtosis of z, 0 for a Gaussian"),
    ):
        value, error = jackknife(moment, statistic)
        found[name] = value.assign_attrs(long_name=text, units="1")
        found[f"{name}_error"] = error.assign_attrs(
            long_name=f"jackknife standard error of the {name} over chains", units="1"
        )
    return xr.Dataset(found, attrs=cells.attrs).drop_vars("order", errors="ignore")


def farthest(found: xr.Dataset) -> int | None:
    """The cell whose last layer has left its prior most along the target, by its `shape`.

    None where no variance is seen to differ from that of the prior.
    """
    if TARGET not in found["direction"].values:
        return None
    along = found.isel(layer=-1).sel(direction=TARGET)
    variance, error = along["variance"].values, along["variance_error"].values
    seen = (np.abs(variance - 1) > SEEN_ERRORS * error) & (variance > 0)
    if not seen.any():
        return None
    return int(np.argmax(np.abs(np.log(variance, where=seen, out=np.zeros_like(variance)))))


def _overlap(cells: xr.Dataset) -> dict[str, xr.DataArray]:
    """Mean over chains and draws of the largest overlap of a neuron with the teacher."""
    mean, error = mean_and_error(chains(cells["max_overlap"].mean("draw")), "unit")
    long_name = "largest |w·w*| over the first-layer neurons"
    return {
        "overlap": mean.assign_attrs(long_name=long_name, units="1"),
        "overlap_error": error.assign_attrs(long_name="standard error over chains", units="1"),
    }


def _with_line(data: xr.Dataset, along: Abscissa) -> xr.Dataset:
    """The slope c of variance = 1 + c/N by weighted least squares, where all cells share it."""
    seen = data[along.name].values[data["variance"].notnull().any(("layer", "direction")).values]
    if (
        not along.is_width
        or len(np.unique(seen)) < FEWEST_WIDTHS
        or len(series(data, along, 2)) > 1
    ):
        return data
    inverse = 1 / data[along.name]
    weight = (data["variance_error"] ** -2).where(np.isfinite(data["variance_error"]))
    information = (weight * inverse**2).sum("cell")
    slope = (weight * inverse * (data["variance"] - 1)).sum("cell") / information
    return data.assign(
        slope=slope.assign_attrs(long_name="c of variance = 1 + c/N", units="1"),
        slope_error=(information**-0.5).assign_attrs(long_name="standard error of c", units="1"),
    )


def _draw(data: xr.Dataset) -> Figure:
    along = the_abscissa(data)
    heights = [1.5, 1, 1] if "overlap" in data else [1.5, 1]
    figure = style.figure(0.2 + 2 * sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    last = data.isel(layer=-1)
    for number, line in enumerate(series(data, along, MOST_SERIES)):
        for axes, name in ((rows[0], "variance"), (rows[1], "kurtosis")):
            _points(axes, last, along, line, number, name)
        if "overlap" in data:
            one = last.isel(cell=line.cells)
            places = one[along.name]
            marker = style.marker(number)
            rows[2].errorbar(
                places, one["overlap"], one["overlap_error"], fmt=marker, color=style.MEASURED
            )
            rows[2].set_ylabel("max $|w\\cdot w_*|$")
    rows[0].axhline(1, color=style.INK, ls=(0, (2, 1.5)), lw=1.1, label="prior")
    rows[1].axhline(0, color=style.INK, ls=(0, (2, 1.5)), lw=1.1)
    if "slope" in data:
        _lines(rows[0], last, along)
    rows[0].set_ylabel("variance of $z$")
    rows[1].set_ylabel("excess kurtosis")
    rows[-1].set_xlabel(along.words)
    if along.logarithmic(data):
        rows[-1].set_xscale("log")
    style.ticks_at(rows[-1], data[along.name].values)
    for axes in rows:
        style.grid(axes)
    style.legend(figure, rows[0], most=2)
    figure.align_ylabels()
    return figure


def _points(
    axes: Axes, last: xr.Dataset, along: Abscissa, line: Series, number: int, name: str
) -> None:
    for place, direction in enumerate(last["direction"].values):
        one = last.sel(direction=direction).isel(cell=line.cells)
        axes.errorbar(
            along.beside(last, one, place, last.sizes["direction"]),
            one[name],
            one[f"{name}_error"],
            fmt=style.marker(number),
            color=COLOURS.get(str(direction), style.INK),
            label=_direction(one) if number == 0 else None,
        )
    if line.label:
        axes.plot([], [], style.marker(number), color=style.INK, label=line.label)


def _direction(one: xr.Dataset) -> str:
    name = str(one["direction"].item())
    title = NAMES.get(name, name)
    if "slope" not in one:
        return title
    return f"{title}, c = {uncertain(one['slope'].item(), one['slope_error'].item())}"


def _lines(axes: Axes, last: xr.Dataset, along: Abscissa) -> None:
    width = np.geomspace(last[along.name].min() / 1.2, last[along.name].max() * 1.2, 200)
    for direction in last["direction"].values:
        slope = last["slope"].sel(direction=direction).item()
        colour = COLOURS.get(str(direction), style.INK)
        axes.plot(width, 1 + slope / width, color=colour, lw=1.2, zorder=1)


def _caption(data: xr.Dataset) -> str:
    layer = int(data["layer"][-1])
    text = (
        f"Variance and excess kurtosis of the pre-activations of hidden layer {layer} along each "
        "direction, in units of the prior: 1 and 0 (dashed) for an infinitely wide network. Error "
        "bars are jackknife standard errors over chains."
    )
    if "slope" in data:
        text += " Lines: 1 + c/N, the leading order in the width, with c fitted, to guide the eye."
    return text
