"""The evidence of the data by thermodynamic integration, beside that of the theories."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import group, label, shown_of
from pipelines.report.figures.panel import Panel
from pipelines.report.words import named

MOST_SERIES = 3
PATH = "sampler.temperature"


def panel(tree: DataTree) -> Panel | None:
    """Γ against the temperature, and what the theories miss of it, in nats."""
    found = group(tree, "free_energy")
    if found is None or not bool(found["evidence"].notnull().any()):
        return None
    data = found.isel(cell=slice(MOST_SERIES))
    caption = (
        "Γ, minus the log evidence of the training targets, less its value at the highest "
        "temperature: the mean loss of the ensemble integrated over 1/T. Every symbol is a dataset "
        "with the standard error over its chains; bars below hold what another rule of integration "
        "would give, too. Below, measured minus predicted on the same data."
    )
    room = shown_of(data.sizes["cell"], found.sizes["cell"], "points of the other axes")
    return Panel("evidence", "Evidence of the data", caption, _draw, data, room=room)


def _draw(data: xr.Dataset) -> Figure:
    theories = [str(name) for name in data["theory"].values]
    heights = [2, 1.1] if theories else [2]
    figure = style.figure(0.8 + 1.2 * sum(heights))
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    temperature = data["sampler_temperature"].values
    for cell in range(data.sizes["cell"]):
        for dataset in range(data.sizes["dataset"]):
            one = data.isel(cell=cell, dataset=dataset)
            first = dataset == 0
            name = ", ".join(filter(None, ["measured", label(data, cell)])) if first else None
            look = {"fmt": style.marker(cell), "color": style.MEASURED, "markersize": 4}
            rows[0].errorbar(
                temperature, one["evidence"], one["evidence_error"], label=name, **look
            )
            for theory in theories:
                predicted = one["evidence_predicted"].sel(theory=theory)
                colour = style.theory_colour(theory)
                title = style.theory_title(theory) if first and not cell else None
                dashes = style.theory_line(theory)
                rows[0].plot(temperature, predicted, color=colour, ls=dashes, lw=1, label=title)
                rows[1].errorbar(
                    temperature,
                    one["evidence"] - predicted,
                    np.hypot(one["evidence_error"], one["quadrature_error"]),
                    fmt=style.marker(cell),
                    color=colour,
                    markersize=4,
                )
    for axes in rows:
        style.grid(axes)
    rows[0].set_ylabel("Γ (nats)")
    if theories:
        rows[1].axhline(0, color=style.INK, lw=0.8, zorder=1)
        rows[1].set_ylabel("residual")
    rows[-1].set_xscale("log")
    rows[-1].set_xlabel(named(PATH))
    style.ticks_at(rows[-1], temperature)
    style.legend(figure, rows[0])
    figure.align_ylabels()
    return figure
