"""Histograms of the pre-activations along fixed directions, against their Gaussian prior."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of
from pipelines.report.figures.order import NAMES, shape
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.statistics import chains, mean_and_error
from pipelines.text.rounding import plain, uncertain

MOST_CELLS = 5
MERGED = 3  # bins drawn as one
SEEN = 1e-4  # density up to which the axis of z reaches
FLOOR = 1e-5  # of the logarithmic axis
LEFT_OUT = 1e-3  # share of the z beyond the axis that is told of


def panel(tree: DataTree) -> Panel | None:
    """Densities of z by layer and direction, linear above logarithmic, a colour for each cell."""
    cells = group(tree, "ensemble")
    if cells is None or "histogram" not in cells:
        return None
    data = density(cells.isel(cell=chosen(cells, MOST_CELLS)))
    data = data.isel(cell=data["density"].notnull().any(("layer", "direction", "bin")).values)
    if not bool((data["density"] > SEEN).any()):
        return None  # nothing is there, or all of it beyond the axis
    layers = data.sizes["layer"]
    data = data.isel(layer=sorted({0, layers - 1}))
    room = shown_of(data.sizes["cell"], cells.sizes["cell"], "cells")
    room += shown_of(data.sizes["layer"], layers, "layers")
    title = "Pre-activations along fixed directions"
    return Panel("histograms", title, _caption(data), _draw, data, _facets, room)


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    """Each direction of each layer."""
    found = {}
    for place, layer in enumerate(data["layer"].values):
        for direction in data["direction"].values:
            name = NAMES.get(str(direction), str(direction))
            words = f"{name}, layer {layer}" if data.sizes["layer"] > 1 else name
            found[words] = data.isel(layer=[place]).sel(direction=[direction])
    return found


def density(cells: xr.Dataset) -> xr.Dataset:
    """Densities of z with standard errors over chains; variance and kurtosis by the jackknife."""
    counts = chains(cells["histogram"].fillna(0).sum("segment").astype(float))
    total = counts.sum("bin")
    inner: xr.DataArray = counts.isel(bin=slice(1, -1)).coarsen(bin=MERGED).sum()  # pyright: ignore
    bin_width = float(inner["bin"][1] - inner["bin"][0])
    mean, error = mean_and_error(inner / bin_width / total.where(total > 0), "unit")
    described = {
        "density": (mean, "density of the pre-activation z"),
        "density_error": (error, "standard error of the density over chains"),
        "beyond": (_beyond(counts), "share of the z in the outermost bins, which have no density"),
    }
    arrays = {
        name: values.assign_attrs(long_name=text, units="1")
        for name, (values, text) in described.items()
    }
    return shape(cells).assign(arrays)


def _beyond(counts: xr.DataArray) -> xr.DataArray:
    total = counts.sum(("unit", "bin"))
    return counts.isel(bin=[0, -1]).sum(("unit", "bin")) / total.where(total > 0)


def _draw(data: xr.Dataset) -> Figure:
    layers, directions = data.sizes["layer"], data.sizes["direction"]
    figure = style.figure(0.7 + 3.6 * layers)
    grid = figure.subplots(2 * layers, directions, sharex=True, sharey="row", squeeze=False)
    colours = style.sequence(data.sizes["cell"])
    for layer in range(layers):
        for direction in range(directions):
            place = data.isel(layer=layer, direction=direction)
            linear, logarithmic = grid[2 * layer : 2 * layer + 2, direction]
            for axes in (linear, logarithmic):
                _curves(axes, place, colours)
            highest = float(data["density"].isel(layer=layer).max())
            linear.set_ylim(0, 1.45 * highest if highest > 0 else 1.0)
            _note(linear, place.isel(cell=0), colours[0])
            logarithmic.set_yscale("log")
            logarithmic.set_ylim(FLOOR, 1.5)
            name = str(place["direction"].item())
            linear.set_title(NAMES.get(name, name))
        for axes in grid[2 * layer : 2 * layer + 2, 0]:
            layer_name = f", layer {int(data['layer'][layer])}" if layers > 1 else ""
            axes.set_ylabel(f"density{layer_name}")
    seen = np.abs(data["bin"].values[(data["density"] > SEEN).any(("cell", "layer", "direction"))])
    for axes in grid[-1]:
        axes.set_xlabel("$z$")
        axes.set_xlim(-seen.max(), seen.max())
        axes.set_xticks([-4, 0, 4] if seen.max() > 4 else [-2, 0, 2])
    style.legend(figure, grid[0, 0], "outside lower center")
    return figure


def _curves(axes: Axes, place: xr.Dataset, colours: list[str]) -> None:
    z = place["bin"].values
    normal = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    for cell, colour in enumerate(colours):
        one = place.isel(cell=cell)
        mean, error = one["density"].values, np.nan_to_num(one["density_error"].values)
        seen = np.where(mean > 0, mean, np.nan)
        axes.plot(z, seen, color=colour, drawstyle="steps-mid", label=label(place, cell), lw=1.2)
        low = np.maximum(mean - error, FLOOR / 10)
        axes.fill_between(z, low, mean + error, color=colour, alpha=0.25, step="mid", lw=0)
    axes.plot(z, normal, color=style.INK, ls=(0, (2, 1.5)), lw=1.1, label="prior, N(0, 1)")
    style.grid(axes)


def _note(axes: Axes, one: xr.Dataset, colour: str) -> None:
    lines = [
        f"{letter} {uncertain(one[name].item(), one[f'{name}_error'].item())}"
        for letter, name in (("var", "variance"), ("kurt", "kurtosis"))
    ]
    axes.text(
        0.03, 0.98, "\n".join(lines), transform=axes.transAxes, va="top", color=colour, size="small"
    )


def _caption(data: xr.Dataset) -> str:
    narrow = label(data, 0)
    whose = f" of the first curve ({narrow})" if narrow else ""
    return (
        "Each neuron's pre-activation projected on a unit vector over the probe points, in units "
        "of its prior standard deviation: z is a standard normal (dashed) for an infinitely wide "
        "network before it learns. Above linear, below logarithmic; bands are one standard error "
        f"over chains. var and kurt are the variance and the excess kurtosis of z{whose}."
        f"{_out_of_sight(data)}"
    )


def _out_of_sight(data: xr.Dataset) -> str:
    """What the axis of z leaves out, where it is more than what cannot be seen anyway."""
    most = data["beyond"].max()
    if not most > LEFT_OUT:
        return ""
    place = data.isel(data["beyond"].argmax(...))  # pyright: ignore[reportArgumentType]
    return (
        f" Up to {plain(100 * float(most), 2)} % of the z are beyond the axis "
        f"({NAMES.get(str(place['direction'].item()), '')} of layer {int(place['layer'])})."
    )
