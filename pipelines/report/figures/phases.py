"""A map over weight and bias variance, with the line between order and chaos on top."""

from collections.abc import Callable

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import group, label, spread, swept
from pipelines.report.figures.panel import Panel
from storage.campaign.network_spec import ACTIVATIONS
from storage.campaign.observables import layers_of, name_of
from theory.signal import critical_bias, fixed_point

WEIGHT, BIAS = "network_weight_variance", "network_bias_variance"
MOST_PANELS = 3
FEWEST_VALUES = 3  # values along each axis
ALONG_LINE, GRID = 200, 90  # places at which the theory is evaluated
DEPTHS = (3, 10, 30)  # layers, of the contours of ξ_c
ACCURACIES = ("test_accuracy", "pool_accuracy")


def panel(tree: DataTree) -> Panel | None:
    """Accuracy of a regression, or else the correlation in the last layer of random networks."""
    for measured in (_accuracy(tree), _correlation(tree)):
        if measured is None or not _is_map(measured):
            continue
        data = measured.isel(cell=_shown(measured)).assign(_criticality(measured))
        name = str(data.attrs["shown"])
        caption = (
            f"{name[0].upper()}{name[1:]} at each weight and bias variance. Line: order on the "
            "left of it, chaos on the right, in networks of infinite width and depth. Contours: "
            f"depth scale ξ_c of correlations, {', '.join(map(str, DEPTHS))} layers, on both sides."
        )
        return Panel(
            "phases", f"{name[0].upper()}{name[1:]} by phase", caption, _draw, data, _facets
        )
    return None


def _facets(data: xr.Dataset) -> dict[str, xr.Dataset]:
    return {name: data.isel(cell=places) for name, places in _panels(data).items()}


def _accuracy(tree: DataTree) -> xr.Dataset | None:
    """Mean over repeats at the largest size and the smallest ridge."""
    cells = group(tree, "regression")
    name = next((name for name in ACCURACIES if cells is not None and name in cells), None)
    if cells is None or name is None:
        return None
    value = cells[name].isel(train=-1, ridge=int(np.argmin(cells["ridge"].values))).mean("repeat")
    points = int(cells["train"][-1])
    where = "held-out" if name == "test_accuracy" else "pool"
    shown = f"{where} accuracy of regression on {points} points"
    return xr.Dataset({"value": value}, attrs=cells.attrs | {"shown": shown})


def _correlation(tree: DataTree) -> xr.Dataset | None:
    """Mean over datasets of the correlation in the deepest layer of each cell."""
    fits = group(tree, "fits")
    if fits is None or name_of("correlation", 1) not in fits["observable"].values:
        return None
    names = [str(name) for name in fits["observable"].values]
    last = layers_of("correlation", names)[-1]
    deepest = fits["measured"].sel(observable=name_of("correlation", last), drop=True)
    value = deepest.mean("dataset")
    shown = f"correlation in hidden layer {last} of random networks"
    return xr.Dataset({"value": value}, attrs=fits.attrs | {"shown": shown})


def _is_map(cells: xr.Dataset) -> bool:
    """Whether weight and bias variance are numbers that the sweep crosses."""
    if not {WEIGHT, BIAS} <= set(swept(cells)):
        return False
    numbers = all(np.issubdtype(cells[name].dtype, np.number) for name in (WEIGHT, BIAS))
    return numbers and all(len(np.unique(cells[name])) >= FEWEST_VALUES for name in (WEIGHT, BIAS))


def _panels(cells: xr.Dataset) -> dict[str, list[int]]:
    """Cells that differ in the two variances alone, by what they share."""
    found: dict[str, list[int]] = {}
    for cell in range(cells.sizes["cell"]):
        found.setdefault(label(cells, cell, (WEIGHT, BIAS)), []).append(cell)
    return found


def _shown(cells: xr.Dataset) -> list[int]:
    every = list(_panels(cells).values())
    return [cell for place in spread(len(every), MOST_PANELS) for cell in every[place]]


def _criticality(cells: xr.Dataset) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """The critical line and ξ_c of each activation that theory knows."""
    names = np.unique(cells["activation"].values.astype(str)).tolist()
    (left, right), (low, high) = (
        (float(cells[name].min()), float(cells[name].max())) for name in (WEIGHT, BIAS)
    )
    weight, coarse = np.linspace(left, right, ALONG_LINE), np.linspace(left, right, GRID)
    bias = np.linspace(low, high, GRID)
    w, b = torch.from_numpy(coarse)[None, :], torch.from_numpy(bias)[:, None]

    def depths(name: str) -> np.ndarray:
        return fixed_point(name, weight_variance=w, bias_variance=b).depth_correlation.numpy()

    def line(name: str) -> np.ndarray:
        return critical_bias(name, torch.from_numpy(weight)).numpy()

    def of(function: Callable[[str], np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
        none = np.full(shape, np.nan)
        return np.stack([function(name) if name in ACTIVATIONS else none for name in names])

    return {
        "activation_name": (("phi",), np.array(names)),
        "line_weight": (("place",), weight),
        "line_bias": (("phi", "place"), of(line, weight.shape)),
        "grid_weight": (("column",), coarse),
        "grid_bias": (("row",), bias),
        "depth_correlation": (("phi", "row", "column"), of(depths, (GRID, GRID))),
    }


def _draw(data: xr.Dataset) -> Figure:
    panels = _panels(data)
    columns = len(panels)
    figure = style.figure(3.2 if columns > 1 else 4.4)
    grid = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
    known = data["value"].values[np.isfinite(data["value"].values)]
    low, high = (known.min(), known.max()) if len(known) else (0.0, 1.0)
    image = None
    for axes, (name, places) in zip(grid, panels.items(), strict=True):
        one = data.isel(cell=places)
        x, y = np.unique(one[WEIGHT].values), np.unique(one[BIAS].values)
        value = np.full((len(y), len(x)), np.nan)
        rows, places = np.searchsorted(y, one[BIAS]), np.searchsorted(x, one[WEIGHT])
        value[rows, places] = one["value"].values
        image = axes.pcolormesh(
            x, y, value, vmin=low, vmax=high, cmap="viridis", shading="nearest", rasterized=True
        )
        phi = str(one["activation"].values[0])
        _lines(axes, data.isel(phi=int(np.argmax(data["activation_name"].values == phi))))
        axes.set_xlabel("weight variance $\\sigma_w^2$")
        if name:
            style.title(axes, name, columns)
    grid[0].set_ylabel("bias variance $\\sigma_b^2$")
    if image is not None:
        figure.colorbar(image, ax=list(grid), shrink=0.9)
    return figure


def _lines(axes: Axes, one: xr.Dataset) -> None:
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    depth = np.ma.masked_invalid(one["depth_correlation"].values)
    if depth.count():
        lines = axes.contour(
            one["grid_weight"], one["grid_bias"], depth, DEPTHS, colors="white", linewidths=0.8
        )
        axes.clabel(lines, fontsize="small")
    axes.plot(one["line_weight"], one["line_bias"], color=style.ORANGE, lw=2)
    axes.set(xlim=(left, right), ylim=(low, high))
