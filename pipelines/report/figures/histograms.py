"""Histograms of the pre-activations along fixed directions, their prior and their theories."""

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of
from pipelines.report.figures.order import NAMES, farthest, shape
from pipelines.report.figures.panel import Panel
from pipelines.report.figures.statistics import chains, mean_and_error
from pipelines.text.rounding import plain, uncertain
from storage.arrays.coordinates import BIN_RANGE

MOST_CELLS = 5
MERGED_BINS = 3  # bins drawn as one
SEEN_DENSITY = 1e-4  # density up to which the axis of z reaches
FLOOR = 1e-5  # of the logarithmic axis
PRIOR = "nngp"
TOLD_ATTRIBUTES = {
    "long_name": "whether variance, kurtosis and predictions are of this cell",
    "units": "1",
}
HEIGHTS = [2.2, 1.4]  # of the linear axes and of the logarithmic ones, in inches
ROOM = 1.3  # above what is drawn, for the note
UNTOLD_SHARE = 1e-3  # share of the z in the end bins that is told of


def panel(tree: DataTree) -> Panel | None:
    """Densities of z by layer and direction, linear above logarithmic, a colour for each cell."""
    cells = group(tree, "ensemble")
    if cells is None or "histogram" not in cells:
        return None
    told = farthest(shape(cells))
    places = chosen(cells, MOST_CELLS, told)
    data = density(cells.isel(cell=places))
    predicted = _predicted(tree, places)
    if predicted is not None:
        data = data.assign(predicted.data_vars)
    data = data.assign(told=("cell", [int(place == told) for place in places], TOLD_ATTRIBUTES))
    data = data.isel(cell=data["density"].notnull().any(("layer", "direction", "bin")).values)
    if not bool((data["density"] > SEEN_DENSITY).any()):
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
    mean, error = mean_and_error(_merged(counts) / total.where(total > 0), "unit")
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


def _predicted(tree: DataTree, places: list[int]) -> xr.Dataset | None:
    """Density and share beyond the bins of every theory but the NNGP, which keeps the prior."""
    node = tree.get("theory")
    rows: dict[str, xr.DataArray] = {}
    for name in node.children if node is not None else ():
        found = group(tree, f"theory/{name}")
        if name == PRIOR or found is None or "density" not in found:
            continue
        share = found["density"].isel(cell=places).mean("dataset")
        if bool(share.notnull().any()):
            rows[name] = share.drop_vars(set(share.coords) - {"layer", "direction", "bin"})
    if not rows:
        return None
    every = xr.concat(rows.values(), xr.DataArray(list(rows), dims="theory", name="theory"))
    described = {
        "predicted": (_merged(every), "density of the pre-activation z as theories predict it"),
        "predicted_beyond": (_outermost(every), "share of the z that they put beyond the bins"),
    }
    return xr.Dataset(
        {
            name: values.assign_attrs(long_name=text, units="1")
            for name, (values, text) in described.items()
        }
    )


def _merged(counts: xr.DataArray) -> xr.DataArray:
    """What is in the inner bins over their width, a few of them as one."""
    inner: xr.DataArray = counts.isel(bin=slice(1, -1)).coarsen(bin=MERGED_BINS).reduce(np.sum)  # pyright: ignore
    return inner / float(inner["bin"][1] - inner["bin"][0])


def _beyond(counts: xr.DataArray) -> xr.DataArray:
    total = counts.sum(("unit", "bin"))
    return _outermost(counts).sum("unit") / total.where(total > 0)


def _outermost(shares: xr.DataArray) -> xr.DataArray:
    """What is in the two bins that are open to infinity."""
    return shares.isel(bin=[0, -1]).sum("bin", skipna=False)


def _draw(data: xr.Dataset) -> Figure:
    layers, directions = data.sizes["layer"], data.sizes["direction"]
    figure = style.figure(0.7 + sum(HEIGHTS) * layers)
    grid = figure.subplots(
        2 * layers,
        directions,
        sharex=True,
        sharey="row",
        squeeze=False,
        height_ratios=HEIGHTS * layers,
    )
    colours = style.sequence(data.sizes["cell"])
    for layer in range(layers):
        for direction in range(directions):
            place = data.isel(layer=layer, direction=direction)
            linear, logarithmic = grid[2 * layer : 2 * layer + 2, direction]
            for axes in (linear, logarithmic):
                _curves(axes, place, colours)
            linear.set_ylim(0, ROOM * _highest(data.isel(layer=layer)))
            _note(linear, place.isel(cell=_told(data)), colours[_told(data)])
            logarithmic.set_yscale("log")
            logarithmic.set_ylim(FLOOR, 1.5)
            name = str(place["direction"].item())
            linear.set_title(NAMES.get(name, name))
        for axes in grid[2 * layer : 2 * layer + 2, 0]:
            layer_name = f", layer {int(data['layer'][layer])}" if layers > 1 else ""
            axes.set_ylabel(f"density{layer_name}")
    seen = _reach(data)
    for axes in grid[-1]:
        axes.set_xlabel("$z$")
        axes.set_xlim(-seen, seen)
        axes.set_xticks([-4, 0, 4] if seen > 4 else [-2, 0, 2])
    style.legend(figure, grid[0, 0], "outside lower center")
    return figure


def _told(data: xr.Dataset) -> int:
    """The cell of which the sentences speak, or else the first."""
    return int(np.argmax(data["told"].values))


def _highest(data: xr.Dataset) -> float:
    """The top of what is drawn on linear axes, the prior's among it."""
    predicted = data["predicted"].isel(cell=_told(data)) if "predicted" in data else data["density"]
    return float(np.nanmax([1 / np.sqrt(2 * np.pi), data["density"].max(), predicted.max()]))


def _reach(data: xr.Dataset) -> float:
    """How far from zero anything is seen that was measured or is predicted."""
    seen = (data["density"] > SEEN_DENSITY).any(("cell", "layer", "direction"))
    if "predicted" in data:
        one = data["predicted"].isel(cell=_told(data))
        seen |= (one > SEEN_DENSITY).any(("theory", "layer", "direction"))
    return float(np.abs(data["bin"].values[seen]).max())


def _curves(axes: Axes, place: xr.Dataset, colours: list[str]) -> None:
    z = place["bin"].values
    normal = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    for cell, colour in enumerate(colours):
        one = place.isel(cell=cell)
        mean, error = one["density"].values, np.nan_to_num(one["density_error"].values)
        seen = np.where(mean > 0, mean, np.nan)
        axes.plot(
            z,
            seen,
            color=colour,
            drawstyle="steps-mid",
            label=label(place, cell) or "measured",
            lw=1.2,
        )
        low = np.maximum(mean - error, FLOOR / 10)
        axes.fill_between(z, low, mean + error, color=colour, alpha=0.25, step="mid", lw=0)
    for theory in place["theory"].values if "predicted" in place else ():
        axes.plot(
            z,
            place["predicted"].sel(theory=theory).isel(cell=_told(place)),
            color=style.theory_colour(str(theory)),
            linestyle=style.theory_line(str(theory)),
            label=style.theory_title(str(theory)),
            lw=1.2,
        )
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
    name = label(data, _told(data))
    where = f" at {name}" if name else ""
    lines = f" Other lines: what theories predict{where}." if "predicted" in data else ""
    return (
        "Each neuron's pre-activation projected on a unit vector over the probe points, in units "
        "of its prior standard deviation: z is a standard normal (dashed) for an infinitely wide "
        "network before it learns. Above linear, below logarithmic; bands are one standard error "
        f"over chains. var and kurt are the variance and the excess kurtosis of z{where}.{lines}"
        f"{_out_of_sight(data)}"
    )


def _out_of_sight(data: xr.Dataset) -> str:
    """What lies in the end bins, where it is more than what cannot be seen anyway."""
    said = _end_bins(data["beyond"], "the z")
    if "predicted_beyond" not in data:
        return said
    for one in data["predicted_beyond"].isel(cell=_told(data)).transpose("theory", ...):
        said += _end_bins(one, f"the z that {style.theory_title(str(one['theory'].item()))} has")
    return said


def _end_bins(share: xr.DataArray, what: str) -> str:
    if not share.max() > UNTOLD_SHARE:
        return ""
    most = share.isel(share.argmax(...))  # pyright: ignore[reportArgumentType]
    direction = str(most["direction"].item())
    return (
        f" Up to {plain(100 * float(most), 2)} % of {what} are beyond ±{BIN_RANGE:g}, which is not "
        f"drawn ({NAMES.get(direction, direction)} of layer {int(most['layer'])})."
    )
