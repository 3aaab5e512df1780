"""The law of the overlaps w·w* of first-layer neurons with the teacher, against its theories."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import by_cell, chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.statistics import chains, mean_and_error

MOST_CELLS = 3
FLOOR = 1e-5  # of the logarithmic axis
SEEN_DENSITY = 3e-5  # density up to which the axis of q reaches


def panel(tree: DataTree) -> Panel | None:
    """Densities of q by cell, logarithmic, and below them measured minus predicted."""
    cells = group(tree, "ensemble")
    if cells is None or "overlap_histogram" not in cells:
        return None
    places = np.array(chosen(cells, MOST_CELLS))
    data = density(cells.isel(cell=places))
    there = data["density"].notnull().any("overlap_bin").values
    data, places = data.isel(cell=there), places[there]
    if not bool((data["density"] > SEEN_DENSITY).any()):
        return None
    theories = _predicted(tree, places)
    if theories is not None:
        data = data.assign(predicted=theories)
    room = shown_of(data.sizes["cell"], cells.sizes["cell"], "cells")
    title = "Overlaps of neurons with the teacher"
    return Panel("overlaps", title, _caption(data), _draw, data, by_cell, room)


def density(cells: xr.Dataset) -> xr.Dataset:
    """Density of q in prior deviations, (cell, overlap bin), with standard errors over datasets.

    Of one dataset the errors are over its chains.
    """
    counts = cells["overlap_histogram"].fillna(0).sum(("segment", "readout_bin")).astype(float)
    units = (
        counts.sum("chain").rename(dataset="unit") if cells.sizes["dataset"] > 1 else chains(counts)
    )
    total = units.sum("overlap_bin")
    width = float(cells["overlap_bin"][1] - cells["overlap_bin"][0])
    mean, error = mean_and_error(units / width / total.where(total > 0), "unit")
    text = "density of q = w·w* in prior deviations of a weight"
    found = {
        "density": mean.assign_attrs(long_name=text, units="1"),
        "density_error": error.assign_attrs(long_name=f"standard error of the {text}", units="1"),
    }
    return xr.Dataset(found, attrs=cells.attrs)


def _predicted(tree: DataTree, places: np.ndarray) -> xr.DataArray | None:
    """The same of every theory that knows it, at these cells, (theory, cell, overlap bin)."""
    node = tree.get("theory")
    rows: dict[str, xr.DataArray] = {}
    for name in node.children if node is not None else ():
        found = group(tree, f"theory/{name}")
        if found is not None and "overlap_density" in found:
            share = found["overlap_density"].isel(cell=places).sum("readout_bin")
            rows[name] = share / float(share["overlap_bin"][1] - share["overlap_bin"][0])
    if not rows:
        return None
    names = xr.DataArray(list(rows), dims="theory", name="theory")
    return xr.concat(
        [row.drop_vars(set(row.coords) - {"overlap_bin"}) for row in rows.values()], names
    )


def _draw(data: xr.Dataset) -> Figure:
    count = data.sizes["cell"]
    compared = "predicted" in data
    heights = [2, 1] if compared else [2]
    figure = style.figure(0.9 + 1.3 * sum(heights))
    grid = figure.subplots(
        len(heights), count, sharex=True, sharey="row", height_ratios=heights, squeeze=False
    )
    for place in range(count):
        one = data.isel(cell=place)
        _densities(grid[0, place], one)
        style.title(grid[0, place], label(data, place), count)
        if compared:
            _residuals(grid[1, place], one)
    seen = _reach(data)
    for axes in grid[-1]:
        axes.set_xlabel("$q$ in prior deviations")
        axes.set_xlim(-seen, seen)
    grid[0, 0].set_yscale("log")
    grid[0, 0].set_ylim(FLOOR, 1.5 * _highest(data))
    grid[0, 0].set_ylabel("density")
    if compared:
        grid[1, 0].set_ylabel("residual")
    style.legend(figure, grid[0, 0])
    return figure


def _drawn(data: xr.Dataset) -> list[xr.DataArray]:
    """What was measured and what is predicted."""
    return [data[name] for name in ("density", "predicted") if name in data]


def _reach(data: xr.Dataset) -> float:
    """How far from zero anything is seen: a lobe that theory alone has is on the axis, too."""
    seen = [np.abs(each["overlap_bin"].where(each > SEEN_DENSITY)).max() for each in _drawn(data)]
    return float(np.nanmax(seen))


def _highest(data: xr.Dataset) -> float:
    """The top of what is drawn, the prior's among it."""
    return float(np.nanmax([1 / np.sqrt(2 * np.pi), *(each.max() for each in _drawn(data))]))


def _densities(axes: Axes, one: xr.Dataset) -> None:
    q = one["overlap_bin"].values
    mean, error = one["density"].values, np.nan_to_num(one["density_error"].values)
    axes.fill_between(
        q, np.maximum(mean - error, FLOOR / 10), mean + error, color=style.MUTED, alpha=0.35,
        step="mid", lw=0,
    )  # fmt: skip
    seen = np.where(mean > 0, mean, np.nan)
    axes.plot(q, seen, color=style.MEASURED, drawstyle="steps-mid", lw=1.2, label="measured")
    for name in one["theory"].values if "predicted" in one else ():
        axes.plot(
            q,
            one["predicted"].sel(theory=name),
            color=style.theory_colour(str(name)),
            linestyle=style.theory_line(str(name)),
            label=style.theory_title(str(name)),
        )
    normal = np.exp(-(q**2) / 2) / np.sqrt(2 * np.pi)
    axes.plot(q, normal, color=style.INK, ls=(0, (1, 2)), lw=1, label="prior, N(0, 1)")
    style.grid(axes)


def _residuals(axes: Axes, one: xr.Dataset) -> None:
    q, error = one["overlap_bin"].values, one["density_error"].values
    axes.fill_between(q, -error, error, color=style.MUTED, alpha=0.35, step="mid", lw=0)
    for name in one["theory"].values:
        axes.plot(
            q,
            one["density"] - one["predicted"].sel(theory=name),
            color=style.theory_colour(str(name)),
            linestyle=style.theory_line(str(name)),
            lw=1.2,
        )
    style.grid(axes)


def _caption(data: xr.Dataset) -> str:
    text = (
        "Overlaps q = w·w* of all first-layer neurons and draws, in prior standard deviations of a "
        "weight: N(0, 1) before learning (dotted). The band is one standard error"
    )
    if "predicted" in data:
        text += "; below, measured minus predicted, in the same units, with that error around zero"
    return f"{text}."
