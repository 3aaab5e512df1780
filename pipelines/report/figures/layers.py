"""Kernels at two points through the layers of a network, measured and predicted."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import by_cell, chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel
from storage.campaign.observables import layers_of, name_of

MOST_CELLS = 3
MOST_PAIRS = 6  # of points, one in each dataset
FEWEST_LAYERS = 3  # layers
ROWS = {"kernel_mean": "mean kernel", "correlation": "correlation"}
THEORY = "nngp"


def panel(tree: DataTree) -> Panel | None:
    """Mean kernel and correlation against the layer, a colour for each pair of points."""
    fits = group(tree, "fits")
    if fits is None or f"correlation {FEWEST_LAYERS}" not in fits["observable"].values:
        return None
    data = by_layer(fits, [*ROWS]).isel(cell=chosen(fits, MOST_CELLS))
    if not bool(data["measured"].notnull().any()):
        return None
    data = data.isel(dataset=slice(MOST_PAIRS))
    caption = (
        "Kernel σ²·φφ'/N of each hidden layer of random networks, averaged over networks: above at "
        "one point, below the correlation of two; each colour is a pair of points. Error bars are "
        "standard errors over chains. Lines: the network of infinite width."
    )
    room = shown_of(data.sizes["cell"], fits.sizes["cell"], "cells")
    room += shown_of(data.sizes["dataset"], fits.sizes["dataset"], "pairs of points")
    return Panel("layers", "Correlations through the layers", caption, _draw, data, by_cell, room)


def by_layer(fits: xr.Dataset, kinds: list[str]) -> xr.Dataset:
    """Observables `kind layer` as (kind, layer): measured, error, and predicted by each theory."""
    names = [str(name) for name in fits["observable"].values]
    layers = layers_of(kinds[0], names)
    found = xr.concat(
        [
            fits[["measured", "standard_error", "predicted"]]
            .sel(observable=[name_of(kind, layer) for layer in layers])
            .drop_vars("observable")
            .rename(observable="layer")
            .assign_coords(layer=layers)
            for kind in kinds
        ],
        xr.Variable("kind", kinds),
        coords="minimal",
        compat="override",
    )
    return found.assign_attrs(fits.attrs)


def _draw(data: xr.Dataset) -> Figure:
    figure = style.figure(5.2)
    columns = data.sizes["cell"]
    grid = figure.subplots(len(ROWS), columns, sharex=True, sharey="row", squeeze=False)
    for cell in range(columns):
        one = data.isel(cell=cell)
        style.title(grid[0, cell], label(data, cell) or "random networks", columns)
        for row, kind in enumerate(ROWS):
            _pairs(grid[row, cell], one.sel(kind=kind))
        grid[-1, cell].set_xlabel("hidden layer")
    for row, name in enumerate(ROWS.values()):
        grid[row, 0].set_ylabel(name)
    style.legend(figure, grid[0, 0], "outside lower center")
    return figure


def _pairs(axes: Axes, one: xr.Dataset) -> None:
    colours = style.sequence(one.sizes["dataset"])
    for dataset, colour in enumerate(colours):
        pair = one.isel(dataset=dataset)
        axes.errorbar(
            one["layer"],
            pair["measured"],
            pair["standard_error"],
            fmt="o",
            ms=4,
            color=colour,
            label="measured" if dataset == 0 else None,
        )
        if THEORY in pair["theory"].values:
            expected = pair["predicted"].sel(theory=THEORY)
            text = "infinite width" if dataset == 0 else None
            axes.plot(one["layer"], expected, color=colour, lw=1.2, label=text)
    positive = one["measured"].values[np.isfinite(one["measured"].values)]
    if one["kind"] == "kernel_mean" and len(positive) and positive.min() > 0:
        axes.set_yscale("log")
        style.decades(axes)
    style.grid(axes)
