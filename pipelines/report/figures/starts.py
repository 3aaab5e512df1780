"""Chains that began at the prior beside chains that began at the teacher: hysteresis."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import abscissa, group, series, shown_of, the_abscissa
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.statistics import chains, mean_and_error

MOST_SERIES = 3
ROOM = 15  # characters of a label along the height of a scalar
COLOURS = {"prior": style.BLUE, "teacher": style.ORANGE}


def panel(tree: DataTree) -> Panel | None:
    """Learnabilities and the largest overlap by where chains began, against the swept setting."""
    cells = group(tree, "ensemble")
    if cells is None or "start" not in cells.coords:
        return None
    along = abscissa(cells)
    if along is None:
        return None
    data = by_start(cells)
    if not bool(data.to_dataarray().notnull().any()):
        return None
    caption = (
        "Means over the draws of chains that began at the prior and of chains in which every "
        "first-layer neuron began at w·w* = ±1, with standard errors over chains and datasets. "
        "Where they differ the ensemble has not converged: neurons do not cross the barrier "
        "between the two states in the time of a chain."
    )
    every = len(series(data, along, data.sizes["cell"]))
    room = shown_of(min(every, MOST_SERIES), every, "series of cells")
    return Panel("starts", f"Starts against the {along.short}", caption, _draw, data, _facets, room)


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return {name: data[[name, f"{name} error"]] for name in _scalars(data)}


def _scalars(data: xr.Dataset) -> list[str]:
    return [str(name) for name in data.data_vars if not str(name).endswith(" error")]


def by_start(cells: xr.Dataset) -> xr.Dataset:
    """Scalars of the chains of each start, with errors, (cell, start)."""
    scalars = {
        f"learnability {part}": cells["learnability"].sel(component=part, drop=True)
        for part in cells["component"].values
    }
    scalars["largest |w·w*|"] = cells["max_overlap"]
    found: dict[str, xr.DataArray] = {}
    names = list(COLOURS)
    for name, values in scalars.items():
        parts = [
            mean_and_error(chains(values.mean("draw").where(cells["start"] == start)), "unit")
            for start in names
        ]
        for suffix, place in (("", 0), (" error", 1)):
            whole = xr.concat([part[place] for part in parts], xr.DataArray(names, dims="start"))
            found[f"{name}{suffix}"] = whole.assign_coords(start=names).assign_attrs(
                long_name=f"{name}{suffix}", units="1"
            )
    return xr.Dataset(found, attrs=cells.attrs)


def _draw(data: xr.Dataset) -> Figure:
    along = the_abscissa(data)
    names = _scalars(data)
    figure = style.figure(1.1 + 1.8 * len(names))
    rows = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(rows, names, strict=True):
        for number, line in enumerate(series(data, along, MOST_SERIES)):
            for place, (start, colour) in enumerate(COLOURS.items()):
                one = data.sel(start=start).isel(cell=line.cells)
                axes.errorbar(
                    along.beside(data, one, place, len(COLOURS)),
                    one[name],
                    one[f"{name} error"],
                    fmt=style.marker(number),
                    color=colour,
                    label=", ".join(filter(None, [f"from the {start}", line.label])),
                )
        axes.set_ylabel(style.wrapped(name, ROOM, 2))
        style.grid(axes)
    if along.logarithmic(data):
        rows[-1].set_xscale("log")
    rows[-1].set_xlabel(along.words)
    style.ticks_at(rows[-1], np.asarray(data[along.name].values))
    style.legend(figure, rows[0])
    figure.align_ylabels()
    return figure
