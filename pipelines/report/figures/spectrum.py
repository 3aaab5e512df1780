"""Spectrum of the kernel of a pool and of its target, with the power laws through them."""

import itertools

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from xarray import DataTree

from pipelines.report import style
from pipelines.report.figures.cells import chosen, group, label, shown_of
from pipelines.report.figures.panel import Panel
from pipelines.text.rounding import uncertain

BINS = 60  # of the coefficients, evenly spaced in ln k
ROUNDING = 1e-12  # of the largest eigenvalue: smaller ones are zero


def panel(tree: DataTree) -> Panel | None:
    """Eigenvalues and squared coefficients against the rank of the mode, of one cell."""
    measured, laws = group(tree, "regression"), group(tree, "exponents")
    if measured is None or laws is None:
        return None
    cell = chosen(measured, 1)
    known = measured[["eigenvalue", "coefficient"]].isel(cell=cell)
    if bool(known["eigenvalue"].isnull().all()):
        return None
    names = [
        "spectral_exponent",
        "spectral_exponent_error",
        "amplitude",
        "offset",
        "target_exponent",
        "target_exponent_error",
    ]
    data = known.assign({name: laws[name].isel(cell=cell) for name in names})
    room = shown_of(1, measured.sizes["cell"], "cells")
    return Panel("spectrum", "Spectrum of the kernel", _caption(data), _draw, data, room=room)


def _draw(data: xr.Dataset) -> Figure:
    one = data.isel(cell=0)
    figure = style.figure(5.2)
    upper, lower = figure.subplots(2, 1, sharex=True)
    rank = one["mode"].values + 1.0
    values = one["eigenvalue"].values
    known = values > ROUNDING * values[0]
    upper.plot(rank[known], values[known], color=style.INK, label="eigenvalues")
    law = one.sel(law="power")
    falls = float(law["spectral_exponent"]) > 0  # as a law whose sum exists
    if falls:
        alpha = uncertain(float(law["spectral_exponent"]), float(law["spectral_exponent_error"]))
        window = (rank >= 2) & (rank <= len(rank) / 10)
        line = float(law["amplitude"]) * rank[window] ** -(1 + float(law["spectral_exponent"]))
        upper.plot(rank[window], line, color=style.ORANGE, ls="--", label=f"α = {alpha}")
    upper.set_ylabel("eigenvalue λ")
    power = one["coefficient"] ** 2
    power = power.mean([dim for dim in power.dims if dim != "mode"]).values  # over outputs
    centre, mean = _binned(rank[known], power[known])
    lower.plot(centre, mean, "o", ms=3.5, color=style.INK, label="squared coefficients")
    if falls and bool(law["target_exponent"].notnull()):
        beta = float(law["target_exponent"])
        window = (centre >= 3) & (centre <= len(rank) / 10)
        shape = centre[window] ** -(1 + beta)
        line = shape * np.exp(np.mean(np.log(mean[window] / shape)))
        name = f"β = {uncertain(beta, float(law['target_exponent_error']))}"
        lower.plot(centre[window], line, color=style.ORANGE, ls="--", label=name)
    lower.set_ylabel("w²")
    lower.set_xlabel("mode k")
    for axes in (upper, lower):
        _logarithmic(axes)
    return figure


def _binned(rank: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over bins of the rank."""
    edges = np.unique(np.geomspace(1, len(rank) + 1, BINS + 1).round().astype(int))
    parts = [slice(low - 1, high - 1) for low, high in itertools.pairwise(edges)]
    centre = np.array([np.exp(np.log(rank[part]).mean()) for part in parts])
    mean = np.array([power[part].mean() for part in parts])
    return centre[mean > 0], mean[mean > 0]


def _logarithmic(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.legend()
    style.grid(axes)


def _caption(data: xr.Dataset) -> str:
    where = f" at {name}" if (name := label(data, 0)) else ""
    text = (
        f"Eigenvalues of the kernel over the pool{where}, as far as they stand out of rounding, "
        "and the squared coefficients of the target in means over bins."
    )
    if not bool((data["spectral_exponent"].sel(law="power") > 0).all()):
        return f"{text} No power law that can be summed goes through them."
    return (
        f"{text} Dashed: the laws k to minus 1 + α and 1 + β of the population "
        "behind the pool, fitted up to a twentieth and a tenth of the modes, errors by the "
        "jackknife over bins; beyond that the pool bends its own spectrum."
    )
