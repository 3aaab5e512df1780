"""Random functions of two inputs: one network of each cell as a map, and the law of its output."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import by_cell, chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel

MOST_CELLS = 4
FEWEST_POINTS = 16
LEVELS, BINS, REACH = 17, 41, 4.0  # standard deviations of the output


def panel(tree: DataTree) -> Panel | None:
    """Above the first draw of the first chain, below the output at the first point in all draws."""
    cells = group(tree, "ensemble")
    if cells is None or "probe_input" not in cells or cells.sizes["input"] != 2:
        return None
    if cells.sizes["probe"] < FEWEST_POINTS or "target" in cells["output"].dims:
        return None
    data = sample(cells.isel(cell=chosen(cells, MOST_CELLS)))
    if not bool(data["density"].notnull().any()):
        return None
    caption = (
        "Above, one random network of each cell as a function of its two inputs. Below, the law of "
        "the output at one point over all networks sampled, in units of its standard deviation, "
        "beside a normal (dashed)."
    )
    room = shown_of(data.sizes["cell"], cells.sizes["cell"], "cells")
    return Panel("functions", "Random functions", caption, _draw, data, by_cell, room)


def sample(cells: xr.Dataset) -> xr.Dataset:
    """One function (cell, probe), and the density (cell, value) of outputs at the first point."""
    first = cells.isel(dataset=0)
    output = first["output"].stack(unit=("chain", "draw"), create_index=False).astype(float)
    at_point = output.isel(probe=0)
    at_point = at_point / (at_point**2).mean("unit") ** 0.5
    edges = np.linspace(-REACH, REACH, BINS + 1)
    rows = at_point.transpose("cell", "unit").values
    density = [np.histogram(row[np.isfinite(row)], edges)[0] for row in rows]
    count = np.isfinite(rows).sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = np.array(density) / count / (edges[1] - edges[0])
    return xr.Dataset(
        {
            "function": output.isel(unit=0) / (output**2).mean(("unit", "probe")) ** 0.5,
            "probe_input": first["probe_input"],
            "density": (("cell", "value"), density),
        },
        coords={"value": (edges[1:] + edges[:-1]) / 2},
        attrs=cells.attrs,
    )


def _draw(data: xr.Dataset) -> Figure:
    columns = data.sizes["cell"]
    figure = style.figure(4.0)
    grid = figure.subplots(2, columns, squeeze=False, height_ratios=[1, 0.9])
    levels = np.linspace(-2.5, 2.5, LEVELS)
    value = data["value"].values
    for cell in range(columns):
        one, (above, below) = data.isel(cell=cell), grid[:, cell]
        x, y = one["probe_input"].transpose("input", "probe").values
        shown = one["function"].values
        if np.isfinite(shown).all():
            above.tricontourf(x, y, shown, levels=levels, cmap="RdBu_r", extend="both")
        above.set(xticks=[], yticks=[], aspect="equal")
        style.title(above, label(data, cell) or "network", columns)
        below.stairs(
            one["density"].values, np.linspace(-REACH, REACH, BINS + 1), color=style.MEASURED
        )
        normal = np.exp(-(value**2) / 2) / np.sqrt(2 * np.pi)
        below.plot(value, normal, color=style.BLUE, ls=(0, (2, 1.5)), lw=1.1)
        below.set_xlabel("$f/\\sigma_f$")
        below.set_yticks([])
    grid[1, 0].set_ylabel("density")
    return figure
